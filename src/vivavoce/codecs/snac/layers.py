"""Building blocks of the SNAC network, under the state-dict names of published checkpoints.

These modules are the plain, differentiable form: training and tests run them. Inference runs the same weights
through the streaming stages of :mod:`vivavoce.codecs.snac.stages`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from vivavoce.codecs.snac.noise import NoiseSource

SNAKE_EPSILON = 1e-9
DILATIONS = (1, 3, 9)
HEAD_WIDTH = 64


class CausalConv1d(nn.Conv1d):
    """A convolution with all its padding on the left: an output looks only back."""

    @property
    def left(self) -> int:
        """Zeros before the start, so that T inputs give ``T / stride`` outputs."""
        return (self.kernel_size[0] - 1) * self.dilation[0] + 1 - self.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.left, 0)))


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """A transposed convolution cut on the right, so that an output needs no later input."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x, output_size)[..., : x.shape[-1] * self.stride[0]]


def normed_conv(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
    causal: bool = False,
) -> nn.Module:
    """A 1-D convolution under weight norm (keys ``parametrizations.weight.original0`` and ``original1``)."""
    kind, padding = (CausalConv1d, 0) if causal else (nn.Conv1d, padding)
    return parametrizations.weight_norm(
        kind(inputs, outputs, kernel, stride, padding, dilation, groups, bias)
    )


def same_conv(
    channels_in: int, channels_out: int, dilation: int = 1, groups: int = 1, causal: bool = False
) -> nn.Module:
    """A kernel-7 convolution that keeps the length."""
    return normed_conv(
        channels_in, channels_out, 7, dilation=dilation, padding=3 * dilation, groups=groups, causal=causal
    )


def up_conv(inputs: int, outputs: int, rate: int, causal: bool = False) -> nn.Module:
    """A transposed convolution, kernel ``2 * rate``, that makes the length exactly ``rate`` times longer."""
    conv: nn.Module
    if causal:
        conv = CausalConvTranspose1d(inputs, outputs, 2 * rate, rate)
    else:
        conv = nn.ConvTranspose1d(
            inputs, outputs, 2 * rate, rate, padding=(rate + 1) // 2, output_padding=rate % 2
        )
    return parametrizations.weight_norm(conv)


def fold_weight_norm(network: nn.Module) -> None:
    """Replace every weight-normed weight by its value, ``g * v / |v|``; a weight with ``g = |v|`` stays as it is."""
    for part in list(network.modules()):
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d) and parametrize.is_parametrized(part, "weight"):
            originals: Any = part.parametrizations["weight"]  # type: ignore[index]
            magnitude, direction = originals.original0.detach(), originals.original1.detach()
            weight = direction * (magnitude / torch.norm_except_dim(direction, 2, 0))
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
            with torch.no_grad():
                part.weight.copy_(weight)


class Snake(nn.Module):
    """Periodic activation ``x + sin^2(alpha x) / (alpha + 1e-9)``, one slope per channel, on [B, C, T].

    Source: Ziyin et al. 2020, eq. 3; the guard term is that of published checkpoints.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x).square() / (self.alpha + SNAKE_EPSILON)


class ResidualUnit(nn.Module):
    """Snake, dilated kernel-7 convolution, snake, 1x1 convolution, plus the input; [B, C, T] to the same."""

    def __init__(self, channels: int, dilation: int, groups: int, causal: bool = False) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            same_conv(channels, channels, dilation, groups, causal),
            Snake(channels),
            normed_conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class NoiseBlock(nn.Module):
    """``x + n * linear(x)`` with one noise value per time step, shared by all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = normed_conv(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add scaled noise.

        Args:
            x: [B, C, T].
            noise: [T], or [B, 1, T] to give each item its own.
        """
        return x + noise.to(x) * self.linear(x)


class RotaryTable(nn.Module):
    """Rotary frequencies; ``inv_freq`` is a stored buffer in published checkpoints."""

    inv_freq: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / 10000.0 ** (torch.arange(0, width, 2).float() / width))

    def forward(self, steps: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each [steps, width]."""
        position = torch.arange(steps, device=self.inv_freq.device).to(self.inv_freq.dtype)
        angles = torch.outer(position, self.inv_freq).repeat(1, 2)
        return angles.cos(), angles.sin()


class LocalAttention(nn.Module):
    """Full self-attention inside non-overlapping windows; positions restart in every window.

    Args:
        width: Channels, a multiple of 64 (one head per 64).
        window: Steps per window.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.rel_pos = RotaryTable(HEAD_WIDTH)
        self.to_out = nn.Linear(width, width, bias=False)
        self.window, self.num_heads = window, width // HEAD_WIDTH

    def windows(self, x: Tensor) -> Tensor:
        """Attend inside each window.

        Args:
            x: [N, window, C], N windows.

        Returns:
            [N, window, C], the input added.
        """
        count, steps, width = x.shape
        qkv = self.to_qkv(self.norm(x)).view(count, steps, 3, self.num_heads, HEAD_WIDTH)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        cos, sin = self.rel_pos(steps)
        mixed = F.scaled_dot_product_attention(_rotate(query, cos, sin), _rotate(key, cos, sin), value)
        return x + self.to_out(mixed.transpose(1, 2).reshape(count, steps, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] to the same; T is a multiple of the window."""
        batch, width, steps = x.shape
        rows = x.transpose(1, 2).reshape(-1, self.window, width)
        return self.windows(rows).view(batch, steps, width).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (i, i + width/2) of [..., steps, width] by their angles."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class EncoderBlock(nn.Module):
    """Three residual units, snake, strided convolution: [B, C, T] to [B, 2C, T / rate]."""

    def __init__(self, channels: int, rate: int, depthwise: bool, causal: bool = False) -> None:
        super().__init__()
        groups = channels if depthwise else 1
        self.block = nn.Sequential(
            *(ResidualUnit(channels, d, groups, causal) for d in DILATIONS),
            Snake(channels),
            normed_conv(
                channels, 2 * channels, 2 * rate, stride=rate, padding=(rate + 1) // 2, causal=causal
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class DecoderBlock(nn.Module):
    """Snake, transposed convolution, noise, three residual units: [B, C, T] to [B, C/2, T * rate]."""

    def __init__(self, channels: int, rate: int, noise: bool, depthwise: bool, causal: bool = False) -> None:
        super().__init__()
        outputs = channels // 2
        groups = outputs if depthwise else 1
        parts: list[nn.Module] = [Snake(channels), up_conv(channels, outputs, rate, causal)]
        if noise:
            parts.append(NoiseBlock(outputs))
        self.block = nn.Sequential(*parts, *(ResidualUnit(outputs, d, groups, causal) for d in DILATIONS))

    def forward(self, x: Tensor, noise: NoiseSource | None = None, index: int = 0) -> Tensor:
        for part in self.block:
            if not isinstance(part, NoiseBlock):
                x = part(x)
            elif noise is not None:
                x = part(x, noise(index, 0, x.shape[-1]))
        return x
