"""Intervals and comparisons: items are drawn again, with replacement, and the score is computed anew.

Every metric leaves one row of sums per item (errors and words; matching n-grams), and a formula of their totals. So a
resample is one row of counts times a matrix, corpus-level scores such as WER and BLEU are resampled exactly, and a
thousand resamples of a thousand items take milliseconds.

Source: Bisani and Ney 2004 (WER), Koehn 2004 (paired, BLEU); Wilson 1927 for shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vivavoce.base.errors import ConfigError

_BLOCK = 2_000_000  # counts held at a time

Formula = Callable[[np.ndarray], np.ndarray]


def ratio(totals: np.ndarray) -> np.ndarray:
    """[..., 2] (sum, count) -> [...]; nan where the count is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(totals[..., 1] > 0, totals[..., 0] / totals[..., 1], np.nan)


def bleu(totals: np.ndarray) -> np.ndarray:
    """[..., 10] (lengths of system and reference, 4 matches, 4 counts) -> BLEU, 0 to 100.

    Exponential smoothing of orders without a match; Papineni 2002, smoothing of mteval-v13a.
    """
    system, reference = totals[..., 0], totals[..., 1]
    matches, counts = totals[..., 2:6], totals[..., 6:10]
    smoothing = 2.0 ** np.cumsum((matches == 0) & (counts > 0), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(matches > 0, matches, 1.0 / smoothing) / counts
        brevity = np.where(system < reference, np.exp(1 - reference / np.maximum(system, 1e-9)), 1.0)
        value = 100 * brevity * np.exp(np.log(precision).mean(axis=-1))
    return np.where((matches.sum(axis=-1) > 0) & (counts.min(axis=-1) > 0), value, 0.0)


def chrf(totals: np.ndarray, beta: float = 2.0) -> np.ndarray:
    """[..., 3 K] (system's, reference's and matching n-grams of K orders) -> chrF, 0 to 100 (Popovic 2015)."""
    grams = totals.reshape(*totals.shape[:-1], -1, 3)
    system, reference, matches = grams[..., 0], grams[..., 1], grams[..., 2]
    used = (system > 0) & (reference > 0)
    orders = np.maximum(used.sum(axis=-1), 1)
    precision = np.where(used, matches / np.maximum(system, 1), 0).sum(axis=-1) / orders
    recall = np.where(used, matches / np.maximum(reference, 1), 0).sum(axis=-1) / orders
    below = beta**2 * precision + recall
    return np.where(below > 0, 100 * (1 + beta**2) * precision * recall / np.where(below > 0, below, 1), 0.0)


FORMULAS: dict[str, Formula] = {"ratio": ratio, "bleu": bleu, "chrf": chrf}
"""Totals of per-item rows -> value, over any leading axes."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: Draws; 1,000 put the ends of a 95 % interval within about 0.1 of its width.
        seed: Same seed, same interval.
        confidence: Share of such intervals that hold the true value.
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 100 or not 0 < self.confidence < 1:
            raise ConfigError(
                f"resamples is {self.resamples} and confidence {self.confidence}; wanted 100 or more, and a "
                "share between 0 and 1."
            )

    def totals(self, statistics: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Draw clusters and add up their rows.

        Args:
            statistics: float64 [N, K].
            groups: int64 [N], the number of each item's cluster, from 0.

        Returns:
            float64 [resamples, K].
        """
        num = int(groups.max()) + 1
        rows = np.zeros((num, statistics.shape[1]))
        np.add.at(rows, groups, statistics)
        rng = np.random.default_rng(self.seed)
        out = np.empty((self.resamples, rows.shape[1]))
        block = max(1, _BLOCK // num)
        for start in range(0, self.resamples, block):
            size = min(block, self.resamples - start)
            drawn = rng.integers(0, num, (size, num)) + num * np.arange(size)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=size * num).reshape(size, num)
            out[start : start + size] = counts @ rows
        return out

    def ends(self, values: np.ndarray) -> tuple[float, float]:
        """Percentiles of resampled values; resamples without a value are left out."""
        values = values[np.isfinite(values)]
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(values, [tail, 1 - tail]) if len(values) else (math.nan, math.nan)
        return float(low), float(high)


def wilson(hits: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share of independent yes-or-no items; honest at 0 and 1, where redrawing sees no spread."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, z2 = hits / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def cluster_numbers(clusters: Sequence[str | None]) -> np.ndarray:
    """int64 [N]: the same number for the same cluster, one of its own for None."""
    numbers: dict[tuple[str, str | int], int] = {}
    keys = (("alone", i) if c is None else ("in", c) for i, c in enumerate(clusters))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
