"""A cache layer of transformers that grows by doubling instead of by a copy per token.

Letters: B batch, H heads, n new positions, L positions, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from vivavoce.inference.batching.rows import room_for


class GrowingLayer(DynamicLayer):
    """Keys and values [B, H, L, d] in buffers with room to spare; equal to ``DynamicLayer`` in all it returns.

    ``keys`` and ``values`` are views of the buffers. A step writes n positions instead of copying all L.
    """

    keys: Any  # None at first
    values: Any

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._reserve(key_states, value_states, room_for(key_states.shape[-2]), 0)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Append [B, H, n, d]; returns all keys and values, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.keys.shape[-2]
        new = old + key_states.shape[-2]
        if new > self._key_buffer.shape[-2]:
            self._reserve(self.keys, self.values, room_for(new), old)
        self._key_buffer[:, :, old:new] = key_states
        self._value_buffer[:, :, old:new] = value_states
        self._view(new)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.keys.shape[-2] if self.is_initialized else 0

    def crop_to(self, length: int) -> None:
        """Keep the first ``length`` positions, and only the memory they need."""
        if self.is_initialized and length < self.keys.shape[-2]:
            if room_for(length) < self._key_buffer.shape[-2]:
                self._reserve(self.keys[:, :, :length], self.values[:, :, :length], room_for(length), length)
            self._view(length)

    def crop(self, tokens_to_remove: int) -> None:
        self.crop_to(self.get_seq_length() - abs(tokens_to_remove))

    def reorder_cache(self, beam_idx: Any) -> None:
        super().reorder_cache(beam_idx)
        self._adopt()

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._adopt()

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._adopt()

    def copy(self) -> GrowingLayer:
        """The same positions in memory of their own."""
        other = GrowingLayer()
        if self.is_initialized:
            other.lazy_initialization(self.keys, self.values)
            other.update(self.keys, self.values)
        return other

    @classmethod
    def of(cls, layer: DynamicLayer) -> GrowingLayer:
        """What a plain dynamic layer holds, as a growing one."""
        grown = cls()
        if layer.keys is not None and layer.values is not None and layer.get_seq_length():
            grown.update(layer.keys, layer.values)
        return grown

    def _adopt(self) -> None:
        """Go on from keys and values that are other tensors now."""
        if self.is_initialized:
            length = self.keys.shape[-2]
            self._reserve(self.keys, self.values, room_for(length), length)
            self._view(length)

    def _reserve(self, keys: Tensor, values: Tensor, room: int, kept: int) -> None:
        made = []
        for states in (keys, values):
            batch, heads, _, width = states.shape
            buffer = torch.empty(batch, heads, room, width, dtype=states.dtype, device=states.device)
            buffer[:, :, :kept] = states[:, :, :kept]
            made.append(buffer)
        self._key_buffer, self._value_buffer = made
        self._view(kept)

    def _view(self, length: int) -> None:
        self.keys, self.values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]
