"""Models of this project as services for making data, given to pipelines by name.

Shapes: ``tts(model, voice).say(text, seed) -> (float32 [S], Hz)``; ``asr(model).transcribe(waveform, Hz) -> str``;
``llm(model).answer(list of message lists, max_new_tokens) -> list of texts``; ``aligner(model)`` tells how likely each
word is at each moment of a recording, for forced alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

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


class Heard(NamedTuple):
    """What an aligner makes of a recording.

    Attributes:
        log_probs: float32 [F, V], natural logarithms; V is the text tokenizer's vocabulary.
        frame_s: Length of a frame, seconds; frame f begins at ``f * frame_s``.
    """

    log_probs: np.ndarray
    frame_s: float


class Aligner:
    """The CTC head of a model's ears, over whole words: it tells in which frame it is sure of a word.

    Raises:
        ModelError: The model's ears have no such head, or its text is not of spoken words.
    """

    whole_words = True
    separator = None

    def __init__(self, model: str) -> None:
        self.assistant = _loaded(model)
        encoder = self.assistant.model.audio_encoder
        if not isinstance(encoder, MelCTCEncoder) or self.assistant.processor.text_form != "spoken":
            raise ModelError(
                f"{self.assistant.name} cannot align: its ears have no CTC head over words; nano's have."
            )
        self.encoder, self.blank = encoder, encoder.config.blank_id

    def spell(self, word: str) -> list[int]:
        """Tokens of a word as it is written ("33" is two words); empty if one is not in the vocabulary."""
        processor = self.assistant.processor
        try:
            spoken = processor.spoken(word)
        except VocabularyError:
            return []
        ids: list[int] = processor.tokenizer(spoken, add_special_tokens=False)["input_ids"]
        return [] if processor.tokenizer.unk_token_id in ids else ids

    @torch.inference_mode()
    def hear(self, waveform: np.ndarray, sample_rate: int) -> Heard:
        """Listen to float32 [S] at any rate."""
        wave = resample(waveform, sample_rate, self.assistant.processor.sample_rate)
        clip = self.assistant.processor.clip_reader.read([wave])
        device = self.assistant.model.device
        states, _ = self.encoder(clip.features.to(device), clip.lengths.to(device))
        log_probs = self.encoder.ctc_logits(states)[0].float().log_softmax(dim=-1)
        return Heard(log_probs.cpu().numpy(), self.encoder.FRAME_S)


SERVICES: dict[str, Callable[..., Any]] = {
    "tts": Speaker, "asr": Recogniser, "llm": Writer, "aligner": Aligner,
}  # fmt: skip
