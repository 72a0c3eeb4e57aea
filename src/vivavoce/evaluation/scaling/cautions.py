"""What speaks against believing a law, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vivavoce.evaluation.scaling.bootstrap import Spread
from vivavoce.evaluation.scaling.fitting import Fitted, Points
from vivavoce.evaluation.scaling.isoflop import Valleys

SIZES, RATIOS, POINTS = 5, 3, 12
RANGE = 8.0  # of N and of D that a grid should span
COLLINEAR = 0.9
PASSES = 4.0
EMBEDDINGS = 0.3
FAILED = 0.05
APART = 0.15  # between the two methods' powers


@dataclass(frozen=True)
class Caution:
    """One thing.

    Attributes:
        name: For programs.
        words: For people.
        severity: "warning", or "broken" where the numbers mean nothing.
    """

    name: str
    words: str
    severity: str = "warning"


def look_at_grid(points: Points, records: Sequence[Mapping[str, Any]], count: str) -> list[Caution]:
    """What is wrong with the runs, whatever the law.

    Args:
        points: That are fitted.
        records: Their lines of ``results.jsonl``.
        count: "n" or "n_total", which the law counts.
    """
    return list(_grid(points, records, count))


def _grid(points: Points, records: Sequence[Mapping[str, Any]], count: str) -> Iterator[Caution]:
    sizes = len(np.unique(points.n))
    ratios = len(np.unique(np.log2(points.d / points.n).round()))
    if sizes < SIZES:
        yield Caution("few_sizes", f"{sizes} sizes of model; wanted {SIZES} or more")
    if ratios < RATIOS:
        yield Caution("few_ratios", f"{ratios} ratios of tokens to parameters; wanted {RATIOS} or more")
    if len(points) < POINTS:
        yield Caution("few_points", f"{len(points)} points for five numbers; wanted {POINTS} or more")
    for name, values in (("sizes", points.n), ("tokens", points.d)):
        reach = values.max() / values.min()
        if reach < RANGE:
            yield Caution(
                f"narrow_{name}", f"the grid's {name} span a factor of {reach:.3g}; wanted {RANGE:g} or more"
            )
    if np.std(np.log(points.n)) > 0 and np.std(np.log(points.d)) > 0:
        together = abs(float(np.corrcoef(np.log(points.n), np.log(points.d))[0, 1]))
        if together > COLLINEAR:
            yield Caution(
                "collinear",
                f"sizes and tokens grow together (correlation {together:.2f}), so nobody can tell which of the two "
                "lowered the loss; give each size several budgets",
                "broken" if together > 0.99 else "warning",
            )
    shares = [1 - r["n"] / r["n_total"] for r in records if r.get("n_total")]
    if shares and max(shares) > EMBEDDINGS:
        told = "without them" if count == "n" else "with them"
        yield Caution(
            "embeddings",
            f"token tables and the like are up to {max(shares):.0%} of a model, and N is counted {told}; the law would "
            "look different the other way (--count), and neither holds for large models, where they are few",
        )
    passes = max((r.get("passes") or 0.0 for r in records), default=0.0)
    if passes > PASSES:
        yield Caution(
            "repeated",
            f"rows were seen up to {passes:.1f} times; D counts repeats as new, above {PASSES:g} that is wrong",
        )
    annealed = {r["annealed"] for r in records if "annealed" in r}
    if annealed == {False}:
        yield Caution(
            "not_annealed",
            "losses were read before the learning rate came down; a run that is finished gets lower",
        )
    schedules = {r["schedule"] for r in records if "schedule" in r}
    if len(annealed) > 1 or len(schedules) > 1:
        words = ", ".join(sorted(schedules))
        yield Caution("mixed_schedules", f"points of different schedules ({words}) are in one law", "broken")


def look_at_law(points: Points, fitted: Fitted, spread: Spread, valleys: Valleys) -> list[Caution]:
    """What is wrong with a law."""
    return list(_law(points, fitted, spread, valleys))


def _law(points: Points, fitted: Fitted, spread: Spread, valleys: Valleys) -> Iterator[Caution]:
    law = fitted.law
    for name in ("a", "b"):
        value = getattr(law, name)
        low, high = spread.interval(getattr(spread.laws, name))
        if value < 0.02 or value > 2.0:
            yield Caution(
                f"boundary_{name}",
                f"{name} is {value:.3g}; between 0.02 and 2 it would mean something",
                "broken",
            )
        elif not high < 4 * max(low, 1e-9):
            yield Caution(f"vague_{name}", f"{name} may be anything from {low:.2g} to {high:.2g}")
    low, high = spread.interval(spread.laws.E)
    floor = float(points.loss.min())
    if 0.01 * floor > law.E:
        yield Caution(
            "boundary_E", f"the floor E is {law.E:.3g}: these runs do not show that there is one", "broken"
        )
    elif low < 0.1 * floor:
        yield Caution(
            "vague_E",
            f"the floor E may be as low as {low:.2g}, of losses above {floor:.2g}: these runs are far from it",
        )
    if spread.failed > FAILED * spread.count:
        yield Caution("failed_refits", f"{spread.failed} of {spread.count} refits were no law")
    if fitted.agreeing < 0.3:
        yield Caution(
            "starts",
            f"only {fitted.agreeing:.0%} of the best starts ended at this law; others are about as good",
        )
    spanned = float(np.ptp(np.log(points.loss)))
    if spread.noise > 0.1 * spanned:
        yield Caution(
            "noise",
            f"runs scatter by {spread.noise:.1%} about the law, and all of them span only {spanned:.1%}",
        )
    power = law.b / (law.a + law.b)
    if valleys.power is None:
        yield Caution(
            "no_valleys",
            "no budget has its cheapest size within the grid, so the second method cannot be compared",
        )
    elif abs(valleys.power - power) > APART:
        yield Caution(
            "methods_disagree",
            f"N* grows as C^{power:.2f} by the law and as C^{valleys.power:.2f} by parabolas",
        )
