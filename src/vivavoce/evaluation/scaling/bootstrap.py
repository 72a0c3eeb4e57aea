"""Intervals of a law: it is fitted again to losses drawn anew, all refits at once, each from where the fit ended.

"parametric" keeps the grid and draws the losses: the law's own times the exponential of normal noise, as wide as runs
scatter about the law (``sqrt(sum of squares / (n - 5))``). Residuals themselves are not drawn: a Huber loss this narrow
goes through a handful of points exactly, so a few dozen residuals hold too many zeros.
"case" draws the points, which on a grid of a dozen runs leaves sizes or budgets out now and then; such refits fail.

Percentiles of refits are too narrow for so few points: on known laws a plain 90 % interval of them held the truth in 70
to 95 of 100. So ends are read ``WIDER`` times Student's factor for n - 5 further out, calibrated on 60 seeds of the
laws that the tests count on other seeds.

Source: Efron and Tibshirani 1993, chapters 6 and 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.scaling.fitting import DELTA, Fitted, Points, Problem, descend
from vivavoce.evaluation.scaling.law import Law

Kind = Literal["parametric", "case"]
WIDER = 1.2


@dataclass(frozen=True)
class Refits:
    """How intervals are made.

    Attributes:
        count: Refits, 200 or more.
        kind: What is drawn.
        confidence: Share of intervals that hold the truth.
        seed: Same seed, same intervals.
    """

    count: int = 400
    kind: Kind = "parametric"
    confidence: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 200 or not 0.5 <= self.confidence < 1:
            raise ConfigError(
                f"count is {self.count} and confidence {self.confidence}; wanted 200 refits or more, and a share from "
                "0.5 to below 1."
            )


@dataclass(frozen=True)
class Spread:
    """Laws of refits.

    Attributes:
        laws: Arrays [R] of those that are laws.
        failed: Refits that are none: a power of zero or below, or a law without a floor that any number describes.
        count: Refits that were made.
        noise: Standard deviation of log losses about the law.
        free: Points less the law's five numbers, 1 or more.
        settings: How they were made.
    """

    laws: Law
    failed: int
    count: int
    noise: float
    free: int
    settings: Refits

    def interval(self, values: Any) -> tuple[float, float]:
        """Ends of what the refits say; those that say nothing (nan) are left out."""
        values = np.asarray(values, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            return float("nan"), float("nan")
        low, high = np.quantile(values, [1 - self.outer, self.outer])
        return float(low), float(high)

    @property
    def outer(self) -> float:
        """The quantile that is read as an interval's upper end."""
        z = NormalDist().inv_cdf(0.5 + self.settings.confidence / 2)
        return NormalDist().cdf(WIDER * student(z, self.free))

    def observed(self, values: np.ndarray) -> np.ndarray:
        """What one more run would show: losses of the refits, float64 [R], with the noise of a run."""
        rng = np.random.default_rng(self.settings.seed + 1)
        return values * np.exp(rng.normal(0.0, self.noise, np.shape(values)))


def refit(points: Points, fitted: Fitted, settings: Refits | None = None, delta: float = DELTA) -> Spread:
    """Fit laws to losses drawn anew.

    Args:
        points: That the law was fitted to.
        fitted: The law.
        settings: How.
        delta: As of the fit.
    """
    settings = settings or Refits()
    rng = np.random.default_rng(settings.seed)
    count, size = settings.count, len(points)
    logs = np.log(points.loss)
    free = max(1, size - 5)
    noise = float(np.sqrt(np.sum(fitted.residuals**2) / free))
    weights = None
    if settings.kind == "parametric":
        logs = logs - fitted.residuals + rng.normal(0.0, noise, (count, size))
    else:
        drawn = rng.integers(0, size, (count, size))
        weights = (drawn[:, :, None] == np.arange(size)).sum(axis=1).astype(np.float64)
    place = Problem(points, logs, delta).place(fitted.law)
    end = descend(points, logs, np.tile(place, (count, 1)), delta, weights)
    laws = Problem(points, logs, delta).law(end.points)
    kept = np.isfinite(end.values) & (laws.a > 1e-3) & (laws.b > 1e-3)
    if weights is not None:
        for axis in (points.n, points.d):
            several = [len(np.unique(axis[row > 0])) > 2 for row in weights]
            kept &= np.array(several)
    taken = Law(laws.E[kept], laws.A[kept], laws.B[kept], laws.a[kept], laws.b[kept])
    return Spread(taken, int(count - kept.sum()), count, noise, free, settings)


def student(z: float, free: int) -> float:
    """Student's quantile where the normal one is ``z`` (Cornish-Fisher, three terms; good from 3 degrees on).

    Source: Abramowitz and Stegun, 26.7.5.
    """
    return (
        z
        + (z**3 + z) / (4 * free)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )
