"""The nano codec in training: codebooks at the running mean of their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.codecs.contract import Codec
from vivavoce.codecs.nano import NanoCodec
from vivavoce.codecs.training.codebooks import RunningCodebook, cluster, restart
from vivavoce.codecs.training.trained_codec import CodebookSettings, TrainedCodec


class TrainedNano(TrainedCodec):
    """The nano codec; its codebooks learn no gradient."""

    codec: NanoCodec

    def __init__(self, codec: NanoCodec, settings: CodebookSettings) -> None:
        super().__init__(codec, settings)
        self.running = nn.ModuleList(RunningCodebook(q.codebook, settings.decay) for q in codec.levels())

    def latents(self, waveform: Tensor) -> Tensor:
        return self.codec.latents(waveform[:, 0])

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
        total, commitment = torch.zeros_like(latents), latents.new_zeros(())
        codes, kept = [], []
        for quantizer in self.codec.levels():
            vectors = quantizer.project(latents)
            found = quantizer.nearest(vectors)
            near = quantizer.codebook[found]
            commitment = commitment + (vectors - near).square().sum(-1).mean()
            out = quantizer.expand(vectors + (near - vectors).detach())
            latents, total = latents - out, total + out
            codes.append(found.flatten())
            kept.append(vectors.detach().flatten(0, -2))
        return total, commitment, latents.new_zeros(()), codes, kept

    def synthesize(self, latents: Tensor) -> Tensor:
        return self.codec.synthesize(latents)[:, None]

    def look_up(self, levels: list[Tensor]) -> Tensor:
        return self.codec.lookup(levels)

    def decoder_parts(self) -> list[nn.Module]:
        c = self.codec
        return [c.decoder_in, c.decoder_low, c.up, c.decoder_high, c.decoder_norm, c.head]

    def words(self, level: int) -> Tensor:
        return self.codec.levels()[level].codebook

    def save(self, folder: Path, codec: Codec) -> None:
        cast(NanoCodec, codec).save(folder)

    def _book(self, level: int) -> RunningCodebook:
        return cast(RunningCodebook, self.running[level])

    def _start(self, level: int, latents: Tensor) -> None:
        vectors = self.quantize(latents)[4][level]
        self.words(level).copy_(F.normalize(cluster(vectors, self.codec.spec.codebook_size), dim=-1))
        self._book(level).begin(self.words(level))

    @torch.no_grad()
    def _move(self, level: int, vectors: Tensor, codes: Tensor, used: Tensor) -> None:
        self._book(level).follow(self.words(level), vectors, codes, used)

    def _restart(self, level: int, vectors: Tensor) -> int:
        book, words = self._book(level), self.words(level)
        dead = book.counts < self.settings.dead_below * self.use.recent[level].mean()
        if dead.any():
            restart(words, F.normalize(vectors, dim=-1), dead)
            words.copy_(F.normalize(words, dim=-1))
            book.begin(words, dead)
        return int(dead.sum())
