"""The Llama family without its modules: a few calls into torch per layer, for rows of any lengths together.

A small model's step is bound by the overhead of Python, and most of it is modules, masks and cache classes. Here a
step is plain functions on fused weights. All but attention runs over the new positions of all rows at once; attention
runs per row on the row's own keys and values, so rows need no padding and no common capacity.

Letters: n new positions of a row, N of all rows, L positions, H query heads, G key-value heads, d head width, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.inference.batching.lean_weights import LeanWeights
from vivavoce.inference.batching.rows import JOINED, Backbone, CachedSequence, Row, room_for


class LeanSequence(CachedSequence):
    """Keys and values of all layers in one buffer [layers, 2, 1, G, room, d].

    Args:
        backbone: Its weights say how big a position is.
    """

    def __init__(self, backbone: LeanBackbone) -> None:
        super().__init__(backbone)
        weights = backbone.weights
        self._shape = weights.num_layers, 2, 1, weights.num_key_heads
        self._width, self._like = weights.head_dim, weights.norm
        self._buffer = self._made(0)

    def crop(self, length: int) -> int:
        if length < self.length:
            self.length = length
            if room_for(length) < self._buffer.shape[-2]:
                self._resize(room_for(length))
        return self.length

    def fork(self) -> LeanSequence:
        other = object.__new__(LeanSequence)
        other.__dict__.update(self.__dict__)
        other._resize(self._buffer.shape[-2])
        return other

    def clear(self) -> None:
        self.length, self._buffer = 0, self._made(0)

    def places(self, count: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Where ``count`` new keys and values go in each layer, and all there will be.

        Returns:
            Of each layer [2, 1, G, n, d], or [2, 1, G, d] for one; and keys, then values, of each layer [1, G, L, d].
        """
        new = self.length + count
        if new > self._buffer.shape[-2]:
            self._resize(room_for(new))
        known = self._buffer.narrow(4, 0, new).flatten(0, 1).unbind(0)
        if count == 1:
            return self._buffer.select(4, self.length).unbind(0), known
        return self._buffer.narrow(4, self.length, count).unbind(0), known

    def _made(self, room: int) -> Tensor:
        return self._like.new_empty(*self._shape, room, self._width)

    def _resize(self, room: int) -> None:
        buffer = self._made(room)
        buffer[..., : self.length, :] = self._buffer[..., : self.length, :]
        self._buffer = buffer


class LeanBackbone(Backbone):
    """Runs a model of the Llama family by plain functions.

    Args:
        language_model: ``lean_weights.why_not`` found nothing against it.
    """

    def __init__(self, language_model: Any) -> None:
        super().__init__(language_model)
        self.weights = LeanWeights(language_model)

    def open(self) -> LeanSequence:
        return LeanSequence(self)

    def fits(self) -> bool:
        return self.weights.current(self.language_model)

    def joins(self, row: Row) -> bool:
        return len(row) <= JOINED

    def forward(self, rows: list[Row]) -> list[Tensor]:
        for row in rows:
            row.sequence.check_open()
        counts = [len(row) for row in rows]
        states = self._states([row.sequence for row in rows], self._embedded(rows), counts)
        for row, count in zip(rows, counts, strict=True):
            row.sequence.length += count
        return self._results(rows, states, counts)

    def _embedded(self, rows: list[Row]) -> Tensor:
        """float [N, D]."""
        w = self.weights
        if all(row.embeddings is None for row in rows):
            ids = torch.tensor([i for row in rows for i in row.ids or ()], device=w.table.device)
            return F.embedding(ids, w.table)
        given = [self.embedded(row).to(w.norm.dtype) for row in rows]
        return given[0] if len(given) == 1 else torch.cat(given)

    def _results(self, rows: list[Row], states: Tensor, counts: list[int]) -> list[Tensor]:
        w, ends, at = self.weights, [], 0
        for count in counts:
            at += count
            ends.append(at)
        if all(row.keep == 1 for row in rows):
            last = states if len(rows) == len(states) else states[torch.tensor(ends) - 1]
            last = F.rms_norm(last, w.width, w.norm, w.eps)
            if all(row.logits for row in rows):
                return list(F.linear(last, w.head, w.head_bias).split(1))
            if not any(row.logits for row in rows):
                return list(last.split(1))
        made = []
        for row, end in zip(rows, ends, strict=True):
            last = F.rms_norm(states[end - row.keep : end], w.width, w.norm, w.eps)
            made.append(F.linear(last, w.head, w.head_bias) if row.logits else last)
        return made

    def _states(self, sequences: list[LeanSequence], x: Tensor, counts: list[int]) -> Tensor:
        """Embeddings [N, D] -> states of the last layer before its norm [N, D]."""
        w = self.weights
        heads, key_heads, d = w.num_heads, w.num_key_heads, w.head_dim
        turned = heads + key_heads
        cos, sin = w.angles([sequence.length for sequence in sequences], counts)
        places = [s.places(count) for s, count in zip(sequences, counts, strict=True)]
        masks = [_mask(s.length, count, x) for s, count in zip(sequences, counts, strict=True)]
        single = len(x) == len(sequences)
        for number, layer in enumerate(w.layers):
            h = F.rms_norm(x, w.width, layer.norm_in, w.eps)
            qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(-1, turned + key_heads, d)
            qk = qkv[:, :turned]
            if layer.norm_q is not None:
                qk[:, :heads] = F.rms_norm(qk[:, :heads], w.head_width, layer.norm_q, w.eps)
                qk[:, heads:] = F.rms_norm(qk[:, heads:], w.head_width, layer.norm_k, w.eps)
            crossed = qk.roll(d // 2, -1)
            qk.mul_(cos).addcmul_(crossed, sin)
            if single:  # one new position in each row
                queries = qkv[:, :heads].unflatten(1, (1, key_heads, -1)).unbind(0)
                fresh = qkv[:, heads:].unflatten(1, (2, 1, key_heads)).unbind(0)
                mixed = []
                for (new, known), q, kv in zip(places, queries, fresh, strict=True):
                    new[number].copy_(kv)
                    keys, values = known[2 * number], known[2 * number + 1]
                    mixed.append(F.scaled_dot_product_attention(q, keys, values, scale=w.scale))
                attended = (mixed[0] if len(mixed) == 1 else torch.cat(mixed)).view(-1, heads * d)
            else:
                attended = self._attended(number, qkv, places, masks, counts)
            x = x + F.linear(attended, layer.out, layer.out_bias)
            h = F.rms_norm(x, w.width, layer.norm_out, w.eps)
            gate, up = F.linear(h, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down, layer.down_bias)
        return x

    def _attended(
        self, number: int, qkv: Tensor, places: list[Any], masks: list[Tensor | None], counts: list[int]
    ) -> Tensor:
        """Write keys and values of rows of any lengths, and attend; qkv [N, H + 2 G, d] -> [N, H d]."""
        w, mixed = self.weights, []
        heads, key_heads, d = w.num_heads, w.num_key_heads, w.head_dim
        for (new, known), mask, own, count in zip(places, masks, qkv.split(counts), counts, strict=True):
            kv = own[:, heads:].unflatten(1, (2, 1, key_heads))  # [n, 2, 1, G, d]
            new[number].copy_(kv[0] if count == 1 else kv.movedim(0, 3))
            q = own[None, :, :heads].transpose(1, 2)
            out = F.scaled_dot_product_attention(
                q, known[2 * number], known[2 * number + 1], attn_mask=mask,
                is_causal=mask is None and count > 1, scale=w.scale, enable_gqa=heads != key_heads,
            )  # fmt: skip
            mixed.append(out.transpose(1, 2).reshape(count, heads * d))
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def _mask(before: int, count: int, like: Tensor) -> Tensor | None:
    """bool [n, L], True where a new position may look; None for one position, or for the first ones."""
    if count == 1 or before == 0:
        return None
    return torch.ones(count, before + count, dtype=torch.bool, device=like.device).tril(before)
