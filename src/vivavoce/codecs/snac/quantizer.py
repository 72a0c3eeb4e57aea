"""Residual vector quantisation at several rates: latents to codes and back.

Latents are rows, [..., T, D] with channels last.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.codecs.snac.config import SNACConfig
from vivavoce.codecs.snac.layers import normed_conv


def project(conv: nn.Module, rows: Tensor) -> Tensor:
    """Apply a 1x1 convolution to rows."""
    conv = cast(nn.Conv1d, conv)
    return F.linear(rows, conv.weight[:, :, 0], conv.bias)


class VectorQuantizer(nn.Module):
    """One level: nearest codeword by angle in a narrow space; the raw codeword is projected back."""

    def __init__(self, width: int, config: SNACConfig) -> None:
        super().__init__()
        self.in_proj = normed_conv(width, config.codebook_dim, 1)
        self.out_proj = normed_conv(config.codebook_dim, width, 1)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def nearest(self, rows: Tensor) -> Tensor:
        """Latents [..., T, D] to code indices int64 [..., T]. Only the lookup is normalised."""
        return self.nearest_of(project(self.in_proj, rows))

    def nearest_of(self, vectors: Tensor) -> Tensor:
        """Projected latents [..., T, D'] to code indices int64 [..., T]."""
        angle = F.normalize(vectors, dim=-1)
        return (angle @ F.normalize(self.codebook.weight, dim=-1).t()).argmax(-1)

    def embed(self, codes: Tensor) -> Tensor:
        """Code indices [..., T] to latents [..., T, D]."""
        return project(self.out_proj, self.codebook(codes))


class ResidualQuantizer(nn.Module):
    """Levels at falling strides; each quantises what the coarser ones left.

    Source: SNAC (Siuzdak et al. 2024), section 3.1.
    """

    def __init__(self, config: SNACConfig) -> None:
        super().__init__()
        self.width, self.strides = config.encoder_width, tuple(config.vq_strides)
        self.quantizers = nn.ModuleList(VectorQuantizer(self.width, config) for _ in self.strides)

    def levels(self) -> list[tuple[int, VectorQuantizer]]:
        """Stride and quantizer of each level, coarse to fine."""
        return [(s, cast(VectorQuantizer, q)) for s, q in zip(self.strides, self.quantizers, strict=True)]

    def encode(self, rows: Tensor) -> list[Tensor]:
        """Latents [..., T, D], T whole coarse frames, to one int64 [..., T / stride] per level."""
        levels = []
        for stride, level in self.levels():
            codes = level.nearest(rows.unflatten(-2, (-1, stride)).mean(-2))
            rows = rows - level.embed(codes).repeat_interleave(stride, dim=-2)
            levels.append(codes)
        return levels

    def embed(self, levels: list[Tensor]) -> Tensor:
        """Codes of all levels, each [..., T / stride], to latents [..., T, D]; one product for all levels."""
        words, weights = [], []
        bias: Tensor | float = 0.0
        for (stride, level), codes in zip(self.levels(), levels, strict=True):
            steps = codes.unsqueeze(-1).expand(*codes.shape, stride).flatten(-2)
            words.append(level.codebook(steps))
            conv = cast(nn.Conv1d, level.out_proj)
            weights.append(conv.weight[:, :, 0])
            bias = bias + cast(Tensor, conv.bias)
        return F.linear(torch.cat(words, -1), torch.cat(weights, 1), cast(Tensor, bias))
