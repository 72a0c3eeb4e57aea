"""Scores of parts of a test set: by length, noise, language or speaker."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.metrics import Metric
from vivavoce.evaluation.scores import Score

EDGES: Mapping[str, tuple[float, ...]] = {
    "duration_s": (2.0, 5.0, 10.0, 20.0, 30.0),
    "snr_db": (0.0, 5.0, 10.0, 20.0),
}
"""Bounds between bins; a value on a bound belongs to the bin above it."""
NAMED = ("language", "speaker")
UNKNOWN = "unknown"

By = str | Callable[[Item], str]


def group_items(items: Sequence[Item], by: By, edges: Sequence[float] | None = None) -> dict[str, list[int]]:
    """Sort items into groups.

    Args:
        items: In any order.
        by: "duration_s", "snr_db", "language", "speaker", or a function that names an item's group.
        edges: Bounds between bins of the first two, rising; None for `EDGES`.

    Returns:
        Name -> places in ``items``; bins from low to high, names from a to z, "unknown" last. Empty groups are
        left out.

    Raises:
        ConfigError: Unknown ``by``, or edges that do not rise.
    """
    if callable(by):
        names = [by(item) for item in items]
        order = sorted(set(names))
    elif by in NAMED:
        names = [getattr(item, by) or UNKNOWN for item in items]
        order = sorted(set(names) - {UNKNOWN})
    elif by in EDGES:
        bounds = list(EDGES[by] if edges is None else edges)
        if not bounds or any(a >= b for a, b in pairwise(bounds)):
            raise ConfigError(f"edges are {bounds}, wanted one or more, rising.")
        order = [f"below {bounds[0]:g}"]
        order += [f"{a:g} to {b:g}" for a, b in pairwise(bounds)] + [f"{bounds[-1]:g} and up"]
        found = [getattr(item, by) for item in items]
        names = [
            UNKNOWN if v is None or math.isnan(v) else order[bisect.bisect_right(bounds, v)] for v in found
        ]
    else:
        raise ConfigError(f"by is {by!r}; wanted {', '.join([*EDGES, *NAMED])} or a function.")
    groups: dict[str, list[int]] = {name: [] for name in dict.fromkeys([*order, UNKNOWN])}
    for place, name in enumerate(names):
        groups[name].append(place)
    return {name: places for name, places in groups.items() if places}


def score_slices(
    metric: Metric, items: Sequence[Item], by: By, edges: Sequence[float] | None = None
) -> dict[str, Score]:
    """Score each group of items alone; for metrics such as BLEU whose settings hang on the group."""
    groups = group_items(items, by, edges)
    return {name: metric.score([items[i] for i in places]) for name, places in groups.items()}


def split_score(
    score: Score, items: Sequence[Item], by: By, edges: Sequence[float] | None = None
) -> dict[str, Score]:
    """Split a score that was computed already; nothing is recognised or judged anew.

    Groups in which no item counts are left out.

    Raises:
        DataError: The items are not those of the score.
    """
    if [item.id for item in items] != list(score.ids):
        raise DataError(f"the score has {len(score.ids)} items, got {len(items)} others or in another order.")
    groups = group_items(items, by, edges)
    return {name: score.subset(places) for name, places in groups.items() if score.statistics[places].any()}
