"""Any causal LM of transformers by its own modules: one row at a time, or steps of several rows together.

Letters: B rows, H heads, L positions, d head width, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from vivavoce.base.errors import SessionError
from vivavoce.inference.batching.growing import GrowingLayer
from vivavoce.inference.batching.rows import Backbone, CachedSequence, Row


class ModuleSequence(CachedSequence):
    """Holds whatever cache the LM makes; layers that hold every position are made to grow by doubling."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.cache: Any = None

    @property
    def growing(self) -> bool:
        """Whether every layer holds every position; other caches cannot be cut or joined."""
        layers = getattr(self.cache, "layers", ())
        return len(layers) > 0 and all(type(layer) is GrowingLayer for layer in layers)

    def take(self, cache: Any, length: int) -> None:
        """Keep what the LM gave back."""
        layers = getattr(cache, "layers", [])
        if any(type(layer) is DynamicLayer for layer in layers):
            cache.layers = [GrowingLayer.of(x) if type(x) is DynamicLayer else x for x in layers]
        self.cache, self.length = cache, length

    def crop(self, length: int) -> int:
        if length >= self.length:
            return self.length
        if length > 0 and self.growing:
            self.undo(length)
            self.length = length
        else:
            self.clear()
        return self.length

    def undo(self, length: int) -> None:
        """Cut what a forward wrote before it failed."""
        for layer in self.cache.layers:
            layer.crop_to(length)

    def fork(self) -> ModuleSequence:
        other = ModuleSequence(self.backbone)
        other.length = self.length
        if self.growing:
            other.cache = copy.copy(self.cache)
            other.cache.layers = [layer.copy() for layer in self.cache.layers]
        else:
            other.cache = copy.deepcopy(self.cache)
        return other

    def clear(self) -> None:
        self.cache, self.length = None, 0


class ModuleBackbone(Backbone):
    """The LM as it is.

    Args:
        language_model: A causal LM of transformers.
        together: Steps of several rows go through the LM in one forward, by padding their keys. Right only where the
            LM does nothing with a cache but attend to it under a mask; ``choose`` finds out by trying.
    """

    def __init__(self, language_model: Any, together: bool = False) -> None:
        super().__init__(language_model)
        self.together = together

    def open(self) -> ModuleSequence:
        return ModuleSequence(self)

    def fits(self) -> bool:
        return True

    def joins(self, row: Row) -> bool:
        return self.together and len(row) == 1 and row.sequence.growing

    def forward(self, rows: list[Row]) -> list[Tensor]:
        if len(rows) > 1 and all(self.joins(row) for row in rows) and len({row.logits for row in rows}) == 1:
            return self._step(rows)
        return [self._alone(row) for row in rows]

    def _alone(self, row: Row) -> Tensor:
        sequence: ModuleSequence = row.sequence
        sequence.check_open()
        given = {"past_key_values": sequence.cache, "use_cache": True}
        try:
            out, values = self._run(row.logits, row.keep, self.embedded(row)[None], **given)
        except BaseException:
            if sequence.cache is not None:
                sequence.undo(sequence.length) if sequence.growing else sequence.close()
            raise
        if out.past_key_values is None:
            raise SessionError(f"{type(self.language_model).__name__} gives no cache; generation needs one.")
        sequence.take(out.past_key_values, sequence.length + len(row))
        return values[0]

    def _step(self, rows: list[Row]) -> list[Tensor]:
        """One new position of each row: everything in one forward, keys and values padded to the longest."""
        sequences: list[ModuleSequence] = [row.sequence for row in rows]
        for sequence in sequences:
            sequence.check_open()
        lengths = torch.tensor([sequence.length for sequence in sequences])
        embeddings = torch.stack([self.embedded(row) for row in rows])
        longest = int(lengths.max()) + 1
        hidden = torch.arange(longest)[None] > lengths[:, None]
        mask = torch.zeros(len(rows), 1, 1, longest, dtype=embeddings.dtype)
        mask.masked_fill_(hidden[:, None, None], torch.finfo(embeddings.dtype).min)
        try:
            _, values = self._run(
                rows[0].logits,
                1,
                embeddings,
                attention_mask=mask.to(embeddings.device),
                position_ids=lengths[:, None].to(embeddings.device),
                past_key_values=RowsCache(sequences, longest),
                use_cache=True,
            )
        except BaseException:
            for sequence in sequences:
                sequence.undo(sequence.length)
            raise
        for sequence in sequences:
            sequence.length += 1
        return list(values)

    def _run(self, logits: bool, keep: int, embeddings: Tensor, **given: Any) -> tuple[Any, Tensor]:
        """The LM's output and its last ``keep`` logits [B, keep, V] or states [B, keep, D]."""
        if logits:
            out = self.language_model(inputs_embeds=embeddings, logits_to_keep=keep, **given)
            return out, out.logits[:, -keep:]
        out = self.language_model.get_decoder()(inputs_embeds=embeddings, **given)
        return out, out.last_hidden_state[:, -keep:]


class RowsLayer(CacheLayerMixin):
    """One layer of several sequences for one step: writes to each one's own, gives them padded."""

    is_sliding = False

    def __init__(self, layers: list[GrowingLayer], longest: int) -> None:
        super().__init__()
        self._layers, self._longest = layers, longest
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Take [B, H, 1, d]; returns keys and values [B, H, L, d], zeros after a row's own."""
        keys = key_states.new_zeros(*key_states.shape[:2], self._longest, key_states.shape[-1])
        values = value_states.new_zeros(*value_states.shape[:2], self._longest, value_states.shape[-1])
        for i, layer in enumerate(self._layers):
            own = layer.update(key_states[i : i + 1], value_states[i : i + 1])
            length = own[0].shape[-2]
            keys[i, :, :length], values[i, :, :length] = own[0][0], own[1][0]
        return keys, values

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        return self._longest, 0

    def get_seq_length(self, *args: Any) -> int:
        return self._longest - 1

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before 5.20


class RowsCache(Cache):
    """The caches of several sequences as one, for one step."""

    def __init__(self, sequences: list[ModuleSequence], longest: int) -> None:
        each = [sequence.cache.layers for sequence in sequences]
        super().__init__(layers=[RowsLayer(list(layers), longest) for layers in zip(*each, strict=True)])
