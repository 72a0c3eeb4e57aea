"""What the ears made of clips, and how clips are grouped so that little of a batch is padding.

Letters: N chunks of clips, F encoder frames, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.base.errors import ModelError


@dataclass
class HeardAudio:
    """What the ears made of N clips, or of chunks of clips.

    Attributes:
        states: float [N, F, D_audio], the encoder's output; F is 0 where they were not kept.
        frames: int64 [N], true encoder frames, or [N, K] for K streams.
        embeddings: float [N, F', D], the connector's output.
        counts: int64 [N], true embeddings, which is also the number of placeholders of each clip.
    """

    states: Tensor
    frames: Tensor
    embeddings: Tensor
    counts: Tensor


def check_lengths(lengths: Tensor, features: Tensor) -> None:
    """Refuse lengths that are not one for each chunk, each 1 or more and within the features.

    Args:
        lengths: int64 [N].
        features: float [N, M, T] or [N, S].

    Raises:
        ModelError: They do not fit.
    """
    longest = features.shape[-1]
    fits = lengths.shape == features.shape[:1]
    if not fits or bool(((lengths < 1) | (lengths > longest)).any()):
        raise ModelError(
            f"lengths are {lengths.tolist()}; wanted {len(features)} values from 1 to {longest}, the true frames or "
            "samples of each chunk of audio."
        )


def group_by_length(lengths: Sequence[int], at_once: int, waste: float = 0.15) -> list[list[int]]:
    """Put items of like length together.

    Args:
        lengths: Of the items, in frames or samples.
        at_once: Most items in a group.
        waste: Most padding in a group, as a share of it.

    Returns:
        Indices, longest items first.
    """
    groups: list[list[int]] = []
    room = 0.0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        if (
            not groups
            or len(groups[-1]) == at_once
            or room + longest - lengths[i] > waste * longest * (len(groups[-1]) + 1)
        ):
            groups.append([i])
            room = 0.0
        else:
            groups[-1].append(i)
            room += longest - lengths[i]
    return groups


def join_heard(parts: list[HeardAudio], order: list[int]) -> HeardAudio:
    """Put groups of clips back into one batch, in the clips' own order.

    Args:
        parts: The groups.
        order: Place of each clip, group by group.
    """

    def joined(tensors: list[Tensor]) -> Tensor:
        size = max(t.shape[1] for t in tensors)
        rows = [
            F.pad(row, (0, 0, 0, size - len(row))) if len(row) < size else row for t in tensors for row in t
        ]
        return torch.stack(
            [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
        )

    back = torch.tensor(order, device=parts[0].counts.device).argsort()
    return HeardAudio(
        joined([p.states for p in parts]),
        torch.cat([p.frames for p in parts])[back],
        joined([p.embeddings for p in parts]),
        torch.cat([p.counts for p in parts])[back],
    )
