"""What the routes share, and waiting for the model while the caller is still there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from vivavoce.serving.decoding import Decoder
from vivavoce.serving.engine import Engine
from vivavoce.serving.fetching import Fetcher
from vivavoce.serving.limits import Limits
from vivavoce.serving.messages import MessageReader, SpokenAnswers
from vivavoce.serving.metrics import Metrics
from vivavoce.serving.refusals import Refusal, as_refusal, error_body
from vivavoce.serving.worker import Job, Worker

T = TypeVar("T")


class Service:
    """The model with its worker, its decoder, numbers and memory.

    Args:
        engine: The model.
        limits: What is refused.
        ffmpeg: See ``Decoder``.
        url_hosts: See ``Fetcher``.
    """

    def __init__(
        self, engine: Engine, limits: Limits, ffmpeg: bool = False, url_hosts: Sequence[str] = ()
    ) -> None:
        self.engine, self.limits = engine, limits
        self.worker = Worker(limits)
        self.metrics = Metrics(lambda: self.worker.queued, lambda: self.worker.working)
        self.metrics.open_sequences = lambda: engine.open_sequences
        self.spoken = SpokenAnswers()
        self.created = int(time.time())
        self.decoder: Decoder | None = None
        if engine.hears:
            self.decoder = Decoder(engine.hearing_hz, engine.resampler, limits, ffmpeg)
        fetcher = Fetcher(url_hosts, limits)
        self.messages = MessageReader(self.decoder, engine.takes_tools, self.spoken, fetcher, limits)

    async def start(self) -> None:
        self.engine.start()
        self.worker.start()
        if self.decoder is not None:
            await self.decoder.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self.worker.stop)
        await asyncio.to_thread(self.engine.stop)
        if self.decoder is not None:
            await self.decoder.close()

    def check_model(self, name: str) -> None:
        """Refuse requests for another model.

        Raises:
            Refusal: 404.
        """
        if name != self.engine.name:
            raise Refusal(
                404, f"no model {name!r} here; there is {self.engine.name!r}.", "model_not_found", "model"
            )


def service_of(request: Request) -> Service:
    """The service of the app that a request came to."""
    found: Service = request.app.state.service
    return found


async def while_connected(request: Request, job: Job, wanted: Awaitable[T]) -> T:
    """Wait for something of a job; if the caller leaves first, the job is cancelled.

    Raises:
        Refusal: 499, the caller left.
    """
    waiting = asyncio.ensure_future(wanted)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        job.cancel()
        service_of(request).metrics.disconnected.add()
        raise Refusal(499, "the caller left.", "disconnected")
    finally:
        if not waiting.done() or waiting.cancelled() or waiting.exception() is not None:
            job.cancel()
        for task in (waiting, leaving):
            task.cancel()


async def collected(request: Request, make: Callable[[], Iterator[Any]]) -> list[Any]:
    """Everything that some work makes."""
    job = service_of(request).worker.submit(make)

    async def all_of_it() -> list[Any]:
        return [result async for result in job]

    return await while_connected(request, job, all_of_it())


class Results:
    """Results of some work as they come; the first is there already, so that errors before it have a status.

    To be closed in every case, which ``Streamed`` does: work that nobody wants is cancelled then.
    """

    def __init__(self, request: Request, job: Job, first: Any) -> None:
        self._request, self._job, self._first = request, job, first
        self._ended = False

    @classmethod
    async def of(cls, request: Request, make: Callable[[], Iterator[Any]]) -> Results:
        """Queue work and wait for its first result.

        Raises:
            Refusal: Whatever kept it from starting.
        """
        job = service_of(request).worker.submit(make)
        first = await while_connected(request, job, job.next())
        return cls(request, job, first)

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield self._first
        async for result in self._job:
            yield result
        self._ended = True

    def close(self) -> None:
        """Cancel what is left; may be called again."""
        if not self._ended:
            self._ended = True
            self._job.cancel()
            service_of(self._request).metrics.disconnected.add()

    async def events(self, rows: Callable[[Any], Iterator[Any]], last: str = "") -> AsyncIterator[bytes]:
        """Server-sent events.

        Args:
            rows: Makes the JSON of the events of a result.
            last: A line after the end.
        """
        try:
            async for result in self:
                for row in rows(result):
                    yield f"data: {json.dumps(row)}\n\n".encode()
            if last:
                yield f"data: {last}\n\n".encode()
        except Exception as error:  # noqa: BLE001  (the status is sent already; the caller gets an event)
            self._ended = True
            self._job.cancel()
            refusal = as_refusal(error, self._request.scope.get("request_id", ""))
            body = error_body(refusal.status_code, refusal.detail, refusal.code)
            yield f"data: {json.dumps(body)}\n\n".encode()


class Streamed(StreamingResponse):
    """A response made of results, which closes them however it ends.

    What makes its bytes cannot: a caller who leaves before the first of them leaves it without a start, and Python
    runs no ``finally`` of an iterator that never began.

    Args:
        results: Closed at the end.
        content: Bytes made of them.
        media_type: Of the bytes.
        headers: More of them.
    """

    def __init__(
        self,
        results: Results,
        content: AsyncIterator[bytes],
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, headers=headers, media_type=media_type)
        self._results = results

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._results.close()
