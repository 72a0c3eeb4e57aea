"""Threads that work on requests, one each: the others wait in a bounded queue, deltas go back to the event loop.

The model is not theirs: what they ask of it at one moment goes through it together (``inference.batching``). A request
whose caller has left stops at its next delta, and its thread takes the next one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal

_END = object()


class Job:
    """Work for a thread, seen from the event loop as an asynchronous iterator of what it makes.

    Args:
        make: Makes the iterator; called in a thread of the worker.
        loop: Where results go.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], loop: asyncio.AbstractEventLoop) -> None:
        self.make, self._loop = make, loop
        self.queued_at = time.monotonic()
        self.cancelled = threading.Event()
        self._results: asyncio.Queue[Any] = asyncio.Queue()
        self._done = False

    def cancel(self) -> None:
        """Nobody wants the rest: it stops at the next delta, or is left out."""
        self.cancelled.set()

    def give(self, result: Any) -> None:
        """Hand a result over from a thread; nothing happens once the loop is gone."""
        try:
            self._loop.call_soon_threadsafe(self._results.put_nowait, result)
        except RuntimeError:  # the event loop is closed
            self.cancel()

    async def next(self) -> Any:
        """The next result.

        Raises:
            StopAsyncIteration: There is no more.
            Exception: What the work raised.
        """
        if self._done:
            raise StopAsyncIteration
        result = await self._results.get()
        if result is _END:
            self._done = True
            raise StopAsyncIteration
        if isinstance(result, BaseException):
            self._done = True
            raise result
        return result

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await self.next()


class Worker:
    """The threads and their queue.

    Args:
        limits: Threads, length of the queue, longest wait, longest work.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._change = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"vivavoce-slot-{i}", daemon=True)
            for i in range(limits.slots)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Cancel everything and wait for the threads."""
        with self._change:
            self._stopping = True
            left, self._waiting = list(self._waiting), deque()
            for job in (*left, *self._running):
                job.cancel()
            self._change.notify_all()
        for job in left:
            job.give(Refusal(503, "the server is stopping.", "stopping", retry_s=5))
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    @property
    def queued(self) -> int:
        """Jobs that wait and are still wanted."""
        with self._change:
            return sum(not job.cancelled.is_set() for job in self._waiting)

    @property
    def working(self) -> int:
        """Jobs that are worked on: 0 to ``limits.slots``."""
        return len(self._running)

    def submit(self, make: Callable[[], Iterator[Any]]) -> Job:
        """Queue work; to be called in the event loop.

        Raises:
            Refusal: 503, the queue is full or the server stops.
        """
        job = Job(make, asyncio.get_running_loop())
        with self._change:
            if self._stopping:
                raise Refusal(503, "the server is stopping.", "stopping", retry_s=5)
            self._waiting = deque(j for j in self._waiting if not j.cancelled.is_set())
            if len(self._running) + len(self._waiting) - self._limits.slots >= self._limits.max_queue:
                raise Refusal(
                    503, f"{len(self._waiting)} requests wait already; try again.", "overloaded", retry_s=2
                )
            self._waiting.append(job)
            self._change.notify()
        return job

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._stopping:
                    self._change.wait()
                if self._stopping:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
            try:
                self._work(job)
            finally:
                with self._change:
                    self._running.discard(job)
                del job  # what it holds is to be free while the thread waits

    def _work(self, job: Job) -> None:
        began = time.monotonic()
        waited = began - job.queued_at
        if job.cancelled.is_set():
            return
        if waited > self._limits.max_wait_s:
            job.give(
                Refusal(503, f"the model was busy for {waited:.0f} s; try again.", "overloaded", retry_s=5)
            )
            return
        results: Iterator[Any] | None = None
        try:
            results = job.make()
            for result in results:
                if job.cancelled.is_set():
                    return
                job.give(result)
                if time.monotonic() - began > self._limits.max_work_s:
                    limit = self._limits.max_work_s
                    job.give(Refusal(503, f"the answer took more than {limit:g} s; ask for less.", "timeout"))
                    return
            job.give(_END)
        except Exception as error:  # noqa: BLE001  (goes to whoever waits for the job)
            job.give(error)
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                close()
