"""A score: its value with sample count, interval, settings and per-item values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.resampling import FORMULAS, Bootstrap, cluster_numbers, wilson

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Score:
    """What a metric says about a set of items.

    Attributes:
        metric: Its name.
        value: Of the whole set.
        n: Items that count; those of ``counts["undefined"]`` and failed judgements do not.
        low: Lower end of the interval.
        high: Upper end.
        unit: "share" (0 to 1; error rates may be more), "points" (0 to 100), or another unit.
        better: Which way is good.
        interval: How it was made, with its seed.
        settings: Normaliser, tokenizer, rules and versions of libraries.
        counts: How often something special happened: "no_answer" (scored as wrong), "undefined" (left out), ...
        details: Further values of the whole set, such as the marks of a judge one by one.
        ids: Of all items.
        clusters: Of all items.
        values: Of each item alone; None where it has none.
        statistics: float64 [N, K], what the value is computed from.
        formula: Row of `resampling.FORMULAS`.
        bootstrap: How the interval was drawn.
    """

    metric: str
    value: float
    n: int
    low: float
    high: float
    unit: str
    better: Better
    interval: str
    settings: dict[str, Any]
    counts: dict[str, int]
    details: dict[str, float]
    ids: tuple[str, ...] = field(repr=False)
    clusters: tuple[str | None, ...] = field(repr=False)
    values: tuple[float | None, ...] = field(repr=False)
    statistics: np.ndarray = field(repr=False, compare=False)
    formula: str = field(default="ratio", repr=False)
    bootstrap: Bootstrap = field(default_factory=Bootstrap, repr=False)

    def __str__(self) -> str:
        percent = 100 * self.bootstrap.confidence
        return (
            f"{self.metric} {self.value:.4g} {self.unit} ({percent:g} %: {self.low:.4g} to {self.high:.4g}), "
            f"n {self.n}"
        )

    def record(self, items: bool = True) -> dict[str, Any]:
        """The score as JSON; with ``items`` it can be read back and compared."""
        names = (
            "metric",
            "value",
            "n",
            "low",
            "high",
            "unit",
            "better",
            "interval",
            "settings",
            "counts",
            "details",
        )
        record = {name: getattr(self, name) for name in names}
        for name in ("value", "low", "high"):
            record[name] = record[name] if math.isfinite(record[name]) else None
        if items:
            record |= {"formula": self.formula, "bootstrap": vars(self.bootstrap).copy()}
            record |= {name: list(getattr(self, name)) for name in ("ids", "clusters", "values")}
            record["statistics"] = self.statistics.tolist()
        return record

    def subset(self, places: Sequence[int]) -> Score:
        """The score of some of the items, without scoring them anew.

        Counts and details are not split and so are left out.

        Raises:
            DataError: No places, or none of these items counts.
        """
        return finish(
            self.metric,
            [self.ids[i] for i in places],
            [self.clusters[i] for i in places],
            self.statistics[list(places)],
            [self.values[i] for i in places],
            {},
            self.settings,
            self.unit,
            self.better,
            self.formula,
            self.bootstrap,
            {},
        )


def read_score(record: Mapping[str, Any]) -> Score:
    """Read what ``Score.record`` gives.

    Raises:
        DataError: It was written without its items.
    """
    if "statistics" not in record:
        raise DataError("this score was recorded without its items; write it with record(items=True).")
    row = dict(record)
    for name in ("ids", "clusters", "values"):
        row[name] = tuple(row[name])
    for name in ("value", "low", "high"):
        row[name] = math.nan if row[name] is None else row[name]
    row["statistics"] = np.array(row["statistics"], np.float64)
    row["bootstrap"] = Bootstrap(**row["bootstrap"])
    return Score(**row)


def make_score(
    metric: str,
    items: Sequence[Item],
    statistics: np.ndarray,
    values: Sequence[float | None],
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    unit: str = "share",
    better: Better = "higher",
    formula: str = "ratio",
    bootstrap: Bootstrap | None = None,
    details: Mapping[str, float] | None = None,
) -> Score:
    """Compute value and interval from rows of per-item sums.

    Args:
        metric: Its name.
        items: N of them.
        statistics: float64 [N, K]; a row of zeros does not count.
        values: Of each item alone, N.
        counts: As in `Score`; those of 0 are dropped.
        settings: As in `Score`.
        unit: As in `Score`.
        better: As in `Score`.
        formula: Row of `resampling.FORMULAS`.
        bootstrap: Defaults to 1,000 resamples of seed 0.
        details: As in `Score`.

    Raises:
        DataError: No item counts.
    """
    return finish(
        metric,
        [item.id for item in items],
        [item.cluster for item in items],
        np.asarray(statistics, np.float64),
        values,
        {name: count for name, count in counts.items() if count},
        dict(settings),
        unit,
        better,
        formula,
        bootstrap or Bootstrap(),
        dict(details or {}),
    )


def mean_score(
    metric: str,
    items: Sequence[Item],
    values: Sequence[float | None],
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    **options: Any,
) -> Score:
    """Score the mean of per-item values; None counts as "undefined" and is left out."""
    rows = np.array([(0.0, 0.0) if value is None else (value, 1.0) for value in values]).reshape(-1, 2)
    return make_score(metric, items, rows, values, counts, settings, **options)


def finish(
    metric: str,
    ids: Sequence[str],
    clusters: Sequence[str | None],
    statistics: np.ndarray,
    values: Sequence[float | None],
    counts: dict[str, int],
    settings: dict[str, Any],
    unit: str,
    better: Better,
    formula: str,
    bootstrap: Bootstrap,
    details: dict[str, float],
) -> Score:
    """Make a score from columns; see `make_score`."""
    counted = statistics.any(axis=1)
    n = int(counted.sum())
    if not n:
        raise DataError(f"{metric}: none of {len(ids)} items counts; {counts or 'see their values'}.")
    value = float(FORMULAS[formula](statistics.sum(axis=0)))
    groups = cluster_numbers(clusters)
    alone = int(groups.max()) + 1 == len(ids)
    rows = statistics[counted]
    if formula == "ratio" and alone and (rows[:, 1] == 1).all() and np.isin(rows[:, 0], (0.0, 1.0)).all():
        low, high = wilson(float(rows[:, 0].sum()), n, bootstrap.confidence)
        interval = "Wilson"
    else:
        groups = np.unique(groups[counted], return_inverse=True)[1]
        low, high = bootstrap.ends(FORMULAS[formula](bootstrap.totals(rows, groups)))
        drawn = "items" if alone else "clusters"
        interval = f"bootstrap of {drawn}, percentile, {bootstrap.resamples} resamples, seed {bootstrap.seed}"
    return Score(
        metric,
        value,
        n,
        low,
        high,
        unit,
        better,
        interval,
        settings,
        counts,
        details,
        tuple(ids),
        tuple(clusters),
        tuple(values),
        statistics,
        formula,
        bootstrap,
    )


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages, for ``Score.settings``; "not installed" where there is none."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def missing(package: str, metric: str) -> MissingExtraError:
    """The error for a metric whose library is absent."""
    return MissingExtraError(
        f"{metric} needs {package}; install it with: pip install {package} (or vivavoce[eval])"
    )
