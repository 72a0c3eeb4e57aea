"""``/v1/realtime``: who may connect, how many, for how long, and what is counted about it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from vivavoce.serving.access import Access
from vivavoce.serving.realtime.client_events import parsed
from vivavoce.serving.realtime.connection import Connection
from vivavoce.serving.realtime.outbox import Fault, Outbox, error_of, new_id
from vivavoce.serving.realtime.pace import Pace
from vivavoce.serving.refusals import Refusal, error_body
from vivavoce.serving.service import Service

log = logging.getLogger("vivavoce.serving")

SUBPROTOCOL = "realtime"
KEY_SUBPROTOCOL = "openai-insecure-api-key."
HEARING_THREADS = 2
CLOSE = {"going away": 1001, "policy": 1008, "try again": 1013}
LARGE = 1 << 18  # characters of a message that is read outside the event loop

router = APIRouter()


class Realtime:
    """All connections of a server.

    Args:
        service: The model.
        access: Keys and what callers used.
        origins: Pages of other addresses that may connect.

    Attributes:
        connections: Open ones.
    """

    def __init__(self, service: Service, access: Access, origins: Sequence[str] = ()) -> None:
        self.service, self._access, self._origins = service, access, frozenset(origins)
        self.connections: dict[str, Connection] = {}
        self._callers: Counter[str] = Counter()
        self._hearing = ThreadPoolExecutor(HEARING_THREADS, "vivavoce-hearing")
        self._stopping = asyncio.Event()
        service.metrics.realtime_connections = lambda: len(self.connections)

    async def drain(self, seconds: float) -> None:
        """Take no new connections; those that are open end when their response has, or after so many seconds."""
        self._stopping.set()
        end = time.monotonic() + seconds
        while self.connections and time.monotonic() < end:
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Give the threads back."""
        self._hearing.shutdown(wait=False, cancel_futures=True)

    def admit(self, socket: HTTPConnection) -> str:
        """Who calls.

        Raises:
            Refusal: Whoever may not.
        """
        limits, query = self.service.limits, socket.query_params
        caller = self._access.caller(_authorization(socket), (socket.client or ("unknown",))[0])
        origin = socket.headers.get("origin")
        if origin is not None and not self._may_call(origin, socket.headers.get("host", "")):
            raise Refusal(
                403, f"pages of {origin[:200]!r} may not connect; see --cors-origin.", "forbidden_origin"
            )
        for name in ("intent", "call_id"):
            if name in query:
                raise Refusal(400, f"{name} is not supported here; leave it out.", "unsupported_value", name)
        if "model" in query:
            self.service.check_model(query["model"])
        if not self.service.engine.chats:
            raise Refusal(
                400, f"{self.service.engine.name} reads text aloud and does not chat.", "no_chat", "model"
            )
        if self._stopping.is_set():
            raise Refusal(503, "the server is stopping.", "stopping", retry_s=5)
        if self._callers.total() >= limits.max_realtime:
            raise Refusal(
                503, f"{limits.max_realtime} connections are open, the most allowed.", "overloaded", retry_s=5
            )
        if self._callers[caller] >= limits.max_realtime_per_caller:
            raise Refusal(
                429,
                f"{self._callers[caller]} connections of this caller are open, the most allowed.",
                "concurrency_limit_exceeded",
                retry_s=5,
            )
        return caller

    @contextmanager
    def counted(self, caller: str) -> Iterator[None]:
        """Count a connection as long as the block."""
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    def _spend(self, caller: str) -> list[dict[str, Any]]:
        self._access.spend(caller)
        most = self.service.limits.requests_per_minute
        if not most:
            return []
        left, seconds = self._access.left(caller)
        return [{"name": "requests", "limit": most, "remaining": left, "reset_seconds": round(seconds, 3)}]

    def _may_call(self, origin: str, host: str) -> bool:
        return "*" in self._origins or origin in self._origins or urlsplit(origin).netloc == host

    async def serve(self, socket: WebSocket, caller: str) -> None:
        """Talk with one client until either leaves."""
        began, limits = time.monotonic(), self.service.limits
        outbox = Outbox(socket, limits.send_idle_s)
        connection = Connection(self.service, outbox, self._hearing, lambda: self._spend(caller))
        self.connections[connection.id] = connection
        sending = asyncio.create_task(outbox.run())
        visit = _Visit(self.service, socket, connection, outbox, self._stopping)
        reading = asyncio.create_task(visit.read(began))
        try:
            await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
            why = reading.result() if reading.done() else outbox.broken
        finally:
            reading.cancel()
            await connection.close()
            await outbox.flushed(1.0)
            sending.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)
            del self.connections[connection.id]
        if why != "left" and not outbox.broken:
            await _close(socket, CLOSE.get(visit.closing, 1001), why)
        fields = {
            "session": connection.id, "caller": caller, "why": why, "ms": round(1000 * (time.monotonic() - began), 1),
            "events_in": visit.num_events, "bytes_in": visit.num_bytes, "events_out": outbox.num_events,
            "responses": connection.num_responses,
        }  # fmt: skip
        log.info("realtime", extra={"fields": fields})


