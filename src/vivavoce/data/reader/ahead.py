"""Work done ahead of who needs it: in order, by threads or processes, and never more than a set amount."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Room:
    """How much may be under way: a count of jobs and their sizes together; one job always fits."""

    def __init__(self, most_jobs: int, most_size: float) -> None:
        self._most_jobs, self._most_size = most_jobs, most_size
        self._jobs, self._size, self._closed = 0, 0.0, False
        self._changed = threading.Condition()

    def take(self, size: float) -> bool:
        """Wait until a job fits; False once closed."""
        with self._changed:
            while (
                not self._closed
                and self._jobs
                and (self._jobs >= self._most_jobs or self._size + size > self._most_size)
            ):
                self._changed.wait()
            self._jobs += 1
            self._size += size
            return not self._closed

    def give(self, size: float) -> None:
        with self._changed:
            self._jobs -= 1
            self._size -= size
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Ahead(Generic[Job, Result]):
    """Results of jobs in the order of the jobs, computed ahead.

    A thread takes jobs from ``jobs`` one after another and starts them in ``pool``; iteration gives each job with the
    future of its result, which is ready. What the jobs' iterator raises comes after the results before it.

    Args:
        jobs: Taken from in another thread.
        start: Starts a job.
        size: Of a job, in any unit.
        pool: Shut down at the end.
        most_jobs: Most jobs under way or waiting to be fetched.
        most_size: Most of their sizes together; a larger job goes alone.
    """

    def __init__(
        self,
        jobs: Iterator[Job],
        start: Callable[[Executor, Job], Future[Result] | None],
        size: Callable[[Job], float],
        pool: Executor,
        most_jobs: int,
        most_size: float,
    ) -> None:
        self._jobs, self._start, self._size, self._pool = jobs, start, size, pool
        self._room = _Room(most_jobs, most_size)
        self._ready: SimpleQueue[tuple[Job, Future[Result] | None] | None] = SimpleQueue()
        self._fed: Future[None] = Future()
        # a daemon, so that a reader that nobody closed cannot keep the program from ending
        self._feeder = threading.Thread(target=self._feed, name="vivavoce-reader", daemon=True)

    def __iter__(self) -> Generator[tuple[Job, Future[Result] | None], None, None]:
        self._feeder.start()
        try:
            while (found := self._ready.get()) is not None:
                job, future = found
                if future is not None:
                    future.exception()  # waits; the caller looks at the result
                self._room.give(self._size(job))
                yield job, future
            self._fed.result()
        finally:
            self._room.close()
            self._feeder.join()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _feed(self) -> None:
        try:
            for job in self._jobs:
                if not self._room.take(self._size(job)):
                    break
                self._ready.put((job, self._start(self._pool, job)))
            self._fed.set_result(None)
        except BaseException as error:  # noqa: BLE001  (handed on to the thread that iterates)
            self._fed.set_exception(error)
        finally:
            self._ready.put(None)
