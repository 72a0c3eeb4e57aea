"""A stand-in for the assistant: hears the length of a recording, answers with what it was asked."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import ConfigError
from vivavoce.inference.collect import collect
from vivavoce.inference.reply import Delta, Reply, Transcript

RATE = 24_000


class StandIn:
    """The calls of an assistant that the command line uses.

    Attributes:
        loaded: (model, quantize, device) of each load.
        asked: (messages, audio, voice, options) of each question.
        error: Raised by the next answer instead of answering.
    """

    hears, speaks, chats, clips_first, sample_rate = True, True, True, False, RATE

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str | None, str | None]] = []
        self.asked: list[tuple[list[dict[str, Any]], bool, str | None, dict[str, Any]]] = []
        self.error: BaseException | None = None

    def stream(
        self, messages: Any, audio: bool = False, voice: str | None = None, **options: Any
    ) -> Iterator[Delta]:
        self.asked.append((copy.deepcopy(list(messages)), audio, voice, options))
        return self._answer(messages[-1]["content"], audio)

    def chat(self, messages: Any, audio: bool = False, **options: Any) -> Reply:
        return collect(self.stream(messages, audio=audio, **options), RATE if audio else None)

    def _answer(self, content: Any, audio: bool) -> Iterator[Delta]:
        if isinstance(content, list):
            for part in content:
                if part["type"] == "audio":
                    yield Delta(transcript=f"{self._seconds(part['audio']):.1f} ")
                    yield Delta(transcript="seconds")
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        yield Delta(text="you asked ")
        yield Delta(text=content if isinstance(content, str) else "aloud")
        if audio:
            yield Delta(audio=np.full(RATE // 2, 0.25, np.float32), sample_rate=RATE, word=("you", 0.0, 0.25))

    def transcribe(self, source: Any, **options: Any) -> Transcript:
        seconds = self._seconds(source)
        loud = float(np.abs(read_audio(source)[0]).max()) > 0
        return Transcript("a tone" if loud else "", loud, seconds, {"total_s": 0.1, "rtf": 0.1 / seconds})

    def say(self, text: str, voice: str | None = None, **options: Any) -> Reply:
        if voice not in (None, "low"):
            raise ConfigError(f"unknown voice {voice!r}. this model has: low.")
        self.asked.append(([{"role": "user", "content": text}], True, voice, options))
        pieces = [Delta(audio=np.full(RATE, 0.25, np.float32), sample_rate=RATE, word=("you", 0.0, 0.5))]
        return collect(pieces, RATE)

    @staticmethod
    def _seconds(source: Any) -> float:
        waveform, rate = read_audio(source)
        return waveform.size / rate
