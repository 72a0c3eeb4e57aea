"""The one address: keys, limits and log lines as one server has them, then on to the least busy replica."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from fastapi.middleware.cors import CORSMiddleware
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from vivavoce.serving.access import Access
from vivavoce.serving.gate import Gate
from vivavoce.serving.metrics import Metrics
from vivavoce.serving.refusals import Refusal, error_body
from vivavoce.serving.replicas.child import authorization
from vivavoce.serving.replicas.processes import Replica, Replicas
from vivavoce.serving.replicas.sockets import key_of_browsers, pass_on, refuse
from vivavoce.serving.replicas.totals import summed

# counted here, where refused requests are counted too
OWN = (
    "vivavoce_requests_total", "vivavoce_rejected_total", "vivavoce_request_seconds", "vivavoce_open_requests",
)  # fmt: skip
# of one connection and not of what it carries; ids and keys are ours
_LEFT_OUT = {
    b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"proxy-connection",
    b"proxy-authorization", b"proxy-authenticate", b"host", b"authorization", b"x-request-id", b"expect",
}  # fmt: skip
T = TypeVar("T")
_ANSWER_OF = re.compile(rb'"audio_r(\d+)_[0-9a-f]+"')


class Front:
    """An ASGI app in front of replicas.

    A request is read whole, so that another replica can answer it if its own dies before the first byte of an answer.
    A request that names an earlier spoken answer goes to the replica that gave it.

    Args:
        replicas: Started.
        access: Keys and what callers used.
        origins: Web pages of other addresses that may call.
    """

    def __init__(self, replicas: Replicas, access: Access, origins: Sequence[str] = ()) -> None:
        self.replicas, self.access = replicas, access
        self.limits = replicas.settings.limits
        self.metrics = Metrics(lambda: 0, lambda: 0)
        self._connected: Counter[str] = Counter()  # WebSockets of each caller
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=5.0),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )
        routes = [
            Route("/healthz", self._health),
            Route("/metrics", self._numbers),
            Mount("/", app=self._forward),
        ]
        app: ASGIApp = Starlette(routes=routes, lifespan=self._life)
        self._app: ASGIApp = Gate(app, access, self.limits, self.metrics)
        if origins:
            self._app = CORSMiddleware(
                self._app, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"]
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def drain(self) -> None:
        """End the replicas, each after the answers that it is giving; what they say last still goes through."""
        try:
            await self.replicas.stop()
        except asyncio.CancelledError:
            self.replicas.kill()
            raise

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        self.replicas.watch(self._client)
        try:
            yield
        finally:
            await self.replicas.stop()
            await self._client.aclose()

    async def _health(self, request: Any) -> Response:
        ready, count = sum(r.ready for r in self.replicas.all), len(self.replicas.all)
        words = {"status": "ok" if ready else "no replica is ready", "replicas": count, "ready": ready}
        return JSONResponse(words, 200 if ready else 503)

    async def _numbers(self, request: Any) -> Response:
        pages = await asyncio.gather(*(self._page(r) for r in self.replicas.all if r.ready))
        own = [line for line in self.metrics.text().splitlines() if any(name in line for name in OWN)]
        lines = ["# HELP vivavoce_replica_up Whether a replica serves.", "# TYPE vivavoce_replica_up gauge"]
        lines += [f'vivavoce_replica_up{{replica="{r.number}"}} {int(r.ready)}' for r in self.replicas.all]
        lines += ["# HELP vivavoce_replica_starts_total Times it was started."]
        lines += ["# TYPE vivavoce_replica_starts_total counter"]
        lines += [
            f'vivavoce_replica_starts_total{{replica="{r.number}"}} {r.starts}' for r in self.replicas.all
        ]
        text = summed(pages, OWN) + "\n".join([*own, *lines]) + "\n"
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _page(self, replica: Replica) -> str:
        headers = {"authorization": authorization(replica.secret, "front")}
        try:
            found = await self._client.get(f"http://{replica.address}/metrics", headers=headers, timeout=5)
        except httpx.HTTPError:
            return ""  # it is dying; whoever watches it will see
        return found.text if found.status_code == 200 else ""

    # requests

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        try:
            body = await _whole(receive)
            if body is None:
                return
            await self._answer(scope, body, receive, send)
        except Refusal as refusal:
            words = error_body(refusal.status_code, refusal.detail, refusal.code, refusal.param)
            response = JSONResponse(words, refusal.status_code, headers=dict(refusal.headers or {}))
            await response(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a WebSocket through that has a key and is not one too many."""
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"").decode("latin-1") or key_of_browsers(scope)
        try:
            caller = self.access.caller(given, (scope.get("client") or ("unknown",))[0])
            if self._connected[caller] >= self.limits.max_realtime_per_caller:
                what = f"{self._connected[caller]} connections of this caller are open, the most allowed."
                raise Refusal(429, what, "concurrency_limit_exceeded", retry_s=1)
        except Refusal as refusal:
            self.metrics.rejected.add({429: "caller"}.get(refusal.status_code, "key"))
            words = error_body(refusal.status_code, refusal.detail, refusal.code)
            await refuse(
                scope, send, refusal.status_code, bytes(JSONResponse(words).body), refusal.headers or {}
            )
            return
        scope["caller"] = caller
        self._connected[caller] += 1
        try:
            await pass_on(self.replicas, scope, receive, send)
        finally:
            self._connected -= Counter([caller])

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Ask a replica, and another one if it dies before it answers."""
        number, dead = _replica_of(body), None
        while True:
            replica = self.replicas.choose(number, but=dead)
            if replica is None:
                raise Refusal(503, "no replica is ready; try again.", "overloaded", retry_s=2)
            replica.open += 1
            try:
                answer = await until_gone(self._ask(replica, scope, body), receive)
                if answer is not None:
                    try:
                        await until_gone(_copy(answer, send), receive)
                    finally:
                        await answer.aclose()
                return
            except _NoAnswerError:
                if dead is not None or number is not None:
                    raise Refusal(502, "the replica died; ask again.", "replica_died", retry_s=1) from None
                dead = replica
            finally:
                replica.open -= 1

    async def _ask(self, replica: Replica, scope: Scope, body: bytes) -> httpx.Response:
        headers = [(k, v) for k, v in scope["headers"] if k not in _LEFT_OUT and k != b"content-length"]
        headers.append((b"authorization", authorization(replica.secret, scope.get("caller", "")).encode()))
        headers.append((b"x-request-id", scope["request_id"].encode()))
        path = scope.get("raw_path", scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        url = f"http://{replica.address}{path}" + (f"?{query}" if query else "")
        request = self._client.build_request(scope["method"], url, headers=headers, content=body)
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise _NoAnswerError from error


class _NoAnswerError(Exception):
    """The replica died before it said anything."""


async def until_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T | None:
    """Do something unless the caller leaves first; None then, and the work is cancelled."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _whole(receive: Receive) -> bytes | None:
    """The body of a request; None if the caller left while sending it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _copy(answer: httpx.Response, send: Send) -> None:
    headers = [(k.lower(), v) for k, v in answer.headers.raw if k.lower() not in _LEFT_OUT]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for piece in answer.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _replica_of(body: bytes) -> int | None:
    """The replica whose spoken answer a request names; the last of them, if of several."""
    found = _ANSWER_OF.findall(body)
    return int(found[-1]) if found else None
