"""Weights of a smaller vocabulary or phone set made to fit a larger one whose first ids are the same.

A new word's row starts near rows that are like it, or near the mean of all, with a little noise so that no two are
equal. How it sounds is not known: in the recogniser's head it starts near the mean, and its bias low, so that nothing
new is heard before it was taught.

Letters: V tokens, D width, P phones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]
TABLES = ("language_model.model.embed_tokens.weight", "audio_encoder.ctc_head.weight")
HEAD, BIAS = "language_model.lm_head.weight", "audio_encoder.ctc_head.bias"
PHONE_TABLES = (*(f"voice.phone_embeddings.{i}.weight" for i in range(3)), "voice.durations.phone.weight")
NOISE = 0.3
SHY = 1.0


def grow_tokens(weights: Weights, size: int, like: Sequence[Sequence[int]] = (), seed: int = 0) -> Weights:
    """Rows for new tokens in the embeddings, the tied head and the recogniser's head.

    Args:
        weights: Of ``network.Nano``; not changed.
        size: Tokens of the new tokenizer.
        like: For each new token the ids of old ones whose embedding its own starts like; shorter, or empty: the mean.
        seed: Of the noise.

    Raises:
        ValueError: The tokenizer is smaller than the weights.
    """
    old = len(weights[TABLES[0]])
    if size < old:
        raise ValueError(f"the weights have {old} tokens, the tokenizer {size}; wanted at least as many.")
    grown, generator = dict(weights), torch.Generator().manual_seed(seed)
    groups = [list(like[i]) if i < len(like) else [] for i in range(size - old)]
    for name, rows in zip(TABLES, (groups, [[] for _ in groups]), strict=True):
        grown[name] = _with_rows(grown[name], rows, generator)
    grown[HEAD] = grown[TABLES[0]]
    bias = grown[BIAS]
    grown[BIAS] = torch.cat([bias, torch.full((size - old,), float(bias[1:].mean()) - SHY)])
    return grown


def grow_phones(weights: Weights, size: int, like: Sequence[Sequence[int]], seed: int = 0) -> Weights:
    """Rows for new phones in the voice's tables, whose row 0 is "no phone" (a phone's row is its id + 1).

    Args:
        weights: Of a network with a voice; not changed.
        size: Phones of the new set.
        like: For each new phone the ids of old ones that it starts like.
        seed: Of the noise.
    """
    grown, generator = dict(weights), torch.Generator().manual_seed(seed)
    for name in PHONE_TABLES:
        groups = [[i + 1 for i in ids] for ids in like[: size + 1 - len(grown[name])]]
        grown[name] = _with_rows(grown[name], groups, generator)
    return grown


def _with_rows(table: Tensor, groups: list[list[int]], generator: torch.Generator) -> Tensor:
    """The table [V, D] and a row for each group: its mean, and noise of ``NOISE`` of the table's spread."""
    spread = table.std(dim=0) * NOISE
    rows = [table[ids].mean(dim=0) if ids else table.mean(dim=0) for ids in groups]
    noise = [torch.randn(table.shape[1], generator=generator) * spread for _ in rows]
    return torch.cat([table, *(row[None] + n[None] for row, n in zip(rows, noise, strict=True))])