class _Visit:
    """Reads what one client sends, no faster than it may."""

    def __init__(
        self,
        service: Service,
        socket: WebSocket,
        connection: Connection,
        outbox: Outbox,
        stopping: asyncio.Event,
    ) -> None:
        self._service, self._socket, self._connection, self._outbox = service, socket, connection, outbox
        self._stopping = stopping
        self._pace = Pace(service.limits.max_events_per_s)
        self._faults = 0
        self.num_events = self.num_bytes = 0
        self.closing = "going away"

    async def read(self, began: float) -> str:
        """Take events until there is a reason to end; returns it."""
        limits = self._service.limits
        stopping = asyncio.create_task(self._stop())
        receiving: asyncio.Task[dict[str, Any]] | None = None
        heard = time.monotonic()
        try:
            while True:
                receiving = receiving or asyncio.create_task(self._socket.receive())  # type: ignore[arg-type]
                now = time.monotonic()
                if self._connection.busy:
                    heard = now
                left, quiet = began + limits.max_session_s - now, heard + limits.realtime_idle_s - now
                if left <= 0:
                    return self._end(f"a session lasts {limits.max_session_s:g} s at most", "session_expired")
                if quiet <= 0:
                    return self._end(f"nothing was sent for {limits.realtime_idle_s:g} s", "idle_timeout")
                done, _ = await asyncio.wait(
                    {receiving, stopping}, timeout=min(left, quiet), return_when=asyncio.FIRST_COMPLETED
                )
                if stopping in done:
                    return self._end("the server is stopping", "stopping")
                if receiving not in done:
                    continue
                message, receiving, heard = receiving.result(), None, time.monotonic()
                if message["type"] == "websocket.disconnect":
                    return "left"
                await self._take(message)
                if self._faults > limits.max_faults:
                    self.closing = "policy"
                    return self._end(
                        f"more than {limits.max_faults} faulty events in a row", "too_many_errors"
                    )
        finally:
            for task in (stopping, receiving):
                if task is not None:
                    task.cancel()

    async def _stop(self) -> None:
        await self._stopping.wait()
        while self._connection.busy:
            await asyncio.sleep(0.02)

    async def _take(self, message: dict[str, Any]) -> None:
        await self._pace.wait()
        text, limits = message.get("text"), self._service.limits
        self.num_events += 1
        try:
            if text is None:
                raise Fault("a binary message; events are JSON texts, with audio in base64.", "invalid_json")
            self.num_bytes += len(text)
            if len(text) > limits.max_event_bytes:
                raise Fault(f"the event is larger than {limits.max_event_bytes} bytes.", "event_too_large")
            given = parsed(text) if len(text) < LARGE else await asyncio.to_thread(parsed, text)
        except Fault as fault:
            self._outbox.send("error", error=error_of(fault))
            self._faults += 1
            return
        self._faults = 0 if await self._connection.take(given) else self._faults + 1

    def _end(self, says: str, code: str) -> str:
        self._outbox.send("error", error=error_of(Fault(f"{says}; connect again.", code)))
        return code


@router.websocket("/v1/realtime")
async def realtime(socket: WebSocket) -> None:
    """Talk with the model."""
    shared: Realtime = socket.app.state.realtime
    metrics = shared.service.metrics
    try:
        caller = shared.admit(socket)
    except Refusal as refusal:
        metrics.rejected.add("realtime")
        metrics.requests.add("/v1/realtime", str(refusal.status_code))
        fields = {"request_id": new_id("req"), "route": "/v1/realtime", "status": refusal.status_code}
        log.info("request", extra={"fields": fields})
        body = error_body(refusal.status_code, refusal.detail, refusal.code, refusal.param)
        headers = dict(refusal.headers or {})
        await socket.send_denial_response(JSONResponse(body, refusal.status_code, headers=headers))
        return
    metrics.requests.add("/v1/realtime", "101")
    offered = [name.strip() for name in socket.scope.get("subprotocols", ())]
    with shared.counted(caller):
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        await shared.serve(socket, caller)


@router.get("/v1/realtime", include_in_schema=False)
async def why_refused(request: Request) -> None:
    """Say why a socket would be refused: browsers show their pages nothing of a refused handshake."""
    request.app.state.realtime.admit(request)
    raise Refusal(426, "this address is a WebSocket; connect with one.", "upgrade_required")


def _authorization(socket: HTTPConnection) -> str:
    """The header, or what browsers can send instead."""
    given = socket.headers.get("authorization")
    if given is not None:
        return given
    for name in socket.scope.get("subprotocols", ()):
        if name.startswith(KEY_SUBPROTOCOL):
            return f"Bearer {name.removeprefix(KEY_SUBPROTOCOL)}"
    return ""


async def _close(socket: WebSocket, code: int, why: str) -> None:
    try:
        await socket.close(code, why[:100])
    except (RuntimeError, WebSocketDisconnect, OSError):
        log.info("gone before the close", extra={"fields": {"why": why}})
