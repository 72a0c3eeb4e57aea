"""Losses of known laws."""

from __future__ import annotations

from typing import Any

import numpy as np

from vivavoce.evaluation.scaling.fitting import Points
from vivavoce.evaluation.scaling.law import Law


def grid(sizes: int = 7, budgets: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """N from 40 million to 16 billion and D from 1 to 500 billion, each with each."""
    n, d = np.meshgrid(np.geomspace(4e7, 1.6e10, sizes), np.geomspace(1e9, 5e11, budgets))
    return n.ravel(), d.ravel()


def seen(law: Law, seed: int, noise: float = 0.005, sizes: int = 7, budgets: int = 6) -> Points:
    """What runs would show: the law, with noise on its logarithm."""
    n, d = grid(sizes, budgets)
    drawn = np.random.default_rng(seed).normal(0, noise, len(n))
    return Points(n, d, law.loss(n, d) * np.exp(drawn))


def records(points: Points, **more: Any) -> list[dict[str, Any]]:
    """Lines of results.jsonl."""
    made = zip(points.n, points.d, points.loss, strict=True)
    return [
        {
            "id": f"r{i}",
            "n": float(n),
            "n_total": 1.1 * float(n),
            "tokens": float(d),
            "loss": float(y),
            "losses": {},
        }
        | more
        for i, (n, d, y) in enumerate(made)
    ]
