"""The web page at ``/``: talk with the model in a browser. A handful of files, read once, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

FOLDER = Path(__file__).parent
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept by the browser, and asked for again by its ETag
}


def is_page(path: str) -> bool:
    """Whether an address is the page's or would be one of its files; these need no key."""
    return path == "/" or path.startswith("/page/")


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files under ``/page/``.

    Files are found now, so no address in a request is ever opened.
    """
    router = APIRouter(include_in_schema=False)
    for file in sorted(FOLDER.iterdir()):
        if file.suffix in TYPES:
            address = "/" if file.name == "index.html" else f"/page/{file.name}"
            router.add_api_route(address, _sender(file), methods=["GET", "HEAD"])
    app.include_router(router)


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content, media_type = file.read_bytes(), TYPES[file.suffix]
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}

    async def send(request: Request) -> Response:
        asked = request.headers.get("if-none-match", "").split(",")
        if tag in (known.strip().removeprefix("W/") for known in asked):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return send
