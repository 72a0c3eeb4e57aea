"""SNAC in training: factorised codes by gradients, noise of each item's own in the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.codecs.contract import Codec
from vivavoce.codecs.snac.codec import SNACCodec
from vivavoce.codecs.snac.quantizer import VectorQuantizer, project
from vivavoce.codecs.snac.weights import published_form
from vivavoce.codecs.training.codebooks import RunningCodebook, cluster, restart, summed
from vivavoce.codecs.training.trained_codec import CodebookSettings, TrainedCodec


class FreshNoise:
    """Noise from torch's generator, for each item of a batch its own.

    Args:
        batch: Items.
        device: Where it goes.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.batch, self.device = batch, device

    def __call__(self, block: int, start: int, length: int) -> Tensor:
        """Normal values [B, 1, length]; block and start do not count."""
        return torch.randn(self.batch, 1, length, device=self.device)


class TrainedSNAC(TrainedCodec):
    """SNAC, causal or not, with weight norm kept.

    The two losses of a level compare its projected latents with raw codewords, in the narrow space; lookup is by
    angle. Gradients pass the choice straight through.

    Source: SNAC (Siuzdak et al. 2024), which trains as DAC does (Kumar et al. 2023, section 3.2).
    """

    codec: SNACCodec

    def __init__(self, codec: SNACCodec, settings: CodebookSettings) -> None:
        super().__init__(codec, settings)
        books = range(codec.spec.num_levels) if settings.learn == "mean" else ()
        self.running = nn.ModuleList(RunningCodebook(self.words(k), settings.decay, False) for k in books)

    def latents(self, waveform: Tensor) -> Tensor:
        return self.codec.encoder(waveform).transpose(1, 2)

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
        total, commitment, codebook = torch.zeros_like(latents), latents.new_zeros(()), latents.new_zeros(())
        codes, kept = [], []
        for stride, level in self.codec.quantizer.levels():
            vectors = project(level.in_proj, latents.unflatten(-2, (-1, stride)).mean(-2))
            found = level.nearest_of(vectors)
            words = level.codebook(found)
            if self.running:  # they move by themselves
                words = words.detach()
            commitment = commitment + F.mse_loss(vectors, words.detach())
            codebook = codebook + F.mse_loss(words, vectors.detach())
            straight = vectors + (words - vectors).detach()
            out = project(level.out_proj, straight).repeat_interleave(stride, dim=-2)
            latents, total = latents - out, total + out
            codes.append(found.flatten())
            kept.append(vectors.detach().flatten(0, -2))
        return total, commitment, codebook, codes, kept

    def synthesize(self, latents: Tensor) -> Tensor:
        noise = FreshNoise(len(latents), latents.device) if self.codec.config.noise else None
        return self.codec.decoder(latents.transpose(1, 2), noise)

    def look_up(self, levels: list[Tensor]) -> Tensor:
        return self.codec.quantizer.embed(levels)

    def decoder_parts(self) -> list[nn.Module]:
        return [self.codec.decoder]

    def words(self, level: int) -> Tensor:
        return cast(VectorQuantizer, self.codec.quantizer.quantizers[level]).codebook.weight.data

    def save(self, folder: Path, codec: Codec) -> None:
        """Also ``pytorch_model.bin``, which is what the published package reads, where it knows the network."""
        codec = cast(SNACCodec, codec)
        codec.save(folder)
        if not codec.config.causal:
            torch.save(published_form(codec), folder / "pytorch_model.bin")

    def _start(self, level: int, latents: Tensor) -> None:
        """Both projections start as the principal components of what the coarser levels left, centred.

        Lookup is by angle, and a random encoder's projections all point one way (mean cosine 0.97 was measured):
        a few codewords would win everything. Out of components the decoder hears the same latents, but for what
        the narrow space cannot hold.
        """
        quantizer = cast(VectorQuantizer, self.codec.quantizer.quantizers[level])
        stride = self.codec.quantizer.strides[level]
        left = latents - self._coarser(level, latents)
        rows = left.unflatten(-2, (-1, stride)).mean(-2).flatten(0, -2)
        mean, into, back = principal_components(rows, self.words(level).shape[1])
        set_projection(quantizer.in_proj, into, -(into @ mean))
        set_projection(quantizer.out_proj, back, mean)
        self.words(level).copy_(cluster((rows - mean) @ into.t(), self.codec.spec.codebook_size))
        if self.running:
            used = len(rows) / self.settings.start_batches / self.codec.spec.codebook_size
            self._book(level).begin(self.words(level), count=used)

    def _book(self, level: int) -> RunningCodebook:
        return cast(RunningCodebook, self.running[level])

    def _coarser(self, level: int, latents: Tensor) -> Tensor:
        """What the levels before this one make of latents [B, T, D], the same shape."""
        total = torch.zeros_like(latents)
        for stride, quantizer in self.codec.quantizer.levels()[:level]:
            codes = quantizer.nearest((latents - total).unflatten(-2, (-1, stride)).mean(-2))
            total = total + quantizer.embed(codes).repeat_interleave(stride, dim=-2)
        return total

    def _move(self, level: int, vectors: Tensor, codes: Tensor, used: Tensor) -> None:
        """Let the middle of the codewords go with that of the vectors, by the biases of both projections.

        An encoder that begins moves all its latents one way at once (the first updates asked for the mean spectrum),
        faster than codewords follow one by one; seen from 0 the vectors are then one direction, and few codewords
        win. What the projection in takes away the projection out puts back, so that codewords mean the same
        distances from the middle, whose way the decoder hears.
        """
        share = self.settings.centre
        if share:
            quantizer = cast(VectorQuantizer, self.codec.quantizer.quantizers[level])
            into, back = cast(nn.Conv1d, quantizer.in_proj), cast(nn.Conv1d, quantizer.out_proj)
            sums = summed(torch.cat([vectors.sum(0), vectors.new_tensor([len(vectors)])]))
            shift = share * sums[:-1] / sums[-1]
            vectors.sub_(shift)  # what a codeword that starts again takes
            cast(Tensor, into.bias).data.sub_(shift)
            cast(Tensor, back.bias).data.add_(back.weight[:, :, 0].detach() @ shift)
        if self.running:
            self._book(level).follow(self.words(level), vectors, codes, used)

    def _restart(self, level: int, vectors: Tensor) -> int:
        dead = self.use.dead(level, self.settings.dead_below)
        if dead.any():
            restart(self.words(level), vectors, dead)
            if self.running:
                self._book(level).begin(self.words(level), dead, float(self.use.recent[level].mean()))
            self.use.recent[level][dead] = self.use.recent[level].mean()
        return int(dead.sum())


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the directions in which rows [N, D] differ most.

    Returns:
        Mean [D], and the maps [count, D] to ``count`` coordinates of mean square 1 on the whole, and [D, count] back.
    """
    mean = rows.mean(0)
    centred = (rows - mean).double()
    values, directions = torch.linalg.eigh(centred.t() @ centred / len(rows))
    found = directions[:, -count:].flip(-1)
    scale = values[-count:].mean().clamp(min=1e-12).sqrt()
    return mean, (found.t() / scale).to(rows), (found * scale).to(rows)


def set_projection(conv: Any, weight: Tensor, bias: Tensor) -> None:
    """Give a 1x1 convolution under weight norm this weight [out, in] and bias [out]."""
    parts = conv.parametrizations["weight"]
    parts.original0.data.copy_(weight.norm(dim=1)[:, None, None])
    parts.original1.data.copy_(weight[:, :, None])
    conv.bias.data.copy_(bias)
