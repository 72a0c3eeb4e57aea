"""A block-causal Whisper that hears a clip while it grows: blocks that are over are encoded once.

Letters: M mel bins, T mel frames, F encoder frames, D width, H heads, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.models.speech_lm import SpeechLM

SAME_FEATURES = 2e-6  # features differ so much by rounding alone when a clip is cut into other pieces


def first_difference(one: Tensor, other: Tensor) -> int:
    """First frame or sample at which two features of the same size differ; their length if none does."""
    differs = ((one - other).abs() > SAME_FEATURES).reshape(-1, one.shape[-1]).any(dim=0)
    return int(differs.nonzero()[0]) if bool(differs.any()) else one.shape[-1]


class BlockEars:
    """Encoder and connector over one chunk of audio at a time, as ``SpeechLM.hear`` would have it but for rounding.

    What is heard is compared with what was heard last, and encoded from the first block on that differs. So each call
    costs what is new, and attention to what is old.

    Memory: the chunk's features, its states, and keys and values of all layers.

    Args:
        model: A speech LM with a Whisper encoder by blocks and a stack connector.
    """

    def __init__(self, model: SpeechLM) -> None:
        self._ears, self._connector = model.audio_encoder, model.connector
        self._block: int = self._ears.config.block_frames
        self._stack: int = self._connector.config.stack_factor
        self.clear()

    def clear(self) -> None:
        """Forget the chunk and free the memory."""
        self._features: Tensor | None = None
        self._keys: list[tuple[Tensor, Tensor]] = []  # of each layer, [1, H, F, d]
        self._states: Tensor | None = None
        self._embeddings: Tensor | None = None

    @torch.inference_mode()
    def hear(self, features: Tensor) -> Tensor:
        """Embeddings of a chunk, float [ceil(F / stack), D].

        Args:
            features: Whisper log-mel, float32 [M, T], of true length.
        """
        begin = self._num_final(features)
        new = self._encode(features, begin)
        old = self._states
        states = new if old is None or not begin else torch.cat([old[:, :begin], new], dim=1)
        first = begin // self._stack
        rest = states[:, first * self._stack :]
        frames = torch.tensor([rest.shape[1]], device=rest.device)
        embeddings: Tensor = self._connector(rest, frames)[0][0]
        if first and self._embeddings is not None:
            embeddings = torch.cat([self._embeddings[:first], embeddings])
        self._features, self._states, self._embeddings = features, states, embeddings
        return embeddings

    def _num_final(self, features: Tensor) -> int:
        """Encoder frames of the last call that are right for these features: whole blocks."""
        old = self._features
        if old is None or old.shape[0] != features.shape[0]:
            return 0
        width = min(old.shape[1], features.shape[1])
        same = first_difference(old[:, :width], features[:, :width])
        # the last frame of a block sees one mel frame of the next
        return max(0, (same - 1) // (2 * self._block)) * self._block

    def _encode(self, features: Tensor, begin: int) -> Tensor:
        """States [1, F - begin, D] of the frames from ``begin`` on."""
        encoder: Any = self._ears.encoder
        weight = encoder.conv1.weight
        start = max(0, 2 * begin - 2)  # the convolutions look back two mel frames
        x = features[None, :, start:].to(weight.device, weight.dtype)
        x = F.gelu(encoder.conv1(x))
        # in place of the padding on the left there is what comes before
        x = F.pad(x, (1, 1)) if not begin else F.pad(x[..., 1:], (0, 1))
        x = F.gelu(F.conv1d(x, encoder.conv2.weight, encoder.conv2.bias, stride=2)).transpose(1, 2)
        places = torch.arange(begin, begin + x.shape[1], device=x.device)
        x = x + encoder.embed_positions(places)
        keys = torch.arange(begin + x.shape[1], device=x.device)
        mask = keys[None] // self._block <= places[:, None] // self._block
        kept = self._keys if begin else [None] * len(encoder.layers)
        self._keys = []
        for layer, old in zip(encoder.layers, kept, strict=True):
            x = self._layer(layer, x, mask, old, begin)
        states: Tensor = encoder.layer_norm(x)
        return states

    def _layer(
        self, layer: Any, x: Tensor, mask: Tensor, old: tuple[Tensor, Tensor] | None, begin: int
    ) -> Tensor:
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(x)

        def heads(states: Tensor) -> Tensor:
            return states.view(1, states.shape[1], attention.num_heads, attention.head_dim).transpose(1, 2)

        query = heads(attention.q_proj(normed) * attention.scaling)
        key, value = heads(attention.k_proj(normed)), heads(attention.v_proj(normed))
        if old is not None:
            key = torch.cat([old[0][:, :, :begin], key], dim=2)
            value = torch.cat([old[1][:, :, :begin], value], dim=2)
        self._keys.append((key, value))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        x = x + attention.out_proj(seen.transpose(1, 2).reshape(1, x.shape[1], -1))
        x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        if x.dtype == torch.float16:
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x
