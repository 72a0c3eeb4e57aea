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

    voices = ("low",)
    hears, speaks, chats, clips_first, sample_rate = True, True, True, False, RATE

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str | None, str | None]] = []
        self.asked: list[tuple[list[dict[str, Any]], bool, str | None, dict[str, Any]]] = []
        self.error: BaseException | None = None
        self.sessions: list[StandInSession] = []

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
                    seconds = (
                        len(part["audio"]) / part["sampling_rate"]
                        if "sampling_rate" in part
                        else self._seconds(part["audio"])
                    )
                    yield Delta(transcript=f"{seconds:.1f} ")
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

    def check_can_answer(self, audio: bool = False, voice: str | None = None) -> None:
        if voice not in (None, "low"):
            raise ConfigError(f"unknown voice {voice!r}. this model has: low.")

    @staticmethod
    def _seconds(source: Any) -> float:
        waveform, rate = read_audio(source)
        return waveform.size / rate


class StandInSession:
    """The calls of a session that the command line uses; recordings are kept as arrays."""

    def __init__(self, assistant: StandIn, *, messages: Any = (), **options: Any) -> None:
        self._assistant, self._begin, self._options = assistant, list(messages), options
        self.interrupted: list[float | None] = []
        assistant.sessions.append(self)
        self.reset()

    def reset(self) -> None:
        self.messages, self._parts, self.answering = list(self._begin), [], False

    def feed_text(self, text: str) -> None:
        self._parts.append(text)

    def feed_audio(self, chunk: np.ndarray, sample_rate: int) -> None:
        assert chunk.ndim == 1
        last = self._parts[-1] if self._parts else None
        if isinstance(last, dict):
            last["audio"] = np.concatenate([last["audio"], chunk])
        else:
            self._parts.append({"type": "audio", "audio": chunk, "sampling_rate": sample_rate})

    def forget_input(self) -> None:
        self._parts = []

    def respond(self, audio: bool = False, voice: str | None = None) -> Iterator[Delta]:
        content = self._parts[0] if isinstance(self._parts[0], str) else self._parts
        self._parts, self._text, self.answering = [], "", True
        self.messages.append({"role": "user", "content": content})
        return self._respond(audio, voice)

    def _respond(self, audio: bool, voice: str | None) -> Iterator[Delta]:
        try:
            for delta in self._assistant.stream(self.messages, audio, voice, **self._options):
                self._text += delta.text
                yield delta
        except Exception:
            self.messages.pop()
            self.answering = False
            raise
        self._end()

    def interrupt(self, played_s: float | None = None) -> str:
        self.interrupted.append(played_s)
        if self.answering:
            self._end()
        return self._text

    def _end(self) -> None:
        self.answering = False
        self.messages.append({"role": "assistant", "content": self._text})
