"""What the user said, as events: from the answer where the model writes it first, else by listening once more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from vivavoce.inference.reply import Delta, Transcript
from vivavoce.serving.realtime.items import Item
from vivavoce.serving.realtime.outbox import Outbox
from vivavoce.serving.realtime.talk import results
from vivavoce.serving.refusals import Refusal, as_refusal
from vivavoce.serving.service import Service

WAIT_S = 0.3  # for a response that brings the transcript with it


class Transcripts:
    """Sends transcripts of recordings, each once.

    Args:
        service: The model.
        outbox: Where events go.
    """

    def __init__(self, service: Service, outbox: Outbox) -> None:
        self._service, self._outbox = service, outbox
        self._expected: dict[str, Item] = {}
        self._begun: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def expect(self, item: Item) -> None:
        """A recording whose transcript is wanted."""
        self._expected[item.id] = item
        task = asyncio.create_task(self._later(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def take(self, item: Item, delta: Delta, asked: bool) -> None:
        """A delta of the answer to a recording."""
        if not item.content or item.content[0].part is None or not asked:
            return
        content = item.content[0]
        if delta.transcript:
            content.text = (content.text or "") + delta.transcript
            if item.id in self._expected:
                self._begun.add(item.id)
                self._outbox.send(
                    "conversation.item.input_audio_transcription.delta",
                    item_id=item.id, content_index=0, delta=delta.transcript,
                )  # fmt: skip
        if not delta.understood:
            self._failed(item, Refusal(400, "what was said was not understood.", "audio_unintelligible"))
        elif content.text and (delta.text or delta.audio is not None or delta.finish is not None):
            assert content.part is not None
            content.text = content.text.strip()
            content.part["transcript"] = content.text
            self._completed(item)

    def settle(self, item: Item) -> None:
        """The answer has ended; what it did not bring is listened for."""

    async def _later(self, item: Item) -> None:
        await asyncio.sleep(WAIT_S)
        if item.id not in self._expected or item.id in self._begun:
            return
        try:
            async for heard in results(self._service.worker.submit(lambda: self._listen(item))):
                if item.id in self._expected:
                    self._heard(item, heard)
        except Exception as error:  # noqa: BLE001  (told to the client; what is unexpected is logged)
            self._failed(item, as_refusal(error))

    def _listen(self, item: Item) -> Iterator[Transcript]:
        part = item.content[0].part
        assert part is not None
        yield self._service.engine.assistant.transcribe(part)

    def _heard(self, item: Item, heard: Transcript) -> None:
        if not heard.understood:
            self._failed(item, Refusal(400, "what was said was not understood.", "audio_unintelligible"))
            return
        content = item.content[0]
        assert content.part is not None
        content.text = content.part["transcript"] = heard.text
        self._outbox.send(
            "conversation.item.input_audio_transcription.delta",
            item_id=item.id, content_index=0, delta=heard.text,
        )  # fmt: skip
        self._completed(item)

    def _completed(self, item: Item) -> None:
        if self._expected.pop(item.id, None) is None:
            return
        self._begun.discard(item.id)
        part = item.content[0].part
        assert part is not None
        self._outbox.send(
            "conversation.item.input_audio_transcription.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.content[0].text,
            usage={"type": "duration", "seconds": len(part["audio"]) / part["sampling_rate"]},
        )

    def _failed(self, item: Item, refusal: Refusal) -> None:
        if self._expected.pop(item.id, None) is None:
            return
        self._begun.discard(item.id)
        error = {
            "type": "transcription_error",
            "code": refusal.code,
            "message": str(refusal.detail),
            "param": None,
        }
        self._outbox.send(
            "conversation.item.input_audio_transcription.failed",
            item_id=item.id,
            content_index=0,
            error=error,
        )

    def close(self) -> None:
        """Nobody wants them any more."""
        for task in self._tasks:
            task.cancel()
