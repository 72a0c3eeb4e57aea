"""Rows of ids and clips become one batch.

Letters: B rows, L positions, N chunks of clips, M mel bins, T mel frames, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import BatchFeature

from vivavoce.base.errors import ConfigError
from vivavoce.models.clips import ClipInputs


class SpeechInputs(BatchFeature):
    """Inputs of a ``SpeechLM``; ``to(dtype)`` leaves the features as they are.

    An encoder casts them itself after what must be done in float32, such as normalising a waveform.
    """

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move all tensors, and cast those that are no features."""
        features = self.data.pop("input_features", None)
        moved = super().to(*args, **kwargs)
        if features is not None:
            keep = isinstance(features, torch.Tensor) and isinstance(moved.data["input_ids"], torch.Tensor)
            moved.data["input_features"] = features.to(moved.data["input_ids"].device) if keep else features
        return moved


def place_clips(
    pieces: Sequence[Sequence[list[int]]], heard: ClipInputs | None, placeholder: int
) -> list[dict[str, Any]]:
    """Put one clip between each two pieces of a row.

    Args:
        pieces: For each row the ids before, between and after its clips.
        heard: The clips of all rows, in reading order; None for none.
        placeholder: Id of a position of audio.

    Returns:
        For each row ``input_ids`` and, if it has clips, their ``input_features`` and ``feature_lengths``.
    """
    rows: list[dict[str, Any]] = []
    clip = chunk = 0
    for first, *others in pieces:
        row: dict[str, Any] = {"input_ids": list(first)}
        begin = chunk
        for piece in others:
            assert heard is not None
            row["input_ids"] += [placeholder] * heard.positions[clip] + piece
            clip, chunk = clip + 1, chunk + heard.chunks[clip]
        if heard is not None and chunk > begin:
            row["input_features"] = heard.features[begin:chunk]
            row["feature_lengths"] = heard.lengths[begin:chunk]
        rows.append(row)
    return rows


def pad_rows(rows: Sequence[Mapping[str, Any]], pad: int, side: str = "left") -> dict[str, Any]:
    """Pad rows to the longest and put their clips one after the other.

    Args:
        rows: Each with ``input_ids``, a list of ints, and perhaps ``input_features`` [n, M, T] or [n, S] and
            ``feature_lengths`` [n].
        pad: Id that fills up.
        side: Where, "left" or "right".

    Returns:
        ``input_ids``, ``attention_mask`` int64 [B, L]; with clips also ``input_features`` [N, M, T] or [N, S],
        ``feature_lengths`` and ``audio_batch_index`` int64 [N].

    Raises:
        ConfigError: No such side.
    """
    if side not in ("left", "right"):
        raise ConfigError(f"padding_side is {side!r}; wanted 'left' or 'right'.")
    size = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), size), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        own = torch.tensor(row["input_ids"], dtype=torch.long)
        at = slice(size - len(own), size) if side == "left" else slice(0, len(own))
        ids[i, at], mask[i, at] = own, 1
    made: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    heard = [(i, row) for i, row in enumerate(rows) if "input_features" in row]
    if heard:
        longest = max(row["input_features"].shape[-1] for _, row in heard)
        features = [F.pad(f, (0, longest - f.shape[-1])) for f in (row["input_features"] for _, row in heard)]
        index = [i for i, row in heard for _ in range(len(row["feature_lengths"]))]
        made["input_features"] = torch.cat(features)
        made["feature_lengths"] = torch.cat([row["feature_lengths"] for _, row in heard])
        made["audio_batch_index"] = torch.tensor(index)
    return made
