"""The input buffer: samples as they come, recordings as they begin and end."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Protocol

import numpy as np

from vivavoce.serving.limits import Limits
from vivavoce.serving.realtime.ears import Ears, Heard, Silent, Started, Stopped
from vivavoce.serving.realtime.formats import RATES, decoded
from vivavoce.serving.realtime.items import Content, Item
from vivavoce.serving.realtime.outbox import Fault, new_id
from vivavoce.serving.realtime.settings import AudioIn

LEAST_MS = 100  # of a recording
AT_ONCE = 1 << 16  # characters of base64 that the event loop decodes itself


class Recording:
    """What the user says in one turn.

    Args:
        format: How it comes.

    Attributes:
        item_id: Of the item it will be.
        pieces: float32 [S] each.
        num_samples: Of all.
    """

    def __init__(self, format: str) -> None:
        self.item_id, self.format, self.rate = new_id("item"), format, RATES[format]
        self.pieces: list[np.ndarray] = []
        self.num_samples = 0

    def push(self, samples: np.ndarray) -> None:
        self.pieces.append(samples)
        self.num_samples += len(samples)

    def item(self) -> Item:
        """The recording as an item."""
        part = {"type": "audio", "audio": np.concatenate(self.pieces), "sampling_rate": self.rate}
        return Item(self.item_id, "user", [Content("input_audio", None, part, self.format)])


class Listener(Protocol):
    """Is told what happens."""

    def speech_started(self, item_id: str, at_ms: int) -> None: ...

    def speech_stopped(self, item_id: str, at_ms: int) -> None: ...

    def timed_out(self, item_id: str, begin_ms: int, end_ms: int) -> None: ...

    def grew(self) -> None: ...

    def committed(self, recording: Recording, automatic: bool) -> None: ...


class Hearing:
    """Samples in, recordings out: by the server's ears, or by the client's word.

    Args:
        settings: Format and turn detection.
        limits: Longest recording.
        threads: Where the ears listen.
        listener: Is told what happens.

    Attributes:
        recording: Under way; None while nobody speaks.
    """

    def __init__(self, settings: AudioIn, limits: Limits, threads: Executor, listener: Listener) -> None:
        self._limits, self._threads, self._listener = limits, threads, listener
        self.recording: Recording | None = None
        self._num_sent = 0
        self._set(settings)

    def _set(self, settings: AudioIn) -> None:
        self._settings = settings
        detection, rate = settings.turn_detection, RATES[settings.format.type]
        self._ears = None if detection is None else Ears(rate, detection, self._num_sent)

    def change(self, settings: AudioIn) -> None:
        """Take new settings.

        Raises:
            Fault: They do not fit a recording that is under way.
        """
        old = self._settings
        if settings.format == old.format and settings.turn_detection == old.turn_detection:
            self._settings = settings
            return
        field = "format" if settings.format != old.format else "turn_detection"
        to_ears = settings.turn_detection is not None and self._ears is None
        if self.recording is not None and (field == "format" or to_ears):
            raise Fault(
                f"session.audio.input.{field} cannot change in a recording; commit or clear the buffer first.",
                "invalid_value",
                f"session.audio.input.{field}",
            )
        if field == "turn_detection" and self._ears is not None and settings.turn_detection is not None:
            self._ears.change(settings.turn_detection)
            self._settings = settings
            return
        if settings.format != old.format:
            self._num_sent = self._num_sent * RATES[settings.format.type] // RATES[old.format.type]
        if self._ears is not None and self.recording is not None:
            self._keep(self._ears.end_turn())
        self._set(settings)

    async def append(self, data: str) -> None:
        """Take base64 audio.

        Raises:
            Fault: Not audio, or more than a recording may have.
        """
        form, loop = self._settings.format.type, asyncio.get_running_loop()
        if len(data) <= AT_ONCE:
            samples = decoded(data, form, "audio")
        else:
            samples = await loop.run_in_executor(self._threads, decoded, data, form, "audio")
        if self._ears is None:
            self._keep(samples)
            self._num_sent += len(samples)
            return
        self._num_sent += len(samples)
        for heard in await loop.run_in_executor(self._threads, self._ears.push, samples):
            self._happened(heard)

    def _happened(self, heard: Heard) -> None:
        form, rate = self._settings.format.type, RATES[self._settings.format.type]
        if isinstance(heard, Started):
            self.recording = Recording(form)
            self._listener.speech_started(self.recording.item_id, 1000 * heard.at // rate)
        elif isinstance(heard, Silent):
            recording = Recording(form)
            recording.push(heard.samples)
            self._listener.timed_out(recording.item_id, 1000 * heard.begin // rate, 1000 * heard.end // rate)
            self._listener.committed(recording, automatic=True)
        elif isinstance(heard, Stopped):
            self._stop(heard.at)
        elif self.recording is not None:
            self.recording.push(heard)
            if self.recording.num_samples >= self._limits.max_audio_s * rate:
                assert self._ears is not None
                self._ears.end_turn()
                self._stop(self._ears.position)
            else:
                self._listener.grew()

    def _stop(self, at: int) -> None:
        recording, self.recording = self.recording, None
        if recording is not None:
            self._listener.speech_stopped(recording.item_id, 1000 * at // recording.rate)
            self._listener.committed(recording, automatic=True)

    def _keep(self, samples: np.ndarray) -> None:
        form = self._settings.format.type
        recording = self.recording or Recording(form)
        if recording.num_samples + len(samples) > self._limits.max_audio_s * recording.rate:
            raise Fault(
                f"the input buffer holds {self._limits.max_audio_s:g} s at most; commit or clear it.",
                "input_audio_buffer_full",
                "audio",
            )
        if len(samples):
            recording.push(samples)
            self.recording = recording
            self._listener.grew()

    def commit(self) -> None:
        """End the recording on the client's word.

        Raises:
            Fault: There is none, or it is too short.
        """
        if self._ears is not None and self.recording is not None:
            self._keep(self._ears.end_turn())
        recording = self.recording
        ms = 0 if recording is None else 1000 * recording.num_samples // recording.rate
        if recording is None or ms < LEAST_MS:
            raise Fault(
                f"the input buffer has {ms} ms of audio; wanted {LEAST_MS} ms or more.",
                "input_audio_buffer_commit_empty",
            )
        self.recording = None
        self._listener.committed(recording, automatic=False)

    def clear(self) -> None:
        """Forget the recording."""
        self.recording = None
        if self._ears is not None:
            self._ears.end_turn()

    def quiet_after(self, seconds: float) -> None:
        """An answer of so many seconds has begun to play: silence counts from its end."""
        if self._ears is not None and self.recording is None:
            self._ears.silent_from = self._ears.position + round(seconds * self._ears.rate)
