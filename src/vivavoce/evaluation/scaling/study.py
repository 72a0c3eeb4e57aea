"""Everything a sweep says: its law with intervals, laws of parts, checks on itself; ``fit.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.scaling.bootstrap import Refits, Spread, refit
from vivavoce.evaluation.scaling.cautions import Caution, look_at_grid, look_at_law
from vivavoce.evaluation.scaling.fitting import DELTA, LEAST_POINTS, Fitted, Points, fit
from vivavoce.evaluation.scaling.isoflop import find_valleys
from vivavoce.evaluation.scaling.law import FLOPS, NAMES, Law

Count = Literal["n", "n_total"]
BITS = "bits_per_s"


@dataclass(frozen=True)
class Machine:
    """What compute costs.

    Attributes:
        flops: Peak of one GPU, FLOP/s.
        share: Of the peak that training reaches.
        price: Of a GPU hour, in any currency; None for no cost.
    """

    flops: float = 989e12
    share: float = 0.35
    price: float | None = None

    def __post_init__(self) -> None:
        if not self.flops > 0 or not 0 < self.share <= 1 or (self.price is not None and self.price < 0):
            raise ConfigError(
                f"GPU: {self.flops:g} FLOP/s, share {self.share}, price {self.price}; wanted more than 0, a share up "
                "to 1 and a price of 0 or more."
            )

    def hours(self, flops: float) -> float:
        """GPU hours of so many FLOPs."""
        return flops / (self.flops * self.share) / 3600


@dataclass(frozen=True)
class StudySettings:
    """How a law is fitted.

    Attributes:
        count: N without token tables ("n") or with everything ("n_total").
        delta: Of the Huber loss.
        refits: Intervals.
        published_grid: Chinchilla's 4,500 starts as well.
        budgets: FLOPs that N*, D* and L* are told for.
        machine: For hours and cost.
    """

    count: Count = "n"
    delta: float = DELTA
    refits: Refits = field(default_factory=Refits)
    published_grid: bool = False
    budgets: tuple[float, ...] = ()
    machine: Machine = field(default_factory=Machine)


def study(records: Sequence[Mapping[str, Any]], settings: StudySettings | None = None) -> dict[str, Any]:
    """Fit laws to the points of a sweep.

    Args:
        records: Lines of ``results.jsonl``.
        settings: How.

    Returns:
        What ``fit.json`` holds: ``law`` (numbers with ``interval``), ``refits`` (all of them, for predictions),
        ``parts`` (laws of text, audio, slots, bits per second), ``held_back`` (the largest runs predicted from the
        others), ``valleys``, ``budgets``, ``cautions``, ``range``, ``points``.

    Raises:
        DataError: Too few points.
    """
    settings = settings or StudySettings()
    points = points_of(records, "loss", settings.count)
    fitted, spread = _fitted(points, settings)
    valleys = find_valleys(points)
    parts = {
        name: part for name in part_names(records) if (part := _part(records, name, settings)) is not None
    }
    hours = [r["audio_h"] / r["tokens"] for r in records if r.get("audio_h")]
    cautions = look_at_grid(points, records, settings.count) + look_at_law(points, fitted, spread, valleys)
    made: dict[str, Any] = {
        "count": settings.count,
        "method": {
            "delta": settings.delta, "starts": fitted.starts, "agreeing": fitted.agreeing, "refits": spread.count,
            "failed": spread.failed, "kind": settings.refits.kind, "confidence": settings.refits.confidence,
            "outer": spread.outer,
        },
        "law": _told(fitted, spread),
        "noise": spread.noise,
        "objective": fitted.objective,
        "range": {
            "n": [float(points.n.min()), float(points.n.max())],
            "tokens": [float(points.d.min()), float(points.d.max())],
            "flops": [float((FLOPS * points.n * points.d).min()), float((FLOPS * points.n * points.d).max())],
        },
        "audio_h_per_token": float(np.mean(hours)) if hours else None,
        "parts": parts,
        "held_back": _held_back(points, settings),
        "valleys": asdict(valleys),
        "power": {"law": fitted.law.b / (fitted.law.a + fitted.law.b), "valleys": valleys.power},
        "machine": asdict(settings.machine),
        "cautions": [asdict(c) for c in cautions],
        "points": [
            {"id": str(r.get("id", i)), "n": float(n), "tokens": float(d), "loss": float(y), "law": float(f)}
            for i, (r, n, d, y, f) in enumerate(
                zip(records, points.n, points.d, points.loss, fitted.law.loss(points.n, points.d), strict=True)
            )
        ],
        "refits": {name: getattr(spread.laws, name).tolist() for name in NAMES},
        "seed": settings.refits.seed,
    }  # fmt: skip
    top = made["range"]["flops"][1]
    made["budgets"] = [
        budget(made, flops, spread=spread, law=fitted.law) for flops in settings.budgets or (top, 10 * top)
    ]
    return made


def points_of(records: Sequence[Mapping[str, Any]], name: str, count: Count = "n") -> Points:
    """The points that have a loss of this name: "loss", "bits_per_s", or one of ``losses``.

    Raises:
        DataError: N is to be counted in a way that a line does not know.
    """
    kept = [(r, _loss(r, name)) for r in records]
    missing = [r.get("id", i) for i, (r, y) in enumerate(kept) if y is not None and r.get(count) is None]
    if missing:
        raise DataError(f"the point {missing[0]} has no {count}; count N another way, or add it.")
    rows = [(r[count], r["tokens"], y) for r, y in kept if y is not None]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Points(table[:, 0], table[:, 1], table[:, 2])


def part_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Losses that the points have beside the whole."""
    names = dict.fromkeys(name for r in records for name in r.get("losses", {}))
    if any(r.get(BITS) for r in records):
        names[BITS] = None
    return list(names)


