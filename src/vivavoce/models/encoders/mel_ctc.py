"""A small speech encoder with its own recogniser: log-mel -> 25 Hz states, and CTC logits over text tokens.

The auxiliary CTC head makes a small encoder learn to hear quickly, and gives a second opinion at run time: where
its greedy transcript and the language model's differ, the model has not understood.

Letters: B batch, M mel bins, T mel frames (100 Hz), F encoder frames (25 Hz), D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class MelCTCConfig:
    """Sizes of the encoder.

    Attributes:
        vocab_size: Rows of the CTC head; ids are the text tokenizer's.
        blank_id: CTC blank, a token that is never in a transcript.
        range_decades: Log-mel further below the clip's maximum than this is cut (4 = 40 dB), which hides
            faint background noise.
    """

    vocab_size: int
    blank_id: int = 0
    num_mels: int = 80
    hidden_size: int = 256
    intermediate_size: int = 640
    num_layers: int = 5
    num_heads: int = 4
    range_decades: float = 4.0


def frame_mask(lengths: Tensor, size: int) -> Tensor:
    """True where a frame is real: lengths [B] -> bool [B, size]."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def rotary_angles(size: int, dim: int, device: torch.device, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions, each [size, dim / 2]."""
    inverse = theta ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    angles = torch.arange(size, device=device).float()[:, None] * inverse
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions to half-split pairs: [B, H, F, d] -> same."""
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


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer over the whole clip: rotary self-attention and a SwiGLU network."""

    def __init__(self, config: MelCTCConfig) -> None:
        super().__init__()
        d, self.num_heads = config.hidden_size, config.num_heads
        self.attention_norm = RMSNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.network_norm = RMSNorm(d)
        self.gate_up = nn.Linear(d, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, d, bias=False)

    def forward(self, x: Tensor, mask: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """x [B, F, D], mask bool [B, F] -> [B, F, D]."""
        b, f, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, f, 3, self.num_heads, d // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            rotate(q, angles), rotate(k, angles), v, attn_mask=mask[:, None, None, :]
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(b, f, d))
        gate, up = self.gate_up(self.network_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class MelCTCEncoder(nn.Module):
    """Two strided convolutions (100 -> 25 Hz), then transformer layers that see the whole clip.

    A batch gives each item what it gets alone: padding is zeroed before every convolution and masked in every
    attention.
    """

    def __init__(self, config: MelCTCConfig) -> None:
        super().__init__()
        self.config, d = config, config.hidden_size
        self.hidden_size = d
        self.conv1 = nn.Conv1d(config.num_mels, d, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(d, d, 5, stride=2, padding=2)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(d)
        self.ctc_head = nn.Linear(d, config.vocab_size)

    @staticmethod
    def num_frames(lengths: Tensor) -> Tensor:
        """Encoder frames of mel lengths, int64 [B]: two halvings, rounded up."""
        return ((lengths + 1) // 2 + 1) // 2

    def normalise(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Cut far-below-maximum values, remove each clip's mean and zero the padding; [B, M, T] -> same."""
        real = frame_mask(lengths, features.shape[-1])[:, None]
        top = features.masked_fill(~real, -torch.inf).amax(dim=(1, 2), keepdim=True)
        x = torch.maximum(features, top - self.config.range_decades / 4)  # Whisper's log-mel is decades / 4
        mean = (x * real).sum(dim=(1, 2), keepdim=True) / (lengths.clamp(min=1)[:, None, None] * x.shape[1])
        return (x - mean) * 4.0 * real

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of log-mel features.

        Args:
            features: Whisper log-mel [B, M, T], 100 Hz.
            lengths: True mel frames, int64 [B], each >= 1.

        Returns:
            States [B, F, D] (zero past an item's end) and frames int64 [B].
        """
        half = (lengths + 1) // 2
        x = F.gelu(self.conv1(self.normalise(features.float(), lengths).to(self.conv1.weight.dtype)))
        x = F.gelu(self.conv2(x * frame_mask(half, x.shape[-1])[:, None])).transpose(1, 2)
        frames = self.num_frames(lengths)
        mask = frame_mask(frames, x.shape[1])
        angles = rotary_angles(x.shape[1], self.hidden_size // self.config.num_heads, x.device)
        for layer in self.layers:
            x = layer(x, mask, angles)
        return self.norm(x) * mask[..., None], frames

    def ctc_logits(self, states: Tensor) -> Tensor:
        """States [B, F, D] -> logits [B, F, V]."""
        return self.ctc_head(states)

    @torch.inference_mode()
    def greedy_tokens(self, states: Tensor, frames: Tensor) -> list[list[int]]:
        """The recogniser's own transcript: best token per frame, repeats merged, blanks dropped."""
        best = self.ctc_logits(states).argmax(-1)
        out = []
        for row, count in zip(best.tolist(), frames.tolist(), strict=True):
            kept, previous = [], self.config.blank_id
            for token in row[:count]:
                if token != previous and token != self.config.blank_id:
                    kept.append(token)
                previous = token
            out.append(kept)
        return out
