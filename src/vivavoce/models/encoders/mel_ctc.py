"""A small speech encoder with its own recogniser: log-mel -> 25 Hz states, and CTC logits over text tokens.

The auxiliary CTC head makes a small encoder learn to hear quickly, and gives a second opinion at run time: where
its greedy transcript and the language model's differ, the model has not understood.

Letters: B batch, M mel bins, T mel frames (100 Hz), F encoder frames (25 Hz), D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.base.errors import ConfigError
from vivavoce.models.layers import RMSNorm, TransformerLayer, length_mask, rotary_angles

Level = Literal["mean", "top"]
FAINT_SLOPE = 0.4
TOP_LEVEL = 0.9  # of the range: where the mean of most clips lies below the maximum


@dataclass(frozen=True)
class MelCTCConfig:
    """Sizes of the encoder.

    Attributes:
        vocab_size: Rows of the CTC head; ids are the text tokenizer's.
        blank_id: CTC blank, a token that is never in a transcript.
        range_decades: Log-mel further below the clip's maximum than this is cut (4 = 40 dB), which hides
            faint background noise.
        faint_decades: So many decades below that are squeezed to two fifths before the cut, not cut at once: on
            a telephone's band an "s" can be 60 dB below the vowel beside it.
        level: What every clip is measured from: its mean over bins and frames, or its maximum, which silence around
            it does not move.
    """

    vocab_size: int
    blank_id: int = 0
    num_mels: int = 80
    hidden_size: int = 256
    intermediate_size: int = 640
    num_layers: int = 5
    num_heads: int = 4
    range_decades: float = 4.0
    faint_decades: float = 0.0
    level: Level = "mean"

    def __post_init__(self) -> None:
        if self.range_decades <= 0 or self.faint_decades < 0:
            raise ConfigError(
                f"range_decades is {self.range_decades:g} and faint_decades {self.faint_decades:g}; wanted more "
                "than 0, and 0 or more."
            )
        if self.level not in get_args(Level):
            raise ConfigError(f"level is {self.level!r}; wanted one of {', '.join(get_args(Level))}.")


class MelCTCEncoder(nn.Module):
    """Two strided convolutions (100 -> 25 Hz), then transformer layers that see the whole clip.

    A batch gives each item what it gets alone: padding is zeroed before every convolution and masked in every
    attention.
    """

    FRAME_S = 0.04  # of log-mel at 100 Hz

    def __init__(self, config: MelCTCConfig) -> None:
        super().__init__()
        self.config, d = config, config.hidden_size
        self.hidden_size = d
        self.conv1 = nn.Conv1d(config.num_mels, d, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(d, d, 5, stride=2, padding=2)
        self.layers = nn.ModuleList(
            TransformerLayer(d, config.intermediate_size, config.num_heads) for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(d)
        self.ctc_head = nn.Linear(d, config.vocab_size)

    @staticmethod
    def num_frames(lengths: Tensor) -> Tensor:
        """Encoder frames of mel lengths, int64 [B]: two halvings, rounded up."""
        return ((lengths + 1) // 2 + 1) // 2

    def normalise(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Cut far-below-maximum values, remove each clip's level and zero the padding; [B, M, T] -> same."""
        config = self.config
        real = length_mask(lengths, features.shape[-1])[:, None]
        top = features.masked_fill(~real, -torch.inf).amax(dim=(1, 2), keepdim=True)
        least = top - config.range_decades / 4  # Whisper's log-mel is decades / 4
        x = torch.maximum(features, least - config.faint_decades / 4)
        if config.faint_decades:
            x = torch.maximum(x, least) + FAINT_SLOPE * (torch.minimum(x, least) - least)
        if config.level == "top":
            return (x - top + TOP_LEVEL * config.range_decades / 4) * 4.0 * real
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
        x = F.gelu(self.conv2(x * length_mask(half, x.shape[-1])[:, None])).transpose(1, 2)
        frames = self.num_frames(lengths)
        mask = length_mask(frames, x.shape[1])
        angles = rotary_angles(x.shape[1], self.hidden_size // self.config.num_heads, x.device)
        for layer in self.layers:
            x = layer(x, angles, mask)
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