def _loss(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name) if name in ("loss", BITS) else record.get("losses", {}).get(name)
    return None if value is None or not value > 0 else float(value)


def _fitted(points: Points, settings: StudySettings) -> tuple[Fitted, Spread]:
    fitted = fit(points, settings.delta, settings.published_grid)
    return fitted, refit(points, fitted, settings.refits, settings.delta)


def _part(records: Sequence[Mapping[str, Any]], name: str, settings: StudySettings) -> dict[str, Any] | None:
    """The law of one part of the loss; None where too few points have it."""
    points = points_of(records, name, settings.count)
    if len(points) < LEAST_POINTS:
        return None
    fitted, spread = _fitted(points, settings)
    return {
        "law": _told(fitted, spread), "noise": spread.noise, "failed": spread.failed,
        "lowest": float(points.loss.min()),
    }  # fmt: skip


def _told(fitted: Fitted, spread: Spread) -> dict[str, dict[str, Any]]:
    """Numbers of a law, each with its interval."""
    return {
        name: {"value": value, "interval": list(spread.interval(getattr(spread.laws, name)))}
        for name, value in fitted.law.as_dict().items()
    }


def _held_back(points: Points, settings: StudySettings) -> dict[str, Any]:
    """The largest runs, predicted by a law of the others."""
    flops = points.n * points.d
    made: dict[str, Any] = {}
    for name, out in (
        ("largest_run", flops >= flops.max() * 0.999),
        ("largest_size", points.n >= points.n.max() * 0.999),
        ("largest_budget", points.d >= points.d.max() * 0.99),
    ):
        rest = points.take(~out)
        try:
            fitted, spread = _fitted(rest, settings)
        except DataError as error:
            made[name] = {"error": str(error)}
            continue
        found = []
        for n, d, loss in zip(points.n[out], points.d[out], points.loss[out], strict=True):
            told = float(fitted.law.loss(n, d))
            low, high = spread.interval(spread.observed(spread.laws.loss(n, d)))
            found.append(
                {"n": n, "tokens": d, "loss": loss, "predicted": told, "interval": [low, high],
                 "error": told / loss - 1, "inside": bool(low <= loss <= high)}
            )  # fmt: skip
        made[name] = {
            "runs": found, "fitted_to": len(rest), "error": float(np.mean([abs(f["error"]) for f in found])),
            "inside": sum(f["inside"] for f in found),
        }  # fmt: skip
    return made


def spread_of(made: Mapping[str, Any]) -> tuple[Law, Spread]:
    """The law and the refits of a ``fit.json``."""
    law = Law(*(float(made["law"][name]["value"]) for name in NAMES))
    method = made["method"]
    settings = Refits(method["refits"], method["kind"], method["confidence"], made["seed"])
    laws = Law(*(np.array(made["refits"][name], dtype=np.float64) for name in NAMES))
    free = max(1, len(made["points"]) - 5)
    return law, Spread(laws, method["failed"], method["refits"], made["noise"], free, settings)


def budget(made: Mapping[str, Any], flops: float, spread: Spread, law: Law) -> dict[str, Any]:
    """N*, D* and L* of a budget with intervals, hours of audio and of GPUs."""
    value, refits = law.best(flops), spread.laws.best(flops)
    told = {
        name: {"value": float(v), "interval": list(spread.interval(r))}
        for name, v, r in zip(("n", "tokens", "loss"), value, refits, strict=True)
    }
    share, machine = made["audio_h_per_token"], Machine(**made["machine"])
    hours = machine.hours(flops)
    return {
        "flops": flops, **told,
        "audio_h": None if share is None else share * float(value[1]),
        "gpu_h": hours, "cost": None if machine.price is None else hours * machine.price,
        "decades_beyond": decades_beyond(made, float(value[0]), float(value[1])),
    }  # fmt: skip


def decades_beyond(made: Mapping[str, Any], n: float, tokens: float) -> float:
    """How far outside of the grid a point is, in decades of the worse of N and D; 0 inside."""
    found = [0.0]
    for name, value in (("n", n), ("tokens", tokens)):
        low, high = made["range"][name]
        found.append(float(np.log10(max(value / high, low / value))) if value > 0 else np.inf)
    return max(found)


def serious(cautions: Sequence[Mapping[str, Any] | Caution]) -> bool:
    """Whether the numbers mean nothing."""
    return any((c["severity"] if isinstance(c, Mapping) else c.severity) == "broken" for c in cautions)
