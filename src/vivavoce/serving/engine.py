"""The one place where the server meets the model; everything here runs in the worker's thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vivavoce.inference.assistant import Assistant
from vivavoce.inference.reply import Delta, Transcript
from vivavoce.models.config import EmbeddingsIn, TokensIn, TokensOut
from vivavoce.models.conversation import room_for_answer

DEFAULT_VOICE = "default"


class Engine:
    """What the server asks of a model.

    Args:
        assistant: The model.
        name: Its id in requests.
    """

    def __init__(self, assistant: Assistant, name: str) -> None:
        self.assistant, self.name = assistant, name

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
    def transcribes(self) -> bool:
        ears = self.assistant.model.config.audio_in
        if isinstance(ears, EmbeddingsIn) and ears.transcript_first:
            return True
        return isinstance(ears, TokensIn | EmbeddingsIn) and bool(ears.transcribe_prompt)

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

    @property
    def default_tokens(self) -> int:
        """Most new tokens of an answer if the caller does not say."""
        return self.assistant.sampling({}).max_new_tokens

    # work

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        audio: bool,
        voice: str | None,
        options: Mapping[str, Any],
    ) -> Iterator[Delta]:
        """Answer a conversation whose audio parts are arrays."""
        return self.assistant.stream(messages, audio=audio, voice=self._voice(voice), **options)

    def say(self, text: str, voice: str | None) -> Iterator[Delta]:
        """Read a text aloud."""
        return self.assistant.stream_say(text, voice=self._voice(voice))

    def transcribe(self, waveform: np.ndarray, options: Mapping[str, Any]) -> Transcript:
        """Write down what is said in float32 [S] at ``hearing_hz``."""
        return self.assistant.transcribe((waveform, self.hearing_hz), **options)

    def _voice(self, voice: str | None) -> str | None:
        own = self.assistant.voices
        return None if voice == DEFAULT_VOICE and DEFAULT_VOICE not in own else voice

    # counts

    def finish_reason(self, prompt: int, text: int, audio: int, limit: int | None) -> str:
        """Why an answer ended: ``length`` if its tokens fill the limit or the model's room, else ``stop``.

        The calls do not say it, so it is worked out from the counts. Plain codec tokens end at a whole frame
        before the limit, so the last frame is counted as filled.
        """
        config, processor = self.assistant.model.config, self.assistant.processor
        most = limit or self.default_tokens
        room = room_for_answer(config, prompt)
        used = text
        mouth = config.audio_out
        if audio and isinstance(mouth, TokensOut) and mouth.alignment == "none":
            used += audio + processor.codec_out.spec.codes_per_frame + 1  # and the start of audio
        return "length" if used >= (most if room is None else min(most, room)) else "stop"

    def prompt_tokens(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Text and audio tokens of a conversation as the model reads it."""
        processor = self.assistant.processor
        ids = processor.prepare(messages)["input_ids"]
        if processor.audio_token_id is not None:
            audio = sum(i == processor.audio_token_id for i in ids)
        elif processor.vocabulary_in is not None:
            codes = processor.vocabulary_in.code_ids
            audio = sum(i in codes for i in ids)
        else:
            audio = 0
        return len(ids) - audio, audio

    def text_tokens(self, text: str) -> int:
        """Tokens of a text; answers are counted by reading them again."""
        return len(self.text_ids(text))

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self.assistant.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def audio_tokens(self, num_samples: int) -> int:
        """Codec tokens of so many samples of speech."""
        spec = self.assistant.processor.codec_out.spec
        return -(-num_samples // spec.frame_samples) * spec.codes_per_frame
