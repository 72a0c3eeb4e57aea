"""Two systems on the same items: difference, interval and p by a paired bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.evaluation.resampling import FORMULAS, cluster_numbers
from vivavoce.evaluation.scores import Score


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same items.

    Attributes:
        metric: Its name.
        difference: Second minus first.
        low: Lower end of the interval of the difference.
        high: Upper end.
        p: How often, were there no true difference, one as large would be seen; two-sided.
        n: Items that count for both.
        better: "first", "second", or "neither" where the interval holds 0.
    """

    metric: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    better: Literal["first", "second", "neither"]


def compare(first: Score, second: Score) -> Comparison:
    """Compare two systems by a paired bootstrap: both are scored on the same draws of items.

    Only items that count for both are used. ``p`` is the share of draws whose difference lies as far from the
    mean difference as the one seen lies from 0 (with one added to both, so it is never 0).

    Raises:
        DataError: Different metrics, settings or items.
    """
    if first.metric != second.metric or first.formula != second.formula:
        raise DataError(f"{first.metric} cannot be compared with {second.metric}; score both by one metric.")
    unlike = [
        k for k in {*first.settings, *second.settings} if first.settings.get(k) != second.settings.get(k)
    ]
    if unlike:
        raise DataError(
            f"{first.metric}: the settings differ in {', '.join(sorted(unlike))}; use the same for both."
        )
    places = {name: i for i, name in enumerate(second.ids)}
    if set(places) != set(first.ids):
        odd = sorted(set(places) ^ set(first.ids))
        raise DataError(f"{len(odd)} items stand in only one score, first {odd[0]!r}; score the same items.")
    other = second.statistics[[places[name] for name in first.ids]]
    both = first.statistics.any(axis=1) & other.any(axis=1)
    if not both.any():
        raise DataError(f"{first.metric}: no item counts for both systems.")
    formula, bootstrap = FORMULAS[first.formula], first.bootstrap
    rows, others = first.statistics[both], other[both]
    groups = np.unique(cluster_numbers(first.clusters)[both], return_inverse=True)[1]
    drawn = formula(bootstrap.totals(rows, groups))
    others_drawn = formula(bootstrap.totals(others, groups))  # the same seed: the same draws
    difference = float(formula(others.sum(axis=0)) - formula(rows.sum(axis=0)))
    spread = others_drawn - drawn
    low, high = bootstrap.ends(spread)
    spread = spread[np.isfinite(spread)]
    extreme = int((np.abs(spread - spread.mean()) >= abs(difference) - 1e-12).sum())
    better: Literal["first", "second", "neither"] = "neither"
    if low > 0 or high < 0:
        better = "second" if (difference > 0) == (first.better == "higher") else "first"
    p = (extreme + 1) / (len(spread) + 1)
    return Comparison(first.metric, difference, low, high, p, int(both.sum()), better)
