"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}`` and a status."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from vivavoce.base.errors import VivavoceError

log = logging.getLogger("vivavoce.serving")

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(HTTPException):
    """A request that is not served.

    Args:
        status: HTTP status.
        message: What was seen, what was wanted, the next step.
        code: A word for programs.
        param: The field that is at fault.
        retry_s: When to try again, seconds.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None, retry_s: int = 0
    ) -> None:
        headers = {"Retry-After": str(retry_s)} if retry_s else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status_code=status, detail=message, headers=headers or None)
        self.code, self.param = code, param


def error_body(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The JSON of an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def as_refusal(error: BaseException, request_id: str = "") -> Refusal:
    """Turn what went wrong into a refusal; what we did not expect is logged, without its message.

    The message of an unexpected error may hold what the caller sent, so only its type and place are logged.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, VivavoceError):
        return Refusal(400, str(error), "invalid_request")
    places = [
        f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)
    ]
    log.error(
        "unexpected",
        extra={"fields": {"request_id": request_id, "error": type(error).__name__, "at": places[-6:]}},
    )
    return Refusal(
        500, f"a fault of the server, not of the request; report id {request_id}.", "internal_error"
    )


def install(app: FastAPI) -> None:
    """Make the app answer all errors in this shape."""

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        messages = {
            404: f"no such address: {request.url.path}.",
            405: f"{request.method} is not for this address.",
        }
        refusal = error if isinstance(error, Refusal) else None
        message = refusal.detail if refusal else messages.get(error.status_code, str(error.detail))
        code, param = (refusal.code, refusal.param) if refusal else (None, None)
        body = error_body(error.status_code, message, code, param)
        return JSONResponse(body, error.status_code, headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        lines = [f"{_place(e['loc'])}: {e['msg']}" for e in found[:5]]
        message = "the request cannot be read: " + "; ".join(lines) + "."
        return JSONResponse(error_body(400, message, "invalid_request", _place(found[0]["loc"])), 400)

    @app.exception_handler(VivavoceError)
    async def known(request: Request, error: VivavoceError) -> JSONResponse:
        return await refused(request, as_refusal(error))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        # The gate logs it: this handler's framework raises the error again.
        refusal = Refusal(
            500,
            f"a fault of the server, not of the request; report id {request.scope.get('request_id', '')}.",
            "internal_error",
        )
        return JSONResponse(
            error_body(refusal.status_code, refusal.detail, refusal.code), refusal.status_code
        )


def _place(where: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in where[1:]) or "body"
