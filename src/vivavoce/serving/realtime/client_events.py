"""What clients send: one shape for each event."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from vivavoce.serving.realtime.outbox import Fault
from vivavoce.serving.realtime.settings import Format, Part, checked

LONGEST_ID = 128


class ClientEvent(Part):
    """What all have."""

    type: str
    event_id: str | None = None


class SessionUpdate(ClientEvent):
    session: dict[str, Any]


class Append(ClientEvent):
    audio: str


class Plain(ClientEvent):
    """Events that say nothing more."""


class ContentIn(Part):
    type: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio", "text", "audio"]
    text: str | None = None
    audio: str | None = None
    transcript: str | None = None
    detail: str | None = None
    image_url: str | None = None


class ItemIn(Part):
    type: str = "message"
    id: str | None = Field(None, min_length=1, max_length=LONGEST_ID)
    object: str | None = None
    status: str | None = None
    role: Literal["system", "user", "assistant"] | None = None
    content: list[ContentIn] = Field(default=[])


class ItemCreate(ClientEvent):
    item: dict[str, Any]
    previous_item_id: str | None = None


class ItemNamed(ClientEvent):
    """Retrieve and delete."""

    item_id: str


class Truncate(ClientEvent):
    item_id: str
    content_index: int = Field(ge=0)
    audio_end_ms: int = Field(ge=0)


class OutputIn(Part):
    format: Format | None = None
    voice: str | dict[str, str] | None = None


class ResponseAudioIn(Part):
    output: OutputIn | None = None


class ResponseIn(Part):
    """What one response has of its own."""

    conversation: str | None = None
    input: list[dict[str, Any]] | None = None
    instructions: str | None = None
    output_modalities: list[Literal["text", "audio"]] | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    audio: ResponseAudioIn | None = None
    metadata: dict[str, str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


class ResponseCreate(ClientEvent):
    response: ResponseIn | None = None


class ResponseCancel(ClientEvent):
    response_id: str | None = None


EVENTS: dict[str, type[ClientEvent]] = {
    "session.update": SessionUpdate,
    "input_audio_buffer.append": Append,
    "input_audio_buffer.commit": Plain,
    "input_audio_buffer.clear": Plain,
    "conversation.item.create": ItemCreate,
    "conversation.item.retrieve": ItemNamed,
    "conversation.item.truncate": Truncate,
    "conversation.item.delete": ItemNamed,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
    "output_audio_buffer.clear": Plain,
}


def parsed(text: str) -> Any:
    """The JSON of a message.

    Raises:
        Fault: It is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Fault("the message is not JSON.", "invalid_json") from None


def read_event(given: Any) -> ClientEvent:
    """The event a message holds.

    Raises:
        Fault: Unknown, or of another shape.
    """
    kind = given.get("type") if isinstance(given, dict) else None
    if not isinstance(kind, str):
        raise Fault("an event is an object with a type.", "missing_required_parameter", "type")
    if kind not in EVENTS:
        raise Fault(
            f"unknown event {kind[:64]!r}; wanted one of {', '.join(EVENTS)}.", "unknown_event", "type"
        )
    return checked(EVENTS[kind], given, "")
