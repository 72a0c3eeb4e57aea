"""Fit a law to losses: Huber loss on the log of the loss, L-BFGS from a grid of starts, the best of them kept.

The parameters that are searched are the terms at the middle of the grid: log N and log D are counted from their means,
without which A and a (B and b) are one narrow valley. The sum is minimised, not the mean, whose gradients are small
enough to stop early: the fault that the replication of Chinchilla found.

Letters: R rows (starts or refits), n points.

Source: Hoffmann et al. 2022, appendix D.2; Besiroglu et al. 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.evaluation.scaling.law import Law
from vivavoce.evaluation.scaling.lbfgs import Minimum, minimise

DELTA = 1e-3
CONTINUED = (0.1, 0.01)  # wider Huber losses, each of which gives the next one its start
MOST_POWER = 4.0  # of a law; a point or two that contradict it can ask for any, and are then not followed
LEAST_POINTS = 6  # five parameters, and one that could speak against them


@dataclass(frozen=True)
class Points:
    """What a law is fitted to; float64 [n] each.

    Attributes:
        n: Parameters.
        d: Tokens.
        loss: Nats a token.
    """

    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.n)

    def take(self, chosen: np.ndarray) -> Points:
        """Some of the points."""
        return Points(self.n[chosen], self.d[chosen], self.loss[chosen])


@dataclass(frozen=True)
class Fitted:
    """A fitted law.

    Attributes:
        law: The best.
        objective: Sum of Huber losses.
        residuals: log L seen minus log L of the law, float64 [n].
        starts: From how many it was searched.
        agreeing: Share of the refined starts that end at the same objective, to a thousandth.
        steep: Largest entry of the gradient there.
    """

    law: Law
    objective: float
    residuals: np.ndarray
    starts: int
    agreeing: float
    steep: float


class Problem:
    """The sum of Huber losses of laws against points.

    Args:
        points: Whose N and D.
        logs: log L of each row, float64 [R, n]; or of all, [n].
        delta: Where the loss turns from square to straight.
        weights: Of each point in each row, float64 [R, n]; how often a resample has it.
    """

    def __init__(
        self, points: Points, logs: np.ndarray, delta: float = DELTA, weights: np.ndarray | None = None
    ) -> None:
        self.log_n, self.log_d = np.log(points.n), np.log(points.d)
        self.middle_n, self.middle_d = self.log_n.mean(), self.log_d.mean()
        self.x, self.y = self.log_n - self.middle_n, self.log_d - self.middle_d
        self.logs, self.delta, self.weights = np.atleast_2d(logs), delta, weights

    def __call__(self, at: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradients; parameters are (log A', log B', log E, a, b)."""
        terms = np.stack(
            (
                at[:, :1] - at[:, 3:4] * self.x,
                at[:, 1:2] - at[:, 4:5] * self.y,
                np.broadcast_to(at[:, 2:3], (len(at), len(self.x))),
            )
        )
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        total = shares.sum(axis=0)
        shares /= total
        left = top + np.log(total) - self.logs[rows if len(self.logs) > 1 else np.zeros_like(rows)]
        pull = np.clip(left, -self.delta, self.delta) / self.delta
        value = np.where(np.abs(left) <= self.delta, 0.5 * left * pull, np.abs(left) - 0.5 * self.delta)
        if self.weights is not None:
            value, pull = value * self.weights[rows], pull * self.weights[rows]
        by_n, by_d, by_e = pull * shares
        slope = np.stack(
            (by_n.sum(1), by_d.sum(1), by_e.sum(1), -(by_n * self.x).sum(1), -(by_d * self.y).sum(1)), axis=1
        )
        return value.sum(axis=1), slope

    def law(self, at: np.ndarray) -> Law:
        """The laws of parameters, [..., 5]."""
        a, b = at[..., 3], at[..., 4]
        return Law(
            np.exp(at[..., 2]),
            np.exp(at[..., 0] + a * self.middle_n),
            np.exp(at[..., 1] + b * self.middle_d),
            a,
            b,
        )

    def place(self, law: Law) -> np.ndarray:
        """The parameters of a law, float64 [5]; the inverse of ``law``."""
        return np.array(
            [
                np.log(law.A) - law.a * self.middle_n,
                np.log(law.B) - law.b * self.middle_d,
                np.log(max(law.E, 1e-9)),
                law.a,
                law.b,
            ]
        )


