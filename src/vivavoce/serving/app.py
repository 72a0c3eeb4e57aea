"""The app: routes, life span, and the gate around all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

import vivavoce
from vivavoce.serving import chat, refusals, speech, transcription
from vivavoce.serving.access import Access
from vivavoce.serving.engine import Engine
from vivavoce.serving.gate import Gate
from vivavoce.serving.limits import Limits
from vivavoce.serving.page import add_page
from vivavoce.serving.realtime import route
from vivavoce.serving.service import Service, service_of

router = APIRouter()


class Server:
    """An ASGI app that serves one model.

    Args:
        engine: The model.
        keys: API keys; without any, everyone may call.
        limits: What is refused.
        origins: Web pages of other addresses that may call; none by default.
        ffmpeg: Let uploads in other containers go through the ffmpeg program.
        page: Serve the web page at ``/``.
        access: Instead of ``keys``.
        url_hosts: Hosts whose files may be named in ``audio_url``; none by default.

    Attributes:
        service: What the routes share.
        access: Keys and what callers used.
        realtime: Connections that talk.
    """

    def __init__(
        self,
        engine: Engine,
        keys: Sequence[str] = (),
        limits: Limits | None = None,
        origins: Sequence[str] = (),
        ffmpeg: bool = False,
        page: bool = True,
        access: Access | None = None,
        url_hosts: Sequence[str] = (),
    ) -> None:
        limits = limits or Limits()
        self.access = access or Access(keys, limits)
        self.service = Service(engine, limits, ffmpeg, url_hosts)
        app = FastAPI(
            title="Viva Voce", version=vivavoce.__version__, lifespan=_life, docs_url=None, redoc_url=None
        )
        app.state.service = self.service
        self.realtime = app.state.realtime = route.Realtime(self.service, self.access, origins)
        for part in (router, chat.router, transcription.router, speech.router, route.router):
            app.include_router(part)
        if page:
            add_page(app)
        refusals.install(app)
        self._app: ASGIApp = Gate(app, self.access, limits, self.service.metrics)
        if origins:  # outside the gate: a browser asks before it may send the key
            self._app = CORSMiddleware(
                self._app, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"]
            )

    async def drain(self) -> None:
        """Let conversations end after the answer that is being given."""
        await self.realtime.drain(self.service.limits.drain_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    await app.state.service.start()
    try:
        yield
    finally:
        app.state.realtime.close()
        await app.state.service.stop()


@router.get("/healthz")
async def health() -> Response:
    """Say that the server is there."""
    return JSONResponse({"status": "ok"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Numbers for Prometheus."""
    text = service_of(request).metrics.text()
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the one model."""
    return JSONResponse({"object": "list", "data": [_card(service_of(request))]})


@router.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> Response:
    """Tell about the model."""
    service = service_of(request)
    service.check_model(name)
    return JSONResponse(_card(service))


def _card(service: Service) -> dict[str, Any]:
    engine = service.engine
    return {
        "id": engine.name,
        "object": "model",
        "created": service.created,
        "owned_by": "vivavoce",
        "hears": engine.hears,
        "speaks": engine.speaks,
        "chats": engine.chats,
        "transcribes": engine.transcribes,
        "voices": list(engine.voices),
        "sample_rate": engine.speaking_hz if engine.speaks else None,
    }
