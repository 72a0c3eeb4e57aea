"""A client for tests: OpenAI's own connection, each event held against OpenAI's own types."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import openai
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter
from tests.serving.live import Live, Permits

from vivavoce.inference.reply import Delta
from vivavoce.inference.session import Session
from vivavoce.serving.encoding import pcm16
from vivavoce.serving.engine import Engine

HERTZ = 24000
_EVENT = TypeAdapter(RealtimeServerEvent)
_OF_SESSIONS = {"id", "object", "expires_at"}  # the client's type of the event is that of the request


class Talk:
    """A connection and what came over it.

    Attributes:
        events: All so far.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def next(self, seconds: float = 20.0) -> dict[str, Any]:
        data = await asyncio.wait_for(self.connection.recv_bytes(), seconds)
        event: dict[str, Any] = json.loads(data)
        check(data, event)
        assert event["event_id"] not in {known["event_id"] for known in self.events}
        self.events.append(event)
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            event = await self.next()
            if event["type"] == kind:
                return event
            assert event["type"] != "error", event

    async def error(self) -> dict[str, Any]:
        """The next event, which is an error."""
        event = await self.next()
        assert event["type"] == "error", event
        found: dict[str, Any] = event["error"]
        return found

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send({"type": kind, **fields})

    async def update(self, **session: Any) -> dict[str, Any]:
        await self.connection.session.update(session={"type": "realtime", **session})
        event = await self.until("session.updated")
        found: dict[str, Any] = event["session"]
        return found

    async def listen(self, detection: Any, **session: Any) -> None:
        """Set how turns are found."""
        given = {"turn_detection": detection, "transcription": {"model": "nano"}}
        await self.update(audio={"input": given}, **session)

    async def ask(self, text: str) -> None:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        await self.connection.conversation.item.create(item=item)
        await self.until("conversation.item.done")

    async def say(self, samples: np.ndarray, piece: int = 2400) -> None:
        """Send float32 [S] at 24 kHz."""
        for begin in range(0, len(samples), piece):
            data = base64.b64encode(pcm16(samples[begin : begin + piece])).decode()
            await self.connection.input_audio_buffer.append(audio=data)

    async def answer(self) -> dict[str, Any]:
        """Let the server answer; returns the response at its end."""
        await self.connection.response.create()
        return await self.done()

    async def done(self) -> dict[str, Any]:
        event = await self.until("response.done")
        found: dict[str, Any] = event["response"]
        return found

    def joined(self, kind: str, name: str = "delta") -> str:
        return "".join(event[name] for event in self.events if event["type"] == kind)

    def audio(self) -> bytes:
        kind = "response.output_audio.delta"
        return b"".join(base64.b64decode(e["delta"]) for e in self.events if e["type"] == kind)

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


@asynccontextmanager
async def talk(live: Live, model: str = "nano", key: str | None = None) -> AsyncIterator[Talk]:
    """Connect with OpenAI's client."""
    client = openai.AsyncOpenAI(base_url=f"{live.root}/v1", api_key=key or live.key, max_retries=0)
    async with client.realtime.connect(model=model) as connection:
        found = Talk(connection)
        first = await found.next()
        assert first["type"] == "session.created"
        yield found
    await client.close()


def check(data: bytes, event: dict[str, Any]) -> None:
    """Hold an event against the types: no field missing, of another type, or unknown."""
    parsed = _EVENT.validate_json(data, strict=True)
    assert parsed.type == event["type"], "another event fits better"
    _no_extra(parsed, event["type"])


def _no_extra(part: Any, at: str) -> None:
    if isinstance(part, list):
        for i, inner in enumerate(part):
            _no_extra(inner, f"{at}[{i}]")
    if not isinstance(part, BaseModel):
        return
    allowed = _OF_SESSIONS if at in ("session.created.session", "session.updated.session") else set()
    assert set(part.model_extra or {}) <= allowed, f"{at} has unknown {part.model_extra}"
    for name in type(part).model_fields:
        _no_extra(getattr(part, name), f"{at}.{name}")


class Gated(Engine):
    """A model whose sessions say one delta per permit.

    Attributes:
        permits: One per delta.
        sessions: Made so far.
    """

    def __init__(self, assistant: Any, name: str = "nano") -> None:
        super().__init__(assistant, name)
        self.permits = Permits()
        self.num_sessions = 0
        self.fault: Exception | None = None

    def let(self, deltas: int) -> None:
        self.permits.let(deltas)

    def session(self) -> Session:
        self.num_sessions += 1
        return _Gated(self)


class _Gated(Session):
    def __init__(self, engine: Gated) -> None:
        super().__init__(engine.assistant)
        self._engine = engine

    def respond(self, audio: bool = False, voice: str | None = None, **options: Any) -> Iterator[Delta]:
        return self._slowly(super().respond(audio, voice, **options))

    def _slowly(self, deltas: Iterator[Delta]) -> Iterator[Delta]:
        for delta in deltas:
            self._engine.permits.take()
            if self._engine.fault is not None:
                raise self._engine.fault
            yield delta