def chinchilla_starts() -> np.ndarray:
    """The published grid as (log A, log B, log E, a, b), float64 [4500, 5]."""
    logs, powers = np.arange(0, 26, 5.0), np.arange(0, 2.1, 0.5)
    return np.array(list(product(logs, logs, np.arange(-1, 1.1, 0.5), powers, powers)))


def starts_near(points: Points) -> np.ndarray:
    """A grid about the points: powers, and how the mean loss is shared out; (log A', log B', log E, a, b) [324, 5].

    The published grid holds starts for hundreds of billions of tokens; at a million most of them are far from any
    loss that was seen.
    """
    low = float(points.loss.min())
    spread = float(np.ptp(points.loss)) + 1e-3 * low
    made = []
    for share, part, a, b in product(
        (0.02, 0.3, 0.6, 0.85, 0.95, 0.99), (0.2, 0.5, 0.8), (0.1, 0.3, 0.6, 1.0, 1.6, 0.03), (0.1, 0.3, 0.6)
    ):
        above = low * (1 - share) + 0.5 * spread
        made.append((np.log(part * above), np.log((1 - part) * above), np.log(low * share), a, b))
    return np.array(made)


def fit(points: Points, delta: float = DELTA, published_grid: bool = False, refined: int = 24) -> Fitted:
    """Fit a law.

    Args:
        points: Six or more.
        delta: Of the Huber loss.
        published_grid: Start from Chinchilla's 4,500 starts too.
        refined: So many of the best starts are followed to the end.

    Raises:
        DataError: Too few points, or they all have one N or one D.
    """
    check_points(points)
    logs = np.log(points.loss)
    problem = Problem(points, logs, delta)
    starts = starts_near(points)
    if published_grid:
        more = chinchilla_starts()
        more[:, 0] -= more[:, 3] * problem.middle_n
        more[:, 1] -= more[:, 4] * problem.middle_d
        starts = np.concatenate((starts, more))
    rough = minimise(Problem(points, logs, CONTINUED[0]), starts, most_steps=60)
    best = rough.points[np.argsort(rough.values, kind="stable")[:refined]]
    end = descend(points, logs, best, delta)
    lawful = ((end.points[:, 3:] > 0) & (end.points[:, 3:] < MOST_POWER)).all(axis=1)
    chosen = int(np.argmin(np.where(lawful | ~lawful.any(), end.values, np.inf)))
    value = float(end.values[chosen])
    law = problem.law(end.points[chosen])
    law = Law(*(float(v) for v in (law.E, law.A, law.B, law.a, law.b)))
    agreeing = float(np.mean(end.values <= value * 1.001 + 1e-9))
    residuals = logs - np.log(law.loss(points.n, points.d))
    return Fitted(law, value, residuals, len(starts), agreeing, float(end.steep[chosen]))


def descend(
    points: Points,
    logs: np.ndarray,
    starts: np.ndarray,
    delta: float = DELTA,
    weights: np.ndarray | None = None,
    most_steps: int = 400,
) -> Minimum:
    """Follow starts to the end, by Huber losses that grow narrower.

    Args:
        points: Whose N and D.
        logs: log L, float64 [n], or of each row, [R, n].
        starts: Parameters of each row, float64 [R, 5].
        delta: Of the last Huber loss.
        weights: Of each point in each row, float64 [R, n].
        most_steps: Of each descent.
    """
    found = minimise(Problem(points, logs, delta, weights), starts, most_steps=0)
    for wider in (*(w for w in CONTINUED if w > delta), delta):
        found = minimise(Problem(points, logs, wider, weights), found.points, most_steps)
    return found


def check_points(points: Points) -> None:
    """Refuse what no law can be fitted to.

    Raises:
        DataError: Fewer than six points, or fewer than three N or D: two of them fit any floor.
    """
    sizes, budgets = len(np.unique(points.n)), len(np.unique(points.d))
    if len(points) < LEAST_POINTS or sizes < 3 or budgets < 3:
        raise DataError(
            f"{len(points)} points of {sizes} sizes and {budgets} budgets; a law has five numbers: wanted "
            f"{LEAST_POINTS} points or more, of three sizes and three budgets or more (five of each would be good)."
        )
