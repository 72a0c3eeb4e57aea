"""Stack, project, and let transformer layers look over the whole clip: the connector of Ultravox v0.7.

Source: Ultravox's second projector as vLLM runs it, with its parameter names and transformers' own Whisper layers, so
that its checkpoints fit. No reference numbers of it are public; parameter names, shapes, masks and norms are checked.

Letters: N clips, F encoder frames, P stacked positions, D width of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.connectors.stack import LlamaNorm
from vivavoce.models.layers import length_mask


@dataclass(frozen=True)
class TransformerProjectorConfig:
    """Sizes of the projector; in published models the layers are those of the speech encoder.

    Attributes:
        encoder_size: Width of the encoder's states, and of the layers.
        text_size: Width of the language model's embeddings.
        num_layers: Transformer layers.
        stack_factor: Frames put side by side; 8 makes 50 Hz into 6.25 Hz.
        num_heads: Attention heads of a layer.
        intermediate_size: Width inside a layer's network.
        activation: Of that network, a name of transformers' activation table.
        max_positions: Rows of the learned positions; only the first ones are used, as many as there are stacked
            positions.
        norm_init: First value of the gains of both outer norms.
    """

    encoder_size: int
    text_size: int
    num_layers: int
    stack_factor: int = 8
    num_heads: int = 20
    intermediate_size: int = 5120
    activation: str = "gelu"
    max_positions: int = 1500
    norm_init: float = 0.4

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ConfigError(f"num_layers is {self.num_layers}, wanted 1 or more")
        if self.encoder_size % self.num_heads:
            raise ConfigError(
                f"encoder_size is {self.encoder_size}, wanted a multiple of num_heads {self.num_heads}"
            )


class TransformerProjector(nn.Module):
    """Encoder states [N, F, D] -> embeddings [N, ceil(F / stack), D_text].

    No position attends to what is past its clip's end. Frames past it are zeroed first, so a batch gives each clip
    what it gets alone; with ``reference_padding`` they are taken as they come.
    """

    reference_padding = False

    def __init__(self, config: TransformerProjectorConfig) -> None:
        super().__init__()
        self.config, wide = config, config.encoder_size * config.stack_factor
        fields: dict[str, Any] = {
            "d_model": config.encoder_size,
            "encoder_attention_heads": config.num_heads,
            "encoder_ffn_dim": config.intermediate_size,
            "activation_function": config.activation,
            "attn_implementation": "sdpa",
        }
        self._layer_config = WhisperConfig(**fields)
        self.ln_pre = LlamaNorm(wide, config.norm_init)
        self.linear_in = nn.Linear(wide, config.encoder_size)
        self.embed_positions = nn.Embedding(config.max_positions, config.encoder_size)
        nn.init.normal_(self.embed_positions.weight, std=0.02)
        self.layers = nn.ModuleList(WhisperEncoderLayer(self._layer_config) for _ in range(config.num_layers))
        self.ln_post = LlamaNorm(config.encoder_size, config.norm_init)
        self.linear_out = nn.Linear(config.encoder_size, config.text_size)

    def num_tokens(self, frames: Tensor) -> Tensor:
        """Embeddings of each clip, int64 [N]."""
        frames = frames.amax(-1) if frames.dim() == 2 else frames
        return -(-frames // self.config.stack_factor)

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Project a batch.

        Args:
            states: float [N, F, D].
            frames: True frames, int64 [N] (or [N, K], of which the longest stream counts).

        Returns:
            Embeddings [N, P, D_text] and counts int64 [N].

        Raises:
            ModelError: A clip has more stacked positions than there are learned ones.
        """
        frames = frames.amax(-1) if frames.dim() == 2 else frames
        if not self.reference_padding:
            states = states.masked_fill(~length_mask(frames, states.shape[1])[..., None], 0)
        n, _, d = states.shape
        stack = self.config.stack_factor
        x = F.pad(states, (0, 0, 0, -states.shape[1] % stack)).reshape(n, -1, d * stack)
        if x.shape[1] > self.config.max_positions:
            raise ModelError(
                f"a clip has {x.shape[1]} stacked positions; this connector has learned positions for "
                f"{self.config.max_positions}. Cut clips into chunks of the encoder's context."
            )
        x = self.linear_in(self.ln_pre(x))
        x = x + self.embed_positions(torch.arange(x.shape[1], device=x.device))
        counts = self.num_tokens(frames)
        mask = create_bidirectional_mask(self._layer_config, x, length_mask(counts, x.shape[1]))
        for layer in self.layers:
            x = layer(x, mask)
        return self.linear_out(self.ln_post(x)), counts
