"""The cheapest size for a budget, seen without a law: parabolas over sizes at equal FLOPs.

Where a grid has no points of equal FLOPs, the loss of each size is read off a curve through its own points, within
their range only; nothing is extrapolated.

Source: Hoffmann et al. 2022, approach 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivavoce.evaluation.scaling.fitting import Points
from vivavoce.evaluation.scaling.law import FLOPS

BUDGETS = 9  # that are looked at
SAME = 1e-3  # sizes whose logarithms differ by less are one


@dataclass(frozen=True)
class Valley:
    """One budget.

    Attributes:
        flops: C = 6 N D.
        n: The cheapest size; None where the parabola has its lowest point outside of the sizes, or none.
        loss: There.
        sizes, losses: That the parabola went through.
    """

    flops: float
    n: float | None
    loss: float | None
    sizes: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Valleys:
    """All budgets.

    Attributes:
        valleys: From cheap to dear.
        power: Of N* by C, over the budgets that have one; None with fewer than two.
    """

    valleys: tuple[Valley, ...]
    power: float | None


def find_valleys(points: Points) -> Valleys:
    """Fit a parabola in log N to the losses at each of several budgets."""
    curves = _curves(points)
    low = min((FLOPS * np.exp(log_n + y.min()) for log_n, y, _ in curves), default=1.0)
    high = max((FLOPS * np.exp(log_n + y.max()) for log_n, y, _ in curves), default=1.0)
    made = []
    for flops in np.geomspace(low, high, BUDGETS + 2)[1:-1]:
        seen = []
        for log_n, y, coefficients in curves:
            at = np.log(flops / FLOPS) - log_n
            if y.min() - SAME <= at <= y.max() + SAME:
                seen.append((log_n, float(np.polyval(coefficients, at))))
        if len(seen) >= 3:
            made.append(_valley(float(flops), np.array(seen)))
    found = [(v.flops, v.n) for v in made if v.n is not None]
    power = None
    if len(found) >= 2:
        logs = np.log(np.array(found))
        power = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    return Valleys(tuple(made), power)


def _curves(points: Points) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """log N, its log D, and log L as a polynomial in log D, of sizes with two budgets or more."""
    found = []
    logs = np.log(points.n)
    for log_n in np.unique(logs.round(6)):
        own = np.abs(logs - log_n) < SAME
        y, values = np.log(points.d[own]), np.log(points.loss[own])
        distinct = len(np.unique(y.round(6)))
        if distinct >= 2:
            found.append((float(log_n), y, np.polyfit(y, values, min(2, distinct - 1))))
    return found


def _valley(flops: float, seen: np.ndarray) -> Valley:
    sizes, losses = np.exp(seen[:, 0]), np.exp(seen[:, 1])
    bend, slope, base = np.polyfit(seen[:, 0], seen[:, 1], 2)
    at = -slope / (2 * bend) if bend > 0 else np.inf
    inside = bend > 0 and seen[:, 0].min() <= at <= seen[:, 0].max()
    lowest = float(np.exp(base + slope * at + bend * at * at)) if inside else None
    seen_at = tuple(map(float, sizes)), tuple(map(float, losses))
    return Valley(flops, float(np.exp(at)) if inside else None, lowest, *seen_at)
