"""Times to answer: medians and 95th percentiles with their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.results import Outcome

TIMES = (
    ("ttft_s", "first text"),
    ("first_audio_s", "first audio"),
    ("total_s", "whole answer"),
    ("rtf", "real-time factor of the spoken answer"),
)
"""Key and heading; ``rtf`` is total time by length of the spoken answer, below 1 keeps up with playing."""


@dataclass(frozen=True)
class Quantile:
    """A quantile of times.

    Attributes:
        value: Seconds (or a factor).
        low: Lower end of its interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Times:
    """The times of one kind.

    Attributes:
        n: Answers that have it.
        p50: Median.
        p95: 95th percentile; with few answers near the largest.
        largest: Of all.
    """

    n: int
    p50: Quantile
    p95: Quantile
    largest: float


def measure_times(outcomes: Iterable[Outcome], bootstrap: Bootstrap | None = None) -> dict[str, Times]:
    """Gather the times of a system's answers, by key of `TIMES`; kinds that no answer has are left out."""
    found: dict[str, list[float]] = {key: [] for key, _ in TIMES}
    for outcome in outcomes:
        for key in ("ttft_s", "first_audio_s", "total_s"):
            value = getattr(outcome, key)
            if value is not None:
                found[key].append(float(value))
        if outcome.spoken_s and outcome.total_s is not None:
            found["rtf"].append(outcome.total_s / outcome.spoken_s)
    return {key: _times(np.array(v), bootstrap or Bootstrap()) for key, v in found.items() if v}


def _times(values: np.ndarray, bootstrap: Bootstrap) -> Times:
    rng = np.random.default_rng(bootstrap.seed)
    drawn = values[rng.integers(0, len(values), (bootstrap.resamples, len(values)))]

    def quantile(share: float) -> Quantile:
        return Quantile(float(np.quantile(values, share)), *bootstrap.ends(np.quantile(drawn, share, axis=1)))

    return Times(len(values), quantile(0.5), quantile(0.95), float(values.max()))
