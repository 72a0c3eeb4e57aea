"""One thread that owns the model: requests wait in a bounded queue, deltas go back to the event loop.

One request is worked on at a time. A request whose caller has left stops at its next delta.
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
    """Work for the thread, seen from the event loop as an asynchronous iterator of what it makes.

    Args:
        make: Makes the iterator; called in the thread.
        loop: Where results go.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], loop: asyncio.AbstractEventLoop) -> None:
        self.make, self._loop = make, loop
        self.queued_at = time.monotonic()
        self.cancelled = threading.Event()
        self._results: asyncio.Queue[Any] = asyncio.Queue()
        self._done = False

    def cancel(self) -> None:
        """Nobody wants the rest: the thread stops at the next delta, or leaves the job out."""
        self.cancelled.set()

    def give(self, result: Any) -> None:
        """Hand a result over from the thread; nothing happens once the loop is gone."""
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
    """The thread and its queue.

    Args:
        limits: Length of the queue, longest wait, longest work.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[Job] = deque()
        self._change = threading.Condition()
        self._current: Job | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="vivavoce-model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Cancel everything and wait for the thread."""
        with self._change:
            self._stopping = True
            for job in (*self._waiting, *([self._current] if self._current else [])):
                job.cancel()
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def queued(self) -> int:
        """Jobs that wait and are still wanted."""
        with self._change:
            return sum(not job.cancelled.is_set() for job in self._waiting)

    @property
    def working(self) -> int:
        """Jobs in the thread: 0 or 1."""
        return int(self._current is not None)

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
            busy = self._current is not None or bool(self._waiting)
            if busy and len(self._waiting) >= self._limits.max_queue:
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
                    left, self._waiting = list(self._waiting), deque()
                    break
                self._current = self._waiting.popleft()
            self._work(self._current)
            with self._change:
                self._current = None
        for job in left:
            job.give(Refusal(503, "the server is stopping.", "stopping", retry_s=5))

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
