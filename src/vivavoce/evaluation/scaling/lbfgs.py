"""Many small minimisations at once by L-BFGS: every row has its own start, history and steps.

A law is fitted from hundreds of starts and refitted hundreds of times; one after the other that takes minutes, and as
rows of arrays a second. Letters: R rows, P parameters, H pairs that are remembered.

Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Objective = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(points float64 [r, P], their row numbers int64 [r]) -> (values [r], gradients [r, P])."""


@dataclass(frozen=True)
class Minimum:
    """Where rows ended.

    Attributes:
        points: float64 [R, P].
        values: float64 [R].
        steep: Largest entry of the gradient, float64 [R].
        steps: Iterations that were made.
    """

    points: np.ndarray
    values: np.ndarray
    steep: np.ndarray
    steps: int


def minimise(
    objective: Objective,
    starts: np.ndarray,
    most_steps: int = 500,
    history: int = 8,
    flat: float = 1e-7,
    still: float = 1e-11,
) -> Minimum:
    """Go downhill from every start until it is flat there, or goes down no more.

    Args:
        objective: Smooth; values that are not finite count as very high.
        starts: float64 [R, P].
        most_steps: Iterations.
        history: Pairs of steps and changes of the gradient that are remembered.
        flat: A row is done when no entry of its gradient is larger.
        still: A row is done when three steps in a row lower its value by less than this share.
    """
    points = np.array(starts, dtype=np.float64)
    rows = np.arange(len(points))
    values, slopes = _checked(objective, points, rows)
    moves = np.zeros((history, *points.shape))
    changes = np.zeros_like(moves)
    inverse = np.zeros((history, len(points)))  # 1 / (move . change), 0 for pairs that are of no use
    scale = 1.0 / np.maximum(np.linalg.norm(slopes, axis=1), 1e-12)
    idle = np.zeros(len(points), dtype=np.int64)
    live = rows[np.abs(slopes).max(axis=1) > flat]
    step = 0
    while len(live) and step < most_steps:
        way = _direction(slopes[live], moves[:, live], changes[:, live], inverse[:, live], scale[live], step)
        downhill = (way * slopes[live]).sum(axis=1)
        lost = ~(downhill < 0)
        way[lost] = -slopes[live][lost] * scale[live][lost, None]
        downhill[lost] = (way[lost] * slopes[live][lost]).sum(axis=1)
        reached, value, slope = _search(objective, points[live], values[live], way, downhill, live)
        move, change = reached - points[live], slope - slopes[live]
        product = (move * change).sum(axis=1)
        useful = product > 1e-12 * np.linalg.norm(move, axis=1) * np.linalg.norm(change, axis=1)
        at = step % history
        moves[at, live], changes[at, live] = move, change
        inverse[at, live] = np.where(useful, 1.0 / np.where(useful, product, 1.0), 0.0)
        scale[live] = np.where(
            useful, product / np.maximum((change * change).sum(axis=1), 1e-300), scale[live]
        )
        gained = values[live] - value
        idle[live] = np.where(gained <= still * np.abs(values[live]), idle[live] + 1, 0)
        points[live], values[live], slopes[live] = reached, value, slope
        live = live[(np.abs(slope).max(axis=1) > flat) & (idle[live] < 3)]
        step += 1
    return Minimum(points, values, np.abs(slopes).max(axis=1), step)


def _checked(objective: Objective, points: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore"):
        values, slopes = objective(points, rows)
    bad = ~(np.isfinite(values) & np.isfinite(slopes).all(axis=1))
    return np.where(bad, np.inf, values), np.where(bad[:, None], 0.0, slopes)


def _direction(
    slopes: np.ndarray,
    moves: np.ndarray,
    changes: np.ndarray,
    inverse: np.ndarray,
    scale: np.ndarray,
    step: int,
) -> np.ndarray:
    """Two loops over what is remembered, newest pair first; float64 [r, P]."""
    way, kept = -slopes, {}
    order = [at % len(moves) for at in range(step - 1, max(-1, step - 1 - len(moves)), -1)]
    for at in order:
        kept[at] = inverse[at] * (moves[at] * way).sum(axis=1)
        way = way - kept[at][:, None] * changes[at]
    way = way * scale[:, None]
    for at in reversed(order):
        back = inverse[at] * (changes[at] * way).sum(axis=1)
        way = way + (kept[at] - back)[:, None] * moves[at]
    return way


def _search(
    objective: Objective,
    points: np.ndarray,
    values: np.ndarray,
    way: np.ndarray,
    downhill: np.ndarray,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve steps until each row goes down enough (Armijo); rows that never do stay where they are."""
    reached, value = points.copy(), values.copy()
    slope = np.zeros_like(points)
    length = np.ones(len(points))
    left = np.arange(len(points))
    for _ in range(40):
        tried = points[left] + length[left, None] * way[left]
        found, slopes = _checked(objective, tried, rows[left])
        good = found <= values[left] + 1e-4 * length[left] * downhill[left]
        done = left[good]
        reached[done], value[done], slope[done] = tried[good], found[good], slopes[good]
        left = left[~good]
        if not len(left):
            break
        length[left] *= 0.5
    if len(left):
        slope[left] = _checked(objective, points[left], rows[left])[1]
    return reached, value, slope
