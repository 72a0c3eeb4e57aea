"""What every codec promises: waveform <-> codes, whole and streaming, with true lengths kept.

Letters: B batch, S samples, K levels, T_l codes at level l.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivavoce.base.errors import CodecError


@dataclass(frozen=True)
class CodecSpec:
    """The fixed numbers of a codec.

    Attributes:
        name: Registry name or folder name.
        sample_rate: Hz.
        frame_samples: Samples per coarse frame (the smallest unit all levels share).
        strides: Finest steps per code at each level, coarse to fine; (4, 2, 1) for 24 kHz SNAC, (1, 1) for
            two EnCodec codebooks. A level has ``max(strides) / stride`` codes in a coarse frame.
        codebook_size: Codewords per level.
        lookahead_samples: Future samples the whole-clip decoder uses for a sample; 0 if causal.
        causal: True if decoding never looks ahead (after a stated start).
        pad_to_frames: Legal clip lengths are multiples of this many coarse frames.
        licence: Licence of code and of published weights.
        weights: SHA-256 of the weights (first 16 hex digits) or "" for random weights; stored beside codes.
    """

    name: str
    sample_rate: int
    frame_samples: int
    strides: tuple[int, ...]
    codebook_size: int
    lookahead_samples: int
    causal: bool
    pad_to_frames: int = 1
    licence: str = ""
    weights: str = ""

    @property
    def num_levels(self) -> int:
        return len(self.strides)

    @property
    def codes_per_level(self) -> tuple[int, ...]:
        """Codes of each level in one coarse frame; (1, 2, 4) for 24 kHz SNAC."""
        return tuple(max(self.strides) // s for s in self.strides)

    @property
    def codes_per_frame(self) -> int:
        return sum(self.codes_per_level)

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate / self.frame_samples

    @property
    def tokens_per_second(self) -> float:
        return self.frame_rate_hz * self.codes_per_frame

    def num_frames(self, num_samples: int) -> int:
        """Coarse frames that ``num_samples`` >= 1 samples are encoded to, padding included."""
        frames = -(-num_samples // self.frame_samples)
        return -(-frames // self.pad_to_frames) * self.pad_to_frames


@dataclass
class Codes:
    """Codec indices of a batch with the true lengths.

    Attributes:
        levels: K tensors, coarse to fine, int64 [B, T_l] in [0, codebook_size).
        num_samples: True samples of each item, length B; what decode crops to.
    """

    levels: list[Tensor]
    num_samples: list[int]

    @property
    def batch_size(self) -> int:
        return self.levels[0].shape[0]

    def item(self, index: int, spec: CodecSpec) -> Codes:
        """One item of the batch, without the padding of longer neighbours."""
        frames = spec.num_frames(self.num_samples[index]) if self.num_samples[index] else 0
        levels = [
            level[index : index + 1, : frames * n]
            for level, n in zip(self.levels, spec.codes_per_level, strict=True)
        ]
        return Codes(levels, [self.num_samples[index]])

    def check(self, spec: CodecSpec) -> None:
        """Refuse codes that ``spec`` cannot decode.

        Raises:
            CodecError: wrong number of levels, shapes that do not fit together, or a code out of range.
        """
        if len(self.levels) != spec.num_levels:
            raise CodecError(
                f"{spec.name} has {spec.num_levels} levels of codes, these have {len(self.levels)}; "
                f"use the codec that made them."
            )
        for i, level in enumerate(self.levels):
            if level.dim() != 2 or level.shape[0] != len(self.num_samples) or level.dtype != torch.int64:
                raise CodecError(
                    f"level {i} is {level.dtype} {list(level.shape)}; wanted int64 [B, T] with one of "
                    f"{len(self.num_samples)} true lengths per item."
                )
        frames = self.levels[0].shape[1] // spec.codes_per_level[0]
        for i, (level, n) in enumerate(zip(self.levels, spec.codes_per_level, strict=True)):
            if level.shape[1] != frames * n:
                raise CodecError(
                    f"level {i} has {level.shape[1]} codes, {frames} frames of {spec.name} need {frames * n}."
                )
            if level.numel() and (int(level.min()) < 0 or int(level.max()) >= spec.codebook_size):
                bad = int(level.max()) if int(level.max()) >= spec.codebook_size else int(level.min())
                raise CodecError(
                    f"code {bad} at level {i} is outside [0, {spec.codebook_size}) of {spec.name}; "
                    f"use the codec that made these codes."
                )


class StreamEncoder(ABC):
    """Waveform chunks in, final codes out; the concatenation equals ``Codec.encode`` of the whole."""

    @abstractmethod
    def push(self, waveform: Tensor) -> Codes:
        """Take float32 [1, 1, s] (any s >= 0) and return the codes that are now final (maybe none)."""

    @abstractmethod
    def flush(self) -> Codes:
        """End of stream: return the remaining codes. Later calls raise SessionError."""


class StreamDecoder(ABC):
    """Code frames in, final samples out; the concatenation equals ``Codec.decode`` of the whole."""

    @abstractmethod
    def push(self, codes: Codes) -> Tensor:
        """Take whole coarse frames [1, ...] and return float32 [1, 1, s], the samples that are now final."""

    @abstractmethod
    def flush(self, num_samples: int | None = None) -> Tensor:
        """End of stream: return the rest, cropped so that the stream has ``num_samples`` in all.

        The default is the sum of what the pushed codes said. Later calls raise SessionError.
        """


class Codec(nn.Module, ABC):
    """Base of all codecs. ``encode`` and ``decode`` of a batch equal those of each item alone."""

    spec: CodecSpec

    @abstractmethod
    def encode(self, waveform: Tensor, lengths: list[int] | None = None) -> Codes:
        """Turn waveforms into codes.

        Args:
            waveform: float32 [B, 1, S] in [-1, 1] at ``spec.sample_rate``.
            lengths: True samples of each item, each in [1, S]; default all S.

        Returns:
            Codes, right-padded with code 0 to the longest item.

        Raises:
            CodecError: wrong shape, or an item of 0 samples.
        """

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Turn codes into a waveform.

        Returns:
            float32 [B, 1, max(num_samples)]; items shorter than the longest are zero after their end.

        Raises:
            CodecError: the codes do not fit this codec.
        """

    @abstractmethod
    def stream_encoder(self) -> StreamEncoder:
        """A fresh encoder for one stream."""

    @abstractmethod
    def stream_decoder(self) -> StreamDecoder:
        """A fresh decoder for one stream."""

    def check_waveform(self, waveform: Tensor, lengths: list[int] | None) -> list[int]:
        """Validate the arguments of ``encode``; returns the lengths."""
        if waveform.dim() != 3 or waveform.shape[1] != 1 or not len(waveform):
            raise CodecError(
                f"{self.spec.name} wants a mono waveform [B, 1, S], got shape {list(waveform.shape)}."
            )
        lengths = [waveform.shape[-1]] * waveform.shape[0] if lengths is None else list(lengths)
        if len(lengths) != len(waveform):
            raise CodecError(f"{len(lengths)} lengths for {len(waveform)} waveforms; wanted one per item.")
        for i, n in enumerate(lengths):
            if not 0 < n <= waveform.shape[-1]:
                raise CodecError(f"item {i} has {n} samples, wanted 1 to {waveform.shape[-1]}.")
            if not waveform[i, :, :n].isfinite().all():
                raise CodecError(
                    f"item {i} holds values that are not finite; check how it was recorded or read."
                )
        return lengths


