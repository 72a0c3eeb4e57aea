"""Stack-and-project: neighbouring encoder frames side by side, then a gated two-layer projection.

Source: Ultravox's projector (fixie-ai, MIT), with its parameter names so that its checkpoints fit: the gate is
the SECOND half of ``linear_1``'s output, the reverse of Llama's order, and norms follow Llama's (float32
statistics, gain after the cast back).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from vivavoce.base.errors import ConfigError


@dataclass(frozen=True)
class StackConfig:
    """Sizes of the projector.

    Attributes:
        encoder_size: Width of the encoder's states.
        text_size: Width of the language model's embeddings.
        stack_factor: Frames put side by side; 8 makes 50 Hz into 6.25 Hz.
        hidden_size: Width of ``linear_1``'s output; "swiglu" halves it.
        activation: "swiglu" or a name of transformers' activation table.
        norm: "mid" (v0.5 on: after the activation) or "post" (up to v0.4.1: after ``linear_2``).
        ctc_words: Add to each embedding what the encoder's CTC head reads there: the text embeddings of its
            tokens, weighted by their probability (the blank gives nothing). For encoders whose CTC head speaks
            the language model's tokens; a small model then sees words and not only sound.
    """

    encoder_size: int
    text_size: int
    stack_factor: int = 8
    hidden_size: int = 4096
    activation: str = "swiglu"
    norm: Literal["mid", "post"] = "mid"
    norm_init: float = 0.4
    ctc_words: bool = False


class LlamaNorm(nn.Module):
    """RMS norm with float32 statistics, scaled after the cast back."""

    def __init__(self, size: int, init: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.full((size,), init)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class StackProjector(nn.Module):
    """Encoder states [B, F, D] -> embeddings [B, ceil(F / stack), D_text].

    Frames past an item's end are zeroed first, so a batch gives each item what it gets alone; with
    ``reference_padding`` they are taken as they come, as Ultravox does.
    """

    reference_padding = False

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        if config.norm not in ("mid", "post"):
            raise ConfigError(f"connector norm is {config.norm!r}; wanted 'mid' or 'post'.")
        self.config = config
        wide = config.encoder_size * config.stack_factor
        inner = config.hidden_size // 2 if config.activation == "swiglu" else config.hidden_size
        self.ln_pre = LlamaNorm(wide, config.norm_init)
        self.linear_1 = nn.Linear(wide, config.hidden_size, bias=False)
        self.linear_2 = nn.Linear(inner, config.text_size, bias=False)
        if config.norm == "mid":
            self.ln_mid = LlamaNorm(inner, config.norm_init)
        else:
            self.ln_post = LlamaNorm(config.text_size, config.norm_init)
        if config.ctc_words:
            self.ctc_scale = nn.Parameter(torch.ones(1))

    def add_ctc_words(
        self, embeddings: Tensor, logits: Tensor, frames: Tensor, table: Tensor, blank_id: int
    ) -> Tensor:
        """Mix in the words that CTC reads.

        Args:
            embeddings: What ``forward`` returned, [B, F', D_text].
            logits: CTC logits [B, F, V]; no gradient goes through them.
            frames: True encoder frames, int64 [B].
            table: Text embeddings [V, D_text].
            blank_id: The CTC blank.

        Returns:
            [B, F', D_text].
        """
        weights = torch.softmax(logits.detach().float(), dim=-1)
        weights[..., blank_id] = 0
        b, f, v = weights.shape
        weights = weights * (torch.arange(f, device=frames.device)[None] < frames[:, None])[..., None]
        stack = self.config.stack_factor
        weights = F.pad(weights, (0, 0, 0, -f % stack)).view(b, -1, stack, v).sum(2)
        return embeddings + self.ctc_scale * (weights.to(table.dtype) @ table).to(embeddings.dtype)

    def num_tokens(self, frames: Tensor) -> Tensor:
        """Embeddings of each item, int64 [B]."""
        frames = frames.amax(-1) if frames.dim() == 2 else frames
        return -(-frames // self.config.stack_factor)

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """states [B, F, D], frames int64 [B] -> (embeddings [B, F', D_text], counts int64 [B])."""
        b, f, d = states.shape
        frames = frames.amax(-1) if frames.dim() == 2 else frames
        if not self.reference_padding:
            real = torch.arange(f, device=frames.device)[None] < frames[:, None]
            states = states.masked_fill(~real[..., None], 0)
        x = F.pad(states, (0, 0, 0, -f % self.config.stack_factor))
        x = self.linear_1(self.ln_pre(x.reshape(b, -1, d * self.config.stack_factor)))
        if self.config.activation == "swiglu":
            value, gate = x.chunk(2, dim=-1)
            x = F.silu(gate) * value
        else:
            x = ACT2FN[self.config.activation](x)
        x = self.linear_2(self.ln_mid(x)) if self.config.norm == "mid" else self.ln_post(self.linear_2(x))
        return x, self.num_tokens(frames)
