"""What a preset is, and how the right one is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """

    name: str
    description: str
    hears: str = "no"
    speaks: str = "no"
    chats: bool = True


class TokenPreset(Preset):
    """A plain causal LM, known by the audio tokens in its tokenizer.

    Attributes:
        codec: Hub id of the codec it was trained with, used when the model folder has no ``codec`` folder.
    """

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


@dataclass(frozen=True)
class Sources:
    """Where parts are that a published checkpoint does not hold; hub ids, folders or files.

    Attributes:
        text_model: The language model, with its tokenizer.
        encoder: The speech encoder.
        sound_encoder: The second encoder, BEATs for SALMONN.
        tokenizer: When it is not with the language model.
        prompts: JSON file of task -> prompt.
        accept_other: Take a language model or encoder that says it is another than the checkpoint names, if its
            sizes fit.
    """

    text_model: str | None = None
    encoder: str | None = None
    sound_encoder: str | None = None
    tokenizer: str | None = None
    prompts: str | None = None
    accept_other: bool = False


@dataclass
class Imported:
    """A published checkpoint as a model of this project.

    Attributes:
        model: With parts that the checkpoint does not hold loaded, or left out (``with_parts=False``).
        processor: Of the model.
        notes: What was left out, renamed or assumed, one sentence each.
    """

    model: Any
    processor: Any
    notes: list[str] = field(default_factory=list)


class EarsPreset(Preset):
    """A published form of encoder and connector beside a causal LM, known by its files."""

    hears = "embeddings"

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is a checkpoint of this form; reads no weights."""

    @abstractmethod
    def read(self, path: Path, sources: Sources, with_parts: bool = True, **weights: Any) -> Imported:
        """Read a checkpoint.

        Args:
            path: File or folder.
            sources: Where to find what it does not hold.
            with_parts: Load the language model and encoders it refers to; False for converting, which needs
                their configs only.
            weights: Arguments of ``from_pretrained`` for the language model (dtype, device_map,
                quantization_config).

        Raises:
            CheckpointError: Tensors are missing, unexpected or of another shape, or the language model or an
                encoder is another than the checkpoint was trained with; names both.
            ModelError: A part that is not there, with how to give it.
        """

    @abstractmethod
    def write(self, model: Any, processor: Any, folder: Path) -> list[Path]:
        """Write a model in the published form; returns the files.

        Raises:
            ModelError: The model has parts which that form does not know.
        """

    @abstractmethod
    def full_size(self, variant: str) -> SpeechLMConfig:
        """The config of a published size, such as "v0_5-8b"; for shapes without weights.

        Raises:
            ConfigError: Unknown variant; names the known ones.
        """


def find_preset(vocabulary: AudioVocabulary, where: str) -> TokenPreset:
    """The preset that audio tokens of this kind belong to.

    Args:
        vocabulary: As detected in the tokenizer.
        where: Folder, for the message.

    Raises:
        ModelError: None fits.
    """
    for name in PRESETS:
        preset: Preset = PRESETS.get(name)
        if isinstance(preset, TokenPreset) and preset.matches(vocabulary):
            return preset
    raise ModelError(
        f"{where} has audio tokens in layout {vocabulary.layout!r} for codec {vocabulary.codec!r}, which no "
        "preset "
        f"covers ({', '.join(PRESETS)}); write a SpeechLMConfig for it."
    )


def find_ears_preset(path: Path) -> EarsPreset | None:
    """The preset whose published form a file or folder has, if any."""
    found = (PRESETS.get(name) for name in PRESETS)
    return next((p for p in found if isinstance(p, EarsPreset) and p.recognises(path)), None)


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
