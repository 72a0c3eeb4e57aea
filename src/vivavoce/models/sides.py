"""What a model hears and speaks with, as its processor holds it: placeholders, codecs, their vocabularies, clips.

Letters: S samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivavoce.audio.features import WHISPER_SAMPLE_RATE
from vivavoce.audio.resample import Method
from vivavoce.base.errors import ModelError
from vivavoce.codecs.contract import Codec
from vivavoce.models.audio_parts import read_part
from vivavoce.models.clips import ClipReader
from vivavoce.models.config import AudioIn, AudioOut, EmbeddingsIn, TokensIn, TokensOut
from vivavoce.tokens.record import AudioVocabulary

PLACEHOLDER = "<|audio|>"  # spelling of placeholders that the tokenizer does not know


@dataclass
class Shelf:
    """Things that are loaded once and never saved with the processor."""

    items: dict[str, Any] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Shelf:
        return Shelf()


class Sides:
    """The audio sides of a model; the base of its processor, which sets what is declared here.

    Attributes:
        ears: How the model hears.
        mouth: How it speaks.
        folder: Where relative codec folders are; "" for nowhere.
    """

    ears: AudioIn
    mouth: AudioOut
    folder: str
    tokenizer: Any
    _shelf: Shelf

    @cached_property
    def vocabulary_in(self) -> AudioVocabulary | None:
        """Audio tokens that the model hears."""
        return AudioVocabulary.from_dict(self.ears.vocabulary) if isinstance(self.ears, TokensIn) else None

    @cached_property
    def vocabulary_out(self) -> AudioVocabulary | None:
        """Audio tokens that the model speaks."""
        record = self.mouth.vocabulary if isinstance(self.mouth, TokensOut) else None
        return AudioVocabulary.from_dict(record) if record else None

    @property
    def audio_token_id(self) -> int | None:  # type: ignore[override]
        """The placeholder, for models that hear by embeddings."""
        return self.ears.audio_token_id if isinstance(self.ears, EmbeddingsIn) else None

    @property
    def audio_token(self) -> str | None:
        """The placeholder's spelling; ``<|audio|>`` if its id is past the tokenizer's tokens."""
        if self.audio_token_id is None:
            return None
        return self.tokenizer.convert_ids_to_tokens(self.audio_token_id) or PLACEHOLDER

    @property
    def sample_rate(self) -> int:
        """Rate at which the model hears, Hz.

        Raises:
            ModelError: It does not hear.
        """
        if isinstance(self.ears, EmbeddingsIn):
            return WHISPER_SAMPLE_RATE
        if isinstance(self.ears, TokensIn):
            return self.codec_in.spec.sample_rate
        raise ModelError("this model does not hear; give it text.")

    @property
    def codec_in(self) -> Codec:
        """The codec whose tokens the model hears, loaded when first asked for."""
        return self._codec(self.ears)

    @property
    def codec_out(self) -> Codec:
        """The codec whose tokens the model speaks, loaded when first asked for."""
        return self._codec(self.mouth)

    def _codec(self, side: Any) -> Codec:
        name = getattr(side, "codec", None)
        if name is None:
            raise ModelError("this model has no codec on that side.")
        if name not in self._shelf.items:
            from vivavoce.codecs.loading import load_codec

            inside = Path(self.folder) / name
            self._shelf.items[name] = load_codec(str(inside) if self.folder and inside.is_dir() else name)
        codec: Codec = self._shelf.items[name]
        vocabulary = self.vocabulary_in if side is self.ears else self.vocabulary_out
        if vocabulary is not None:
            vocabulary.check_codec(codec.spec)
        return codec

    @property
    def clip_reader(self) -> ClipReader:
        """Makes inputs of the encoder from waveforms, for models that hear by embeddings."""
        assert isinstance(self.ears, EmbeddingsIn)
        if "clips" not in self._shelf.items:
            self._shelf.items["clips"] = ClipReader(self.ears)
        reader: ClipReader = self._shelf.items["clips"]
        return reader

    def audio_ids(self, waveform: np.ndarray) -> list[int]:
        """A waveform at ``sample_rate`` as sound tokens, start and end included."""
        assert self.vocabulary_in is not None
        codec = self.codec_in
        device = next((p.device for p in codec.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            codes = codec.encode(torch.from_numpy(np.ascontiguousarray(waveform))[None, None].to(device))
        return self.vocabulary_in.to_ids(codes)

    def read_clip(self, part: Mapping[str, Any], sampling_rate: int | None = None) -> np.ndarray:
        """An audio part as the model hears it, float32 [S] at ``sample_rate``; see ``audio_parts.read_part``."""
        resampler: Method = "sinc" if isinstance(self.ears, TokensIn) else "soxr"
        return read_part(part, self.sample_rate, resampler, sampling_rate)
