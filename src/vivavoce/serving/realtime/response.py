"""One response: from the model's deltas to events, whatever ends it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from vivavoce.inference.finish import Finish
from vivavoce.inference.played import GivenOut
from vivavoce.inference.reply import Delta
from vivavoce.serving.realtime.formats import Voice
from vivavoce.serving.realtime.items import Content, Item, Items
from vivavoce.serving.realtime.outbox import Outbox, new_id
from vivavoce.serving.realtime.settings import Settings
from vivavoce.serving.refusals import Refusal


@dataclass
class Plan:
    """What a response is to be.

    Attributes:
        settings: Of the session, with the response's own over them.
        question: The item it answers; None for a context of its own.
        context: Messages of its own.
        in_conversation: Whether the answer becomes an item.
        metadata: Of the client.
        began: When the user had ended, on the monotonic clock.
    """

    settings: Settings
    question: Item | None
    context: list[dict[str, Any]] | None = None
    in_conversation: bool = True
    metadata: dict[str, str] | None = None
    began: float = field(default_factory=time.monotonic)


class Response:
    """Events of one response.

    Args:
        plan: What it is to be.
        outbox: Where events go.
        items: The conversation.
        conversation_id: Its name.
        speaking_hz: Rate of the model's samples, Hz.

    Attributes:
        stop: Set once nobody wants more.
        status: Of the response.
        ended: Whether ``response.done`` is sent.
        ttft_s, first_audio_s: Since the user had ended; None before.
    """

    def __init__(
        self, plan: Plan, outbox: Outbox, items: Items, conversation_id: str, speaking_hz: int
    ) -> None:
        self.plan, self._outbox, self._items = plan, outbox, items
        self.id, self._conversation_id = new_id("resp"), conversation_id
        self.item = Item(new_id("item"), "assistant", status="in_progress", given=GivenOut())
        self._spoken = plan.settings.speaks
        self._voice = Voice(plan.settings.audio.output.format.type, speaking_hz) if self._spoken else None
        self._content = Content("output_audio" if self._spoken else "output_text", "")
        self._space = ""
        self._opened = False
        self.status: str = "in_progress"
        self._details: dict[str, Any] | None = None
        self._finish: Finish | None = None
        self.stop = threading.Event()
        self.ended = False
        self.ttft_s: float | None = None
        self.first_audio_s: float | None = None
        outbox.send("response.created", response=self._fields())

    @property
    def num_tokens(self) -> int:
        """Read and written, 0 before the end."""
        made = self._finish
        if made is None:
            return 0
        return made.prompt_text_tokens + made.prompt_audio_tokens + made.text_tokens + made.audio_tokens

    @property
    def seconds(self) -> float:
        """Of speech that was sent."""
        return self._voice.num_samples / self._voice.rate if self._voice else 0.0

    # as it goes

    def take(self, delta: Delta) -> None:
        """Send what a delta brings."""
        if self.ended:
            return
        assert self.item.given is not None
        self.item.given.add(delta)
        if delta.text or (delta.audio is not None and len(delta.audio)):
            self._open()
        if text := self._grown(delta.text):
            self.ttft_s = self.ttft_s or time.monotonic() - self.plan.began
            self._send_text(text)
        if delta.audio is not None and self._voice is not None:
            self._send_audio(self._voice.push(delta.audio))
        self._finish = delta.finish or self._finish

    def complete(self) -> None:
        """End it: the model is done."""
        if self.ended:
            return
        self._open()
        if self._finish is not None and self._finish.reason == "length":
            self._end("incomplete", "incomplete", {"reason": "max_output_tokens"})
        else:
            self._end("completed", "completed")

    def cancel(self, reason: str) -> None:
        """End it here; what was given out stays until the client says how much of it was played."""
        self.stop.set()
        if not self.ended:
            self.item.revision += 1  # the model's session may hold more
            self._end("cancelled", "incomplete", {"reason": reason})

    def fail(self, refusal: Refusal) -> None:
        """End it: something went wrong."""
        self.stop.set()
        if not self.ended:
            self.item.revision += 1
            kind = "server_error" if refusal.status_code >= 500 else "invalid_request_error"
            error = {"type": kind, "code": refusal.code, "message": str(refusal.detail)}
            self._end("failed", "incomplete", {"error": error})

    # events

    def _end(self, status: str, item_status: Any, details: dict[str, Any] | None = None) -> None:
        if self._opened:
            if self._voice is not None:
                self._send_audio(self._voice.close())
            self._close(item_status)
        self.status, self.ended = status, True
        self._details = None if details is None else {"type": status, **details}
        self._outbox.send("response.done", response=self._fields())

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        self._event("response.output_item.added", item=self.item.fields())
        if self.plan.in_conversation:
            before = self._items.add(self.item)
            self._outbox.send("conversation.item.added", item=self.item.fields(), previous_item_id=before)
        self.item.content.append(self._content)
        self._content_event("response.content_part.added", part=self._part())

    def _close(self, item_status: Any) -> None:
        text = self._content.text or ""
        if self._spoken:
            self._content_event("response.output_audio.done")
            self._content_event("response.output_audio_transcript.done", transcript=text)
        else:
            self._content_event("response.output_text.done", text=text)
        self._content_event("response.content_part.done", part=self._part())
        self.item.status = item_status
        if self.plan.in_conversation:
            before = self._items.before(self.item)
            self._outbox.send("conversation.item.done", item=self.item.fields(), previous_item_id=before)
        self._event("response.output_item.done", item=self.item.fields())

    def _send_text(self, text: str) -> None:
        kind = "output_audio_transcript" if self._spoken else "output_text"
        self._content_event(f"response.{kind}.delta", delta=text)

    def _send_audio(self, data: str) -> None:
        if data:
            self.first_audio_s = self.first_audio_s or time.monotonic() - self.plan.began
            self._content_event("response.output_audio.delta", delta=data)

    def _grown(self, piece: str) -> str:
        """New text; space at the end waits for what follows, so that the pieces join to the text without it."""
        text = self._space + piece
        text = text if self._content.text else text.lstrip()
        kept = text.rstrip()
        self._space = text[len(kept) :]
        self._content.text = (self._content.text or "") + kept
        return kept

    def _part(self) -> dict[str, Any]:
        text = self._content.text or ""
        return {"type": "audio", "transcript": text} if self._spoken else {"type": "text", "text": text}

    def _event(self, kind: str, **fields: Any) -> None:
        self._outbox.send(kind, response_id=self.id, output_index=0, **fields)

    def _content_event(self, kind: str, **fields: Any) -> None:
        self._event(kind, item_id=self.item.id, content_index=0, **fields)

    def _fields(self) -> dict[str, Any]:
        settings = self.plan.settings
        output = settings.audio.output
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self._details,
            "output": [self.item.fields()] if self._opened else [],
            "conversation_id": self._conversation_id if self.plan.in_conversation else None,
            "output_modalities": settings.output_modalities,
            "max_output_tokens": settings.max_output_tokens,
            "audio": {"output": {"format": output.format.fields(), "voice": settings.voice}},
            "usage": self._usage() if self.ended else None,
            "metadata": self.plan.metadata,
        }

    def _usage(self) -> dict[str, Any] | None:
        made = self._finish
        if made is None:
            return None
        read = made.prompt_text_tokens + made.prompt_audio_tokens
        written = made.text_tokens + made.audio_tokens
        return {
            "total_tokens": read + written,
            "input_tokens": read,
            "output_tokens": written,
            "input_token_details": {
                "text_tokens": made.prompt_text_tokens, "audio_tokens": made.prompt_audio_tokens,
                "image_tokens": 0, "cached_tokens": 0,
            },
            "output_token_details": {"text_tokens": made.text_tokens, "audio_tokens": made.audio_tokens},
        }  # fmt: skip
