"""What the user said, as events: from the answer where the model writes it first, else by listening once more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from vivavoce.inference.reply import Delta, Transcript
from vivavoce.serving.realtime.items import Item
from vivavoce.serving.realtime.outbox import Outbox
from vivavoce.serving.realtime.talk import done
from vivavoce.serving.refusals import Refusal, as_refusal
from vivavoce.serving.service import Service

WAIT_S = 0.3  # for a response that brings the transcript with it

_EVENT = "conversation.item.input_audio_transcription"
_UNCLEAR = Refusal(400, "what was said was not understood.", "audio_unintelligible")


class Transcripts:
    """Sends transcripts of recordings, each once.

    Args:
        service: The model.
        outbox: Where events go.
    """

    def __init__(self, service: Service, outbox: Outbox) -> None:
        self._service, self._outbox = service, outbox
        self._expected: dict[str, Item] = {}
        self._answering: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def expect(self, item: Item) -> None:
        """A recording whose transcript is wanted."""
        self._expected[item.id] = item
        self._start(item, WAIT_S if self._service.engine.transcript_first else 0.0)

    def forget(self, item: Item) -> None:
        """A recording is gone."""
        self._expected.pop(item.id, None)

    def begin(self, item: Item) -> None:
        """An item is being answered."""
        self._answering.add(item.id)

    def take(self, item: Item, delta: Delta) -> None:
        """A delta of the answer to an item."""
        content = item.content[0]
        if content.part is None or item.id not in self._answering:
            return
        if delta.transcript:
            content.text = (content.text or "") + delta.transcript
            if item.id in self._expected:
                self._send("delta", item, delta=delta.transcript)
        if not delta.understood:
            self._answering.discard(item.id)
            self._fail(item, _UNCLEAR)
        elif content.text and (delta.text or delta.audio is not None or delta.finish is not None):
            self._answering.discard(item.id)
            self._complete(item, content.text)

    def settle(self, item: Item) -> None:
        """The answer has ended; what it did not bring is listened for."""
        if item.id in self._answering:
            self._answering.discard(item.id)
            if item.id in self._expected:
                self._start(item, 0.0)

    def close(self) -> None:
        """Nobody wants them any more."""
        for task in self._tasks:
            task.cancel()

    def _start(self, item: Item, wait_s: float) -> None:
        task = asyncio.create_task(self._listen(item, wait_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, item: Item, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        brings = self._service.engine.transcript_first and item.id in self._answering
        if item.id not in self._expected or brings:
            return

        def heard(found: Transcript) -> None:
            if not found.understood:
                self._fail(item, _UNCLEAR)
            elif item.id in self._expected:
                self._send("delta", item, delta=found.text)
                self._complete(item, found.text)

        try:
            await done(self._service.worker, lambda: self._transcript(item), heard)
        except Exception as error:  # noqa: BLE001  (told to the client; what is unexpected is logged)
            self._fail(item, as_refusal(error))

    def _transcript(self, item: Item) -> Iterator[Transcript]:
        yield self._service.engine.assistant.transcribe(item.content[0].part)

    def _complete(self, item: Item, text: str) -> None:
        content = item.content[0]
        assert content.part is not None
        content.text = content.part["transcript"] = text.strip()
        if self._expected.pop(item.id, None) is not None:
            seconds = len(content.part["audio"]) / content.part["sampling_rate"]
            self._send(
                "completed", item, transcript=content.text, usage={"type": "duration", "seconds": seconds}
            )

    def _fail(self, item: Item, refusal: Refusal) -> None:
        if self._expected.pop(item.id, None) is not None:
            error = {"type": "transcription_error", "code": refusal.code, "message": str(refusal.detail)}
            self._send("failed", item, error={**error, "param": None})

    def _send(self, kind: str, item: Item, **fields: object) -> None:
        self._outbox.send(f"{_EVENT}.{kind}", item_id=item.id, content_index=0, **fields)
