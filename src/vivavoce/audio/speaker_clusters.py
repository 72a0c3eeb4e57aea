"""Which stretches of speech are by the same voice: merging from below, by what one Gaussian loses against two.

Letters: T frames, D features, N stretches, P parameters of a Gaussian.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PRIOR_FRAMES = (
    20.0  # of a Gaussian with the recording's own variance, so that short stretches have a covariance
)
GROUP = 400  # stretches merged at a time: the cost is quadratic
KEPT = 12  # clusters that a group is merged down to before all groups are merged
FREE_TERMS = 4.0  # times P: what two Gaussians gain over one without two voices, about


@dataclass
class Sums:
    """What Gaussians of N sets of frames are made of, float64: counts [N], sums [N, D], products [N, D, D]."""

    counts: Tensor
    sums: Tensor
    products: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def joined(self, other: Sums) -> Sums:
        """Element by element; one of the two may have a single row."""
        return Sums(self.counts + other.counts, self.sums + other.sums, self.products + other.products)

    def rows(self, index: Tensor | list[int]) -> Sums:
        return Sums(self.counts[index], self.sums[index], self.products[index])

    def gathered(self, labels: np.ndarray, number: int) -> Sums:
        """Sums of ``number`` clusters, by the cluster of each row."""
        index = torch.from_numpy(labels)
        made = [
            x.new_zeros((number, *x.shape[1:])).index_add_(0, index, x)
            for x in (self.counts, self.sums, self.products)
        ]
        return Sums(*made)

    def spread(self) -> Tensor:
        """Frames times the logarithm of the covariance's determinant, [N]."""
        counts = self.counts[:, None, None]
        mean = self.sums / self.counts[:, None]
        scatter = self.products - counts * mean[:, :, None] * mean[:, None, :]
        prior = PRIOR_FRAMES * torch.eye(self.sums.shape[1], dtype=torch.float64)
        factor = torch.linalg.cholesky((scatter + prior) / (counts + PRIOR_FRAMES))
        return 2.0 * self.counts * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)


def sums_of(frames: Tensor, edges: np.ndarray) -> Sums:
    """Sums of stretches.

    Args:
        frames: float32 [T, D], of mean 0 and variance 1.
        edges: Where stretches begin, and T, int [N + 1]; no stretch is empty.
    """
    counts = torch.from_numpy(np.diff(edges)).double()
    sums, products = [], []
    for begin, end in itertools.pairwise(edges):
        piece = frames[int(begin) : int(end)].double()
        sums.append(piece.sum(dim=0))
        products.append(piece.T @ piece)
    return Sums(counts, torch.stack(sums), torch.stack(products))


def merged(sums: Sums, most: int) -> dict[int, np.ndarray]:
    """Merge stretches, always the two that lose least.

    Args:
        sums: Of N stretches.
        most: Clusters of the largest partition wanted.

    Returns:
        Number of clusters -> label of each stretch, int64 [N], from ``min(N, most)`` down to 1.

    Source: Agglomerative clustering by the likelihood ratio of Gaussians with full covariances, as in speaker
    diarisation by the Bayesian information criterion (Chen and Gopalakrishnan 1998), whose penalty is constant here.
    """
    if len(sums) <= GROUP:
        return _merged(sums, most)
    kept = max(KEPT, most)
    labels, number = np.zeros(len(sums), dtype=np.int64), 0
    for begin in range(0, len(sums), GROUP):
        part = sums.rows(list(range(begin, min(begin + GROUP, len(sums)))))
        found = _merged(part, kept)
        labels[begin : begin + GROUP] = found[max(found)] + number
        number += max(found)
    above = merged(sums.gathered(labels, number), most)
    return {count: found[labels] for count, found in above.items()}


def _merged(sums: Sums, most: int) -> dict[int, np.ndarray]:
    """As `merged`, all at once."""
    number = len(sums)
    spread = sums.spread()
    loss = torch.full((number, number), torch.inf, dtype=torch.float64)
    for i in range(1, number):
        loss[i, :i] = _losses(sums, spread, i, list(range(i)))
    labels = np.arange(number)
    alive = list(range(number))
    found = {number: labels.copy()} if number <= most else {}
    while len(alive) > 1:
        i, j = divmod(int(loss.argmin()), number)
        sums = _merge(sums, i, j)
        spread[j] = sums.rows([j]).spread()[0]
        labels[labels == i] = j
        alive.remove(i)
        loss[i], loss[:, i] = torch.inf, torch.inf
        others = [k for k in alive if k != j]
        losses = _losses(sums, spread, j, others)
        for k, value in zip(others, losses.tolist(), strict=True):
            loss[max(j, k), min(j, k)] = value
        if len(alive) <= most:
            found[len(alive)] = np.searchsorted(alive, labels)
    return found


def _losses(sums: Sums, spread: Tensor, one: int, others: list[int]) -> Tensor:
    if not others:
        return torch.zeros(0, dtype=torch.float64)
    both = sums.rows(others).joined(sums.rows([one])).spread()
    return 0.5 * (both - spread[others] - spread[one])


def _merge(sums: Sums, i: int, j: int) -> Sums:
    for x in (sums.counts, sums.sums, sums.products):
        x[j] += x[i]
    return sums


def distance(frames: Tensor, labels: np.ndarray) -> float:
    """How far the two nearest voices of a partition are apart.

    A voice that is cut in two by what it says, or how loudly, gives clusters nearer to each other than two voices are.

    Args:
        frames: float32 [T, D], of mean 0 and variance 1.
        labels: Of each frame, int64 [T], two or more different ones.

    Returns:
        What two Gaussians gain over one per frame, of half the frames' harmonic mean; 2 and more for two voices.
    """
    names = np.unique(labels)
    parts = [_sums(frames[torch.from_numpy(labels == name)]) for name in names]
    sums = Sums(*(torch.stack(x) for x in zip(*parts, strict=True)))
    spread, width = sums.spread(), frames.shape[1]
    free = FREE_TERMS * 0.5 * (width + width * (width + 1) / 2)
    nearest = math.inf
    for i in range(1, len(names)):
        both = sums.counts[:i] * sums.counts[i] / (sums.counts[:i] + sums.counts[i])
        nearest = min(nearest, float(((_losses(sums, spread, i, list(range(i))) - free) / both).min()))
    return nearest


def _sums(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    frames = frames.double()
    return torch.tensor(float(len(frames)), dtype=torch.float64), frames.sum(dim=0), frames.T @ frames
