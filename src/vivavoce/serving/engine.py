"""The one place where the server meets the model; everything here runs in the worker's threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vivavoce.base.errors import ModelError
from vivavoce.inference.assistant import Assistant
from vivavoce.inference.batching.batcher import Batcher
from vivavoce.inference.reply import Delta
from vivavoce.inference.services import Aligner, word_times
from vivavoce.inference.session import Session
from vivavoce.models.config import EmbeddingsIn, TokensIn

DEFAULT_VOICE = "default"


class Engine:
    """What the server asks of a model.

    Args:
        assistant: The model.
        name: Its id in requests.
    """

    _batcher: Batcher | None = None

    def __init__(self, assistant: Assistant, name: str) -> None:
        self.assistant, self.name = assistant, name

    def start(self) -> None:
        """Run the model in a thread of its own from now on, for many callers at once."""
        self._batcher = Batcher(self.assistant.model)
        self.assistant.use(self._batcher)

    def stop(self) -> None:
        """End that thread."""
        self.assistant.use(None)
        if self._batcher is not None:
            self._batcher.close()

    @property
    def open_sequences(self) -> int:
        """Answers and sessions that hold a cache now."""
        return self.assistant.calls.open_sequences

    # what it can do

    @property
    def hears(self) -> bool:
        return self.assistant.hears

    @property
    def speaks(self) -> bool:
        return self.assistant.speaks

    @property
    def chats(self) -> bool:
        return self.assistant.chats

    @property
    def takes_tools(self) -> bool:
        return self.assistant.takes_tools

    @property
    def transcribes(self) -> bool:
        ears = self.assistant.model.config.audio_in
        if isinstance(ears, EmbeddingsIn) and ears.transcript_first:
            return True
        return isinstance(ears, TokensIn | EmbeddingsIn) and bool(ears.transcribe_prompt)

    @property
    def transcript_first(self) -> bool:
        """Whether its answers to recordings bring the transcript."""
        ears = self.assistant.model.config.audio_in
        return isinstance(ears, EmbeddingsIn) and ears.transcript_first

    @property
    def longest(self) -> int | None:
        """Positions it reads at most, None if it does not say."""
        found: int | None = getattr(self.assistant.model.config.text_config, "max_position_embeddings", None)
        return found

    @property
    def translates(self) -> bool:
        return self.assistant.translates

    @property
    def times_words(self) -> bool:
        """Whether ``word_times`` can tell."""
        return Aligner.can(self.assistant)

    @property
    def voices(self) -> tuple[str, ...]:
        """Names for ``voice``; the first is always ``default``, the model's first voice."""
        own = self.assistant.voices
        return (DEFAULT_VOICE, *(v for v in own if v != DEFAULT_VOICE)) if self.speaks else ()

    @property
    def hearing_hz(self) -> int:
        """Rate at which audio is to arrive, Hz."""
        return self.assistant.processor.sample_rate

    @property
    def resampler(self) -> str:
        return "sinc" if isinstance(self.assistant.model.config.audio_in, TokensIn) else "soxr"

    @property
    def speaking_hz(self) -> int:
        """Rate of the samples it makes, Hz."""
        return self.assistant.sample_rate

    def refuses_instructions(self) -> str:
        """Why a system message cannot be read; "" if it can."""
        said = [{"role": "system", "content": "Hello."}, {"role": "user", "content": "Hello."}]
        try:
            self.assistant.processor.prepare(said)
        except ModelError:
            return f"{self.name} takes no instructions; leave them out."
        return ""

    # work

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        audio: bool,
        voice: str | None,
        options: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Iterator[Delta]:
        """Answer a conversation whose audio parts are arrays."""
        return self.assistant.stream(messages, audio, self.own_voice(voice), tools, **options)

    def say(self, text: str, voice: str | None) -> Iterator[Delta]:
        """Read a text aloud."""
        return self.assistant.stream_say(text, voice=self.own_voice(voice))

    def transcribe(
        self, waveform: np.ndarray, translate: bool = False, options: Mapping[str, Any] | None = None
    ) -> Iterator[Delta]:
        """Write down what is said in float32 [S] at ``hearing_hz``, or what it means in English."""
        return self.assistant.stream_transcribe((waveform, self.hearing_hz), translate, **(options or {}))

    def word_times(self, waveform: np.ndarray, text: str) -> list[tuple[str, float, float]] | None:
        """(word, start, end) in seconds of a transcript; None if that cannot be told."""
        return word_times(self.assistant, waveform, text)

    def session(self) -> Session:
        """A conversation that goes on, without anything in it yet."""
        return Session(self.assistant)

    def own_voice(self, voice: str | None) -> str | None:
        """What the model calls a voice."""
        own = self.assistant.voices
        return None if voice == DEFAULT_VOICE and DEFAULT_VOICE not in own else voice

    @property
    def tokenizer(self) -> Any:
        """The text tokenizer."""
        return self.assistant.processor.tokenizer

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