def concatenate(parts: list[Codes], spec: CodecSpec) -> Codes:
    """Join consecutive pieces of one stream (batch 1) into one Codes."""
    if not parts:
        empty = torch.zeros(1, 0, dtype=torch.long)
        return Codes([empty.clone() for _ in spec.strides], [0])
    levels = [torch.cat([p.levels[k] for p in parts], dim=1) for k in range(spec.num_levels)]
    return Codes(levels, [sum(p.num_samples[0] for p in parts)])


def collate(items: list[Codes], spec: CodecSpec) -> Codes:
    """Make one batch of single items of any length, so that decoding it equals decoding each alone.

    An item whose frame count is not legal (generated codes) is filled up by repeating its last frame, as
    decoding it alone would; the rest is padded with code 0.

    Raises:
        CodecError: an item does not fit ``spec`` or is itself a batch.
    """
    levels: list[list[Tensor]] = [[] for _ in spec.strides]
    for item in items:
        item.check(spec)
        if item.batch_size != 1:
            raise CodecError(f"collate takes single items, one of these is a batch of {item.batch_size}.")
        frames = item.levels[0].shape[1] // spec.codes_per_level[0]
        missing = -frames % spec.pad_to_frames
        for rows, level, n in zip(levels, item.levels, spec.codes_per_level, strict=True):
            rows.append(torch.cat([level[0], level[0, level.shape[1] - n :].repeat(missing)]))
    return Codes(
        [torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in levels],
        [item.num_samples[0] for item in items],
    )
