"""What a preset is, and how the right one is found."""

from __future__ import annotations

from abc import ABC, abstractmethod

from transformers import PreTrainedConfig

from vivavoce.base.errors import ModelError
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.presets import PRESETS
from vivavoce.tokens.record import AudioVocabulary


class Preset(ABC):
    """A published way of making a causal LM hear or speak.

    Attributes:
        name: Key in ``PRESETS``.
        description: One line for lists.
        hears: "tokens", "embeddings" or "no".
        speaks: "none" (plain tokens), "word", "phone" or "no".
        chats: False if the model only reads aloud.
        codec: Hub id of the codec it was trained with, used when the model folder has no ``codec`` folder.
    """

    name: str
    description: str
    hears: str = "no"
    speaks: str = "no"
    chats: bool = True
    codec: str

    @abstractmethod
    def matches(self, vocabulary: AudioVocabulary) -> bool:
        """Whether audio tokens of this kind belong to the preset."""

    @abstractmethod
    def config(
        self, text_config: PreTrainedConfig, vocabulary: AudioVocabulary, codec: str
    ) -> SpeechLMConfig:
        """The speech LM that a checkpoint with these audio tokens is.

        Args:
            text_config: Of the checkpoint.
            vocabulary: Its audio tokens.
            codec: Registry name, folder or hub id of the codec.
        """

    @abstractmethod
    def text_config(self) -> PreTrainedConfig:
        """The published model's full-size text config."""


def find_preset(vocabulary: AudioVocabulary, where: str) -> Preset:
    """The preset that audio tokens of this kind belong to.

    Args:
        vocabulary: As detected in the tokenizer.
        where: Folder, for the message.

    Raises:
        ModelError: None fits.
    """
    for name in PRESETS:
        preset: Preset = PRESETS.get(name)
        if preset.matches(vocabulary):
            return preset
    raise ModelError(
        f"{where} has audio tokens in layout {vocabulary.layout!r} for codec {vocabulary.codec!r}, which no "
        "preset "
        f"covers ({', '.join(PRESETS)}); write a SpeechLMConfig for it."
    )


def check_rows(text_config: PreTrainedConfig, vocabulary: AudioVocabulary) -> None:
    """Refuse a checkpoint whose embedding matrix does not reach the audio tokens.

    Raises:
        ModelError: With both numbers.
    """
    needed = max(vocabulary.audio_ids) + 1
    if text_config.vocab_size < needed:
        raise ModelError(
            f"the model has {text_config.vocab_size} embedding rows, its tokenizer's audio tokens need "
            f"{needed}; "
            "the tokenizer belongs to another checkpoint, or the model was not resized."
        )
