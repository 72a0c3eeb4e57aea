"""A codec in the form that trains: gradients go through its quantizer, and its codebooks follow their vectors.

Letters: B batch, S samples, T steps of latents, D width, N vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.training.codebooks import Use

Part = Literal["all", "decoder"]


@dataclass(frozen=True, kw_only=True)
class CodebookSettings:
    """How codebooks start and stay alive.

    Attributes:
        start: "data" clusters the latents of crops (k-means); "as_is" keeps what the codec has.
        from_step: Updates of a codec from scratch before they start; until then latents go to the decoder as they
            are, so that codebooks meet an encoder that has something to say.
        start_batches: Batches of crops that are clustered.
        centre: Share of its mean by which a level's vectors are moved to 0 in each update, where codes are looked up
            by angle (SNAC) and the codec began from scratch. Nothing that is heard changes by it.
        learn: How SNAC's codewords follow their vectors: "mean" keeps them at a running mean, "gradient" leaves them
            to the codebook loss, as published SNAC's were trained. Nano's are always running means.
        decay: Of the running count of use, and of running codebooks, per update.
        dead_below: A codeword that is used less than this share of the mean starts again at a vector of the batch.
        restart_every: Updates from one look for dead codewords to the next; 0 for never.
    """

    start: Literal["data", "as_is"] = "data"
    from_step: int = 0
    start_batches: int = 4
    centre: float = 0.2
    learn: Literal["gradient", "mean"] = "gradient"
    decay: float = 0.99
    dead_below: float = 0.1
    restart_every: int = 10

    def __post_init__(self) -> None:
        if self.from_step < 0:
            raise ConfigError(f"codebooks.from_step is {self.from_step}, wanted 0 or more")
        if not 0 <= self.centre <= 1:
            raise ConfigError(f"codebooks.centre is {self.centre}, wanted 0 to 1")


@dataclass
class Pass:
    """What a codec makes of a batch.

    Attributes:
        waveform: [B, 1, S], of true float32.
        commitment, codebook: Losses of the quantizer, summed over levels.
        codes: int64 [N] of each level.
        vectors: [N, D'] of each level, without gradient: what was quantized.
    """

    waveform: Tensor
    commitment: Tensor
    codebook: Tensor
    codes: list[Tensor]
    vectors: list[Tensor]


class TrainedCodec(nn.Module, ABC):
    """Wraps a codec for training; the weights stay the codec's own.

    Args:
        codec: On the CPU or not; its parameters train.
        settings: Of codebooks.

    Attributes:
        quantizes: Whether latents go through the quantizer on their way; False before codebooks start.
    """

    def __init__(self, codec: Codec, settings: CodebookSettings) -> None:
        super().__init__()
        self.codec, self.settings, self.quantizes = codec, settings, True
        self.use = Use(codec.spec.num_levels, codec.spec.codebook_size, settings.decay)

    @abstractmethod
    def latents(self, waveform: Tensor) -> Tensor:
        """Encode [B, 1, S], S of legal length, to [B, T, D]."""

    @abstractmethod
    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Quantize [B, T, D]; gradients go straight through.

        Returns:
            Quantized latents, commitment loss, codebook loss, codes and vectors by level as in `Pass`.
        """

    @abstractmethod
    def synthesize(self, latents: Tensor) -> Tensor:
        """Decode [B, T, D] to [B, 1, S]."""

    @abstractmethod
    def look_up(self, levels: list[Tensor]) -> Tensor:
        """Codes [B, T_l] of each level to latents [B, T, D]."""

    @abstractmethod
    def decoder_parts(self) -> list[nn.Module]:
        """What decodes latents."""

    @abstractmethod
    def words(self, level: int) -> Tensor:
        """The codewords of a level, [K, D'], which may be changed in place."""

    @abstractmethod
    def save(self, folder: Path, codec: Codec) -> None:
        """Write a codec of this kind, such as the averaged one, so that ``load_codec`` reads it."""

    def choose(self, part: Part) -> None:
        """Train everything, or the decoder alone."""
        self.codec.requires_grad_(part == "all")
        for module in self.decoder_parts():
            module.requires_grad_(True)

    def forward(self, waveform: Tensor) -> Pass:
        """The whole way, [B, 1, S], S of legal length."""
        latents = self.latents(waveform)
        if not self.quantizes:
            zero = latents.new_zeros((), dtype=torch.float32)
            return Pass(self.synthesize(latents.float()).float(), zero, zero, [], [])
        with torch.autocast(waveform.device.type, enabled=False):
            found, commitment, codebook, codes, vectors = self.quantize(latents.float())
        return Pass(self.synthesize(found).float(), commitment, codebook, codes, vectors)

    def from_codes(self, levels: list[Tensor]) -> Pass:
        """The way from stored codes [B, T_l]: only the decoder gets gradients."""
        with torch.no_grad(), torch.autocast(levels[0].device.type, enabled=False):
            latents = self.look_up(levels)
        zero = latents.new_zeros(())
        return Pass(self.synthesize(latents).float(), zero, zero, [c.flatten() for c in levels], [])

    @torch.no_grad()
    def start_codebooks(self, waveforms: list[Tensor]) -> None:
        """Cluster the latents of some batches, level after level."""
        latents = torch.cat([self.latents(waveform).float() for waveform in waveforms])
        with torch.autocast(latents.device.type, enabled=False):
            for level in range(self.codec.spec.num_levels):
                self._start(level, latents)

    @abstractmethod
    def _start(self, level: int, latents: Tensor) -> None:
        """Cluster what latents [B, T, D] are to a level, the coarser ones of which stand."""

    @torch.no_grad()
    def follow(self, made: Pass, step: int, fixed: bool = False) -> int:
        """After an update: count use, move running codebooks, and start dead codewords again.

        Args:
            made: Of the update.
            step: Updates done, with this one.
            fixed: Only count, since codebooks do not train.

        Returns:
            Codewords that started again.
        """
        every, restarted = self.settings.restart_every, 0
        for level, codes in enumerate(made.codes):
            used = self.use.count(level, codes)
            if fixed:
                continue
            self._move(level, made.vectors[level], codes, used)
            if every and step % every == 0:
                restarted += self._restart(level, made.vectors[level])
        return restarted

    def _move(self, level: int, vectors: Tensor, codes: Tensor, used: Tensor) -> None:
        """Move what moves without a gradient: running codebooks, or the middle of a level's vectors."""

    @abstractmethod
    def _restart(self, level: int, vectors: Tensor) -> int:
        """Start dead codewords of a level again; returns how many."""
