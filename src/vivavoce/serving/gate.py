"""What every request passes: an id, the key, the caller's limits, the size of the body, numbers and a log line."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.serving.access import Access
from vivavoce.serving.limits import Limits
from vivavoce.serving.metrics import Metrics
from vivavoce.serving.page import is_page
from vivavoce.serving.refusals import Refusal, as_refusal, error_body

log = logging.getLogger("vivavoce.serving")

ROUTES = (
    "/v1/models", "/v1/chat/completions", "/v1/audio/transcriptions", "/v1/audio/translations",
    "/v1/audio/speech", "/healthz", "/metrics", "/openapi.json", "/docs", "/",
)  # fmt: skip
WITHOUT_KEY = ("/healthz", "/")
UNCOUNTED = ("/", "/healthz", "/metrics", "/v1/models", "/openapi.json", "/docs")  # no limits for these


class Gate:
    """ASGI middleware around the whole app.

    Args:
        app: What is behind it.
        access: Keys and limits of callers.
        limits: Size and pace of bodies.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, metrics: Metrics) -> None:
        self.app, self.access, self.limits, self.metrics = app, access, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, request_id = time.monotonic(), f"req_{secrets.token_hex(12)}"
        scope["request_id"], scope["began"] = request_id, began
        route = scope["path"] if scope["path"] in ROUTES else "other"
        if is_page(scope["path"]):
            route = "/"  # the page and its files count as one
        status, caller, entered = 0, "", False
        body = _Body(receive, self.limits)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if not body.complete:  # what is left of the body would be read as the next request
                    message["headers"].append((b"connection", b"close"))
            try:
                await asyncio.wait_for(send(message), self.limits.send_idle_s)
            except TimeoutError:
                raise _SlowReaderError from None

        self.metrics.open_requests += 1
        try:
            headers = dict(scope["headers"])
            address = (scope.get("client") or ("unknown",))[0]
            if route not in WITHOUT_KEY:
                caller = self.access.caller(headers.get(b"authorization", b"").decode("latin-1"), address)
                if self.access.from_front:
                    request_id = headers.get(b"x-request-id", b"").decode("latin-1") or request_id
                    scope["request_id"] = request_id
            scope["caller"] = caller
            body.check_claim(headers.get(b"content-length"), b"transfer-encoding" in headers)
            if route not in UNCOUNTED and route != "other":
                self.access.enter(caller)
                entered = True
            await self.app(scope, body.receive, answer)
        except Refusal as refusal:  # raised here; those of the app are answered inside it
            response = JSONResponse(
                error_body(refusal.status_code, refusal.detail, refusal.code, refusal.param),
                refusal.status_code,
                headers=dict(refusal.headers or {}),
            )
            await response(scope, receive, answer)
        except _SlowReaderError:
            log.info("slow reader", extra={"fields": {"request_id": request_id}})
        except Exception as error:
            if not status:
                raise
            # Answered with a 500 or cut in the middle; the server's own log would show what the caller sent.
            as_refusal(error, request_id)
        finally:
            if entered:
                self.access.leave(caller)
            self.metrics.open_requests -= 1
            seconds = time.monotonic() - began
            self.metrics.requests.add(route, str(status))
            if status in (413, 429, 503):
                self.metrics.rejected.add({413: "size", 429: "caller", 503: "overload"}[status])
            if route not in UNCOUNTED:
                self.metrics.seconds.add(seconds)
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "bytes_in": body.num_bytes,
                "caller": caller,
            }
            watched = route == "/healthz" and status == 200  # asked every few seconds by whoever watches us
            if not watched and (not self.access.from_front or status == 401):
                log.info("request", extra={"fields": fields})


class _SlowReaderError(Exception):
    """The caller does not read what it asked for."""


class _Body:
    """Counts and times the body of a request as it is read."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self.num_bytes, self.complete = 0, False

    def check_claim(self, length: bytes | None, chunked: bool) -> None:
        """Refuse by the header, before anything is read.

        Raises:
            Refusal: 413.
        """
        if length is not None and length.isdigit() and int(length) > self._limits.max_upload_bytes:
            raise self._too_large()
        self.complete = length in (None, b"0") and not chunked

    async def receive(self) -> Message:
        if self.complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.upload_idle_s)
        except TimeoutError:
            raise Refusal(408, "the body did not arrive; send it again.", "upload_timeout") from None
        if message["type"] == "http.request":
            self.num_bytes += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.num_bytes > self._limits.max_upload_bytes:
                raise self._too_large()
        return message

    def _too_large(self) -> Refusal:
        self.complete = False
        limit = self._limits.max_upload_bytes
        return Refusal(413, f"the request is larger than {limit} bytes.", "request_too_large")


class JsonLines(logging.Formatter):
    """A log line as one JSON object: time, level, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        return json.dumps({**row, **getattr(record, "fields", {})})
