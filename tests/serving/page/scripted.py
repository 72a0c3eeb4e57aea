"""A server with the real page and a Realtime socket that answers by script, for what a model would leave to chance."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Header, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response
from tests.serving.live import until

from vivavoce.serving.page import add_page
from vivavoce.serving.running import listen

RATE = 24000


@dataclass
class Script:
    """What the server is and does.

    Attributes:
        card: What ``/v1/models`` says.
        key: Wanted from callers, if not empty.
        refusal: Close code and reason for every socket, if any.
        pieces: Seconds of speech in each delta of an answer.
        pauses: Seconds before each of these.
        events: Everything that clients sent.
        heard: Samples that came, int16, in order.
    """

    card: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    refusal: tuple[int, str] | None = None
    pieces: tuple[float, ...] = (0.2,) * 5
    pauses: tuple[float, ...] = (0.01,) * 5
    events: list[dict[str, Any]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    url: str = ""

    def sent(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event["type"] == kind]


CARD = {
    "id": "script", "object": "model", "hears": True, "speaks": True, "chats": True, "transcribes": False,
    "voices": ["default", "second"], "sample_rate": RATE,
}  # fmt: skip


@contextmanager
def scripted(**settings: Any) -> Iterator[Script]:
    """Run the server as long as the block."""
    script = Script(**settings)
    script.card = {**CARD, **script.card}
    app = FastAPI()
    add_page(app)

    @app.get("/v1/models")
    async def models(authorization: str = Header("")) -> Response:
        if script.key and authorization != f"Bearer {script.key}":
            return JSONResponse({"error": {"message": "no API key", "code": "invalid_api_key"}}, 401)
        return JSONResponse({"object": "list", "data": [script.card]})

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        protocols = socket.headers.get("sec-websocket-protocol", "").split(", ")
        assert not script.key or f"openai-insecure-api-key.{script.key}" in protocols
        await socket.accept("realtime")
        if script.refusal:
            await socket.close(*script.refusal)
            return
        try:
            await Caller(script, socket).serve()
        except (WebSocketDisconnect, RuntimeError):
            return

    door = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", ws="websockets-sansio", ws_max_size=64 << 20
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    script.url = f"http://127.0.0.1:{door.getsockname()[1]}/"
    try:
        yield script
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


class Caller:
    """One connection: any question gets the same answer, a tone with a few words."""

    def __init__(self, script: Script, socket: WebSocket) -> None:
        self.script, self.socket = script, socket
        self.audio, self.count, self.question = True, 0, 0
        self.task: asyncio.Task[None] | None = None

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind, "event_id": "event_1", **fields})

    async def serve(self) -> None:
        await self.send("session.created", session={"type": "realtime", "id": "sess_1"})
        while True:
            event = await self.socket.receive_json()
            self.script.events.append(event)
            match event["type"]:
                case "session.update":
                    self.audio = event["session"]["output_modalities"] == ["audio"]
                    await self.send("session.updated", session=event["session"])
                case "input_audio_buffer.append":
                    self.script.heard += base64.b64decode(event["audio"])
                case "input_audio_buffer.commit":
                    self.question += 1
                    name = f"question_{self.question}"
                    await self.send("input_audio_buffer.committed", item_id=name, previous_item_id=None)
                    await self.send(
                        "conversation.item.input_audio_transcription.completed",
                        item_id=name, content_index=0, transcript="what is this", usage={},
                    )  # fmt: skip
                case "conversation.item.create":
                    await self.send("conversation.item.added", item=event["item"], previous_item_id=None)
                case "response.create":
                    self.task = asyncio.create_task(self.answer())
                case "conversation.item.truncate":
                    kept = {k: event[k] for k in ("item_id", "content_index", "audio_end_ms")}
                    await self.send("conversation.item.truncated", **kept)
                case "conversation.item.retrieve":
                    content = [{"type": "output_audio", "transcript": "this is"}]
                    item = {
                        "id": event["item_id"],
                        "type": "message",
                        "role": "assistant",
                        "content": content,
                    }
                    await self.send("conversation.item.retrieved", item=item)
                case "response.cancel":
                    if self.task:
                        self.task.cancel()

    async def answer(self) -> None:
        self.count += 1
        response, item = f"resp_{self.count}", f"item_{self.count}"
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        message = {"id": item, "type": "message", "role": "assistant", "content": []}
        status = "completed"
        await self.send("response.created", response={"id": response, "status": "in_progress", "output": []})
        await self.send("response.output_item.added", response_id=response, output_index=0, item=message)
        try:
            kind = "audio_transcript" if self.audio else "text"
            for word in ("this ", "is ", "a ", "tone"):
                await self.send(f"response.output_{kind}.delta", delta=word, **place)
            begun = 0
            for seconds, pause in zip(self.script.pieces, self.script.pauses, strict=True):
                await asyncio.sleep(pause)
                if self.audio:
                    await self.send("response.output_audio.delta", delta=tone(begun, seconds), **place)
                begun += round(seconds * RATE)
            if self.audio:
                await self.send("response.output_audio.done", **place)
        except asyncio.CancelledError:
            status = "cancelled"
        except (WebSocketDisconnect, RuntimeError):  # the page has gone
            return
        await self.send("response.done", response={"id": response, "status": status, "output": [message]})


def tone(begun: int, seconds: float) -> str:
    times = (begun + np.arange(round(seconds * RATE))) / RATE
    wave = 0.3 * np.sin(2 * np.pi * 330 * times)
    return base64.b64encode((wave * 32767).astype("<i2").tobytes()).decode()
