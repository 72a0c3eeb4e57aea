"""Models of this project as services for making data, given to pipelines by name.

Shapes: ``tts(model, voice).say(text, seed) -> (float32 [S], Hz)``; ``asr(model).transcribe(waveform, Hz) -> str``;
``llm(model).answer(list of message lists, max_new_tokens) -> list of texts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from vivavoce.base.errors import ModelError
from vivavoce.inference.assistant import Assistant, load


@lru_cache(maxsize=4)
def _loaded(model: str) -> Assistant:
    return load(model)


class Speaker:
    """A model of this project that reads texts aloud."""

    def __init__(self, model: str, voice: str | None = None) -> None:
        self.assistant, self.voice = _loaded(model), voice

    def say(self, text: str, seed: int = 0) -> tuple[np.ndarray, int]:
        """Speak a text; the same samples for the same seed."""
        reply = self.assistant.say(text, voice=self.voice, seed=seed)
        if reply.audio is None or reply.sample_rate is None:
            raise ModelError(f"{self.assistant.name} said nothing for {text!r}.")
        return reply.audio, reply.sample_rate


class Recogniser:
    """A model of this project that writes down what is said."""

    def __init__(self, model: str) -> None:
        self.assistant = _loaded(model)

    def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
        """Transcribe a mono waveform, float32 [S]."""
        return self.assistant.transcribe((waveform, sample_rate)).text


class Writer:
    """A model of this project that answers in text."""

    def __init__(self, model: str) -> None:
        self.assistant = _loaded(model)

    def answer(self, conversations: Sequence[Sequence[Mapping[str, Any]]], max_new_tokens: int) -> list[str]:
        """Answer each conversation, greedily."""
        return [
            self.assistant.chat(list(messages), temperature=0.0, max_new_tokens=max_new_tokens).text
            for messages in conversations
        ]


SERVICES: dict[str, Callable[..., Any]] = {"tts": Speaker, "asr": Recogniser, "llm": Writer}
