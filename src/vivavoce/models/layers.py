"""Layers that the project's own audio parts share: a norm, rotary positions and a pre-norm transformer layer.

Letters: B batch, L positions, D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Angles = tuple[Tensor, Tensor]


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """True where a position is real: lengths [B] -> bool [B, size]."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def rotary_angles(size: int, dim: int, device: torch.device, theta: float = 10_000.0) -> Angles:
    """Cosines and sines of rotary positions, each [size, dim / 2]."""
    inverse = theta ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    angles = torch.arange(size, device=device).float()[:, None] * inverse
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Apply rotary positions to half-split pairs: [B, H, L, d] -> same."""
    cos, sin = (t.to(x.dtype) for t in angles)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class RMSNorm(nn.Module):
    """RMS norm in the dtype of its input, so that mixed precision keeps one fused kernel."""

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class TransformerLayer(nn.Module):
    """Pre-norm layer: rotary self-attention (all positions, or causal) and a SwiGLU network."""

    def __init__(self, size: int, intermediate_size: int, num_heads: int, causal: bool = False) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.attention_norm = RMSNorm(size)
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.network_norm = RMSNorm(size)
        self.gate_up = nn.Linear(size, 2 * intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, size, bias=False)

    def forward(self, x: Tensor, angles: Angles, mask: Tensor | None = None) -> Tensor:
        """x [B, L, D], angles of L positions, mask bool [B, L] (True is real) -> [B, L, D]."""
        b, n, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, n, 3, self.num_heads, d // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        keep = None if mask is None else mask[:, None, None, :]
        q, k = rotate(q, angles), rotate(k, angles)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, d))
        gate, up = self.gate_up(self.network_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def step(self, x: Tensor, angles: Angles, past: Angles | None) -> tuple[Tensor, Angles]:
        """Take one more position as ``forward`` with ``causal`` would.

        Args:
            x: float [B, D].
            angles: Of this position, each [1, d / 2].
            past: Keys and values [B, H, L, d] of the positions before; None at the first.

        Returns:
            float [B, D], and keys and values [B, H, L + 1, d].
        """
        b, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, 3, self.num_heads, 1, d // self.num_heads)
        turned, v = rotate(qkv[:, :2], angles), qkv[:, 2]
        q, k = turned[:, 0], turned[:, 1]
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).reshape(b, d))
        gate, up = self.gate_up(self.network_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up), (k, v)
