"""Models of this project as services for making data, given to pipelines by name.

Shapes: ``tts(model, voice).say(text, seed) -> (float32 [S], Hz)``; ``asr(model).transcribe(waveform, Hz) -> str``;
``llm(model).answer(list of message lists, max_new_tokens) -> list of texts``; ``aligner(model)`` tells how likely each
word is at each moment of a recording, for forced alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vivavoce.audio.forced_alignment import Heard, align_words
from vivavoce.audio.resample import resample
from vivavoce.base.errors import AudioError, ModelError, VocabularyError
from vivavoce.inference.assistant import Assistant, load
from vivavoce.models.encoders.mel_ctc import MelCTCEncoder


@lru_cache(maxsize=4)
def _loaded(model: str) -> Assistant:
    return load(model)


class Speaker:
    """A model of this project that reads texts aloud."""

    def __init__(self, model: str, voice: str | None = None) -> None:
        self.assistant, self.voice = _loaded(model), voice

    def say(self, text: str, seed: int = 0) -> tuple[np.ndarray, int]:
        """Speak a text; the same samples for the same seed.

        Raises:
            AudioError: The model makes no sound of it.
        """
        reply = self.assistant.say(text, voice=self.voice, seed=seed)
        if reply.audio is None or reply.sample_rate is None:
            raise AudioError(f"{self.assistant.name} said nothing for {text!r}.")
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


class Aligner:
    """The CTC head of a model's ears, over whole words: it tells in which frame it is sure of a word.

    Raises:
        ModelError: The model's ears have no such head, or its text is not of spoken words.
    """

    whole_words = True
    separator: int | None = None

    def __init__(self, model: str | Assistant) -> None:
        self.assistant = model if isinstance(model, Assistant) else _loaded(model)
        if not self.can(self.assistant):
            raise ModelError(
                f"{self.assistant.name} cannot align: its ears have no CTC head over words; nano's have."
            )
        self.encoder = self.assistant.model.audio_encoder
        self.blank = self.encoder.config.blank_id

    @staticmethod
    def can(assistant: Assistant) -> bool:
        """Whether a model's ears have a CTC head over words."""
        ears = assistant.model.audio_encoder
        return isinstance(ears, MelCTCEncoder) and assistant.processor.text_form == "spoken"

    def spell(self, word: str) -> list[int]:
        """Tokens of a word as it is written ("33" is two words); empty if one is not in the vocabulary."""
        processor = self.assistant.processor
        try:
            spoken = processor.spoken(word)
        except VocabularyError:
            return []
        ids: list[int] = processor.tokenizer(spoken, add_special_tokens=False)["input_ids"]
        return [] if processor.tokenizer.unk_token_id in ids else ids

    def hear(self, waveform: np.ndarray, sample_rate: int) -> Heard:
        """Listen to float32 [S] at any rate."""
        wave = resample(waveform, sample_rate, self.assistant.processor.sample_rate)
        reader = self.assistant.processor.clip_reader
        clip = reader.read([wave])
        log_probs = self.assistant.calls.do(lambda: self._log_probs(clip.features, clip.lengths))
        return Heard(log_probs, self.encoder.FRAME_S, -reader.ears.silence_s)

    @torch.inference_mode()
    def _log_probs(self, features: Tensor, lengths: Tensor) -> np.ndarray:
        device = self.assistant.model.device
        states, _ = self.encoder(features.to(device), lengths.to(device))
        return self.encoder.ctc_logits(states)[0].float().log_softmax(dim=-1).cpu().numpy()


def word_times(
    assistant: Assistant, waveform: np.ndarray, text: str
) -> list[tuple[str, float, float]] | None:
    """When the words of a transcript were said, by the model's own ears.

    Args:
        assistant: Of whose ears.
        waveform: float32 [S] at the rate it hears at.
        text: What is said.

    Returns:
        (word, start, end) in seconds; None if its ears cannot tell, or the recording is too short for the words.
    """
    words = text.split()
    if not Aligner.can(assistant):
        return None
    found = align_words(Aligner(assistant), waveform, assistant.processor.sample_rate, words) if words else []
    if found is None:
        return None
    return [(word, *span) for word, span in zip(words, found, strict=True) if span is not None]


SERVICES: dict[str, Callable[..., Any]] = {
    "tts": Speaker, "asr": Recogniser, "llm": Writer, "aligner": Aligner,
}  # fmt: skip
