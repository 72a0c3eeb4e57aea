"""Rows of token ids as SALMONN was trained on: packed one by one, or padded in the middle as in the published code.

Letters: B rows, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.models.presets.salmonn.prompts import CLIP, TURN
from vivavoce.tokens.chat import IGNORED

MAX_TARGET = 300  # tokens of an answer in the published training


@dataclass(frozen=True)
class Row:
    """One example as pieces of token ids; each piece is tokenized by itself.

    Attributes:
        before: "USER: <Speech>" and what stands before it in the prompt.
        after: From the clip's end to "ASSISTANT:".
        target: The answer with its end, cut to the longest that is trained; empty at inference.
    """

    before: list[int]
    after: list[int]
    target: list[int]


def make_row(
    tokenizer: Any, prompt: str, target: str | None = None, max_target: int = MAX_TARGET, turn: str = TURN
) -> Row:
    """Tokenize one example.

    The end of sequence is added before the answer is cut, as in the published training, so an answer that is too
    long has no end.

    Args:
        tokenizer: Of the model; its end of sequence ends the answer.
        prompt: With one ``<SpeechHere>``; see ``Prompts.draw``.
        target: The answer; None for the prompt alone.
        max_target: Most tokens of the answer, its end included.
        turn: Where the prompt goes.

    Raises:
        ConfigError: The prompt has no place for a clip, or several.
    """
    parts = turn.replace("{}", prompt).split(CLIP)
    if len(parts) != 2:
        raise ConfigError(f"the prompt {prompt!r} has {len(parts) - 1} times {CLIP}, wanted once.")
    before, after = (_ids(tokenizer, part) for part in parts)
    said = [] if target is None else _ids(tokenizer, f"{target}{tokenizer.eos_token}")[:max_target]
    return Row(before, after, said)


def reference_batch(
    rows: Sequence[Row], *, bos_id: int, pad_id: int, audio_id: int, audio_positions: int
) -> dict[str, Tensor]:
    """Lay rows out as the published training does: beginning, prompt and answer each padded by itself.

    So pads stand in the middle of a row. They are masked, but they are counted as positions. Only for comparing
    with the published code; ``packed_batch`` has no pads within a row.

    Args:
        rows: Examples.
        bos_id: First token of every row.
        pad_id: At masked positions.
        audio_id: The placeholder.
        audio_positions: Embeddings of a clip, the same for every clip (88 for 30 s).

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (-100 but for the answer), int64 [B, L].
    """
    befores = _padded([row.before for row in rows], pad_id)
    afters = _padded([row.after for row in rows], pad_id)
    targets = _padded([row.target for row in rows], pad_id)
    ids, mask, labels = [], [], []
    for (before, seen), (after, heard), (target, said) in zip(befores, afters, targets, strict=True):
        ids.append([bos_id, *before, *[audio_id] * audio_positions, *after, *target])
        mask.append([1, *seen, *[1] * audio_positions, *heard, *said])
        learned = [token if real else IGNORED for token, real in zip(target, said, strict=True)]
        labels.append([IGNORED] * (len(ids[-1]) - len(target)) + learned)
    return _tensors(ids, mask, labels)


def packed_batch(
    rows: Sequence[Row], *, bos_id: int, pad_id: int, audio_id: int, audio_positions: Sequence[int]
) -> dict[str, Tensor]:
    """Lay rows out without gaps, padded at the end; each row gives what it gives alone.

    Args:
        rows: Examples.
        bos_id: First token of every row.
        pad_id: At masked positions.
        audio_id: The placeholder.
        audio_positions: Embeddings of each row's clip.

    Returns:
        As ``reference_batch``.
    """
    ids, labels = [], []
    for row, positions in zip(rows, audio_positions, strict=True):
        prompt = [bos_id, *row.before, *[audio_id] * positions, *row.after]
        ids.append([*prompt, *row.target])
        labels.append([IGNORED] * len(prompt) + row.target)
    padded = _padded(ids, pad_id)
    return _tensors(
        [row for row, _ in padded], [mask for _, mask in padded], [row for row, _ in _padded(labels, IGNORED)]
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _padded(pieces: Sequence[list[int]], filler: int) -> list[tuple[list[int], list[int]]]:
    """(ids, mask) of pieces padded on the right to the longest."""
    size = max(map(len, pieces))
    return [
        (piece + [filler] * (size - len(piece)), [1] * len(piece) + [0] * (size - len(piece)))
        for piece in pieces
    ]


def _tensors(ids: list[list[int]], mask: list[list[int]], labels: list[list[int]]) -> dict[str, Tensor]:
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
    }
