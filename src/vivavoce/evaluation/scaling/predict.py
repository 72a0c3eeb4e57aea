"""What a law says of a run that was not made, and how far that is from what was.

Inside the grid, and up to ``REACH`` times beyond its ends, the refits' interval is told with the noise of a run.
Further out it is refused unless asked for; the interval is then stretched, in log loss, by one plus the decades
beyond: a rule of thumb, since refits know the noise of the runs and not whether the law still holds there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.scaling.study import Machine, decades_beyond, serious, spread_of

REACH = 3.0


def predict(
    made: Mapping[str, Any],
    n: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
    beyond: bool = False,
) -> dict[str, Any]:
    """Predict the loss of a run.

    Args:
        made: A ``fit.json``.
        n: Parameters, counted as the fit did.
        tokens: D, with ``n``.
        flops: A budget instead, for its N* and D*.
        beyond: Also further out than ``REACH`` times the grid.

    Returns:
        ``n``, ``tokens``, ``flops``, ``loss`` with ``interval``, ``decades_beyond``, ``stretched``, ``audio_h``,
        ``gpu_h``, ``cost``, ``cautions``; for budgets the intervals of ``n`` and ``tokens`` too.

    Raises:
        ConfigError: Too far beyond the grid, a law that is none, or numbers out of range.
    """
    if (flops is None) == (n is None) or (n is None) != (tokens is None):
        raise ConfigError("wanted --params and --tokens, or --flops, one of the two.")
    given = [v for v in (n, tokens, flops) if v is not None]
    if not all(0 < v < math.inf for v in given):
        raise ConfigError(
            f"parameters, tokens and FLOPs are above 0, got {', '.join(f'{v:g}' for v in given)}."
        )
    law, spread = spread_of(made)
    found: dict[str, Any] = {}
    if flops is not None:
        best = law.best(flops)
        n, tokens = float(best[0]), float(best[1])
        if not (math.isfinite(n) and math.isfinite(tokens)):
            raise ConfigError("the law does not fall with both sizes and tokens, so no size is the best.")
        refits = spread.laws.best(flops)
        found |= {
            f"{k}_interval": list(spread.interval(v)) for k, v in zip(("n", "tokens"), refits, strict=False)
        }
    assert n is not None and tokens is not None
    broken = [c["words"] for c in made["cautions"] if c["severity"] == "broken"]
    if serious(made["cautions"]) and not beyond:
        raise ConfigError(
            f"the fit says of itself that its numbers mean nothing: {broken[0]}. Run more of the grid, or say "
            "--beyond to have them anyway."
        )
    decades = decades_beyond(made, n, tokens)
    if decades > math.log10(REACH) and not beyond:
        raise ConfigError(
            f"{_where(made, n, tokens)}; from {REACH:g} times on that is a guess. Say --beyond to have it, with a "
            "wider interval, or run larger models first."
        )
    loss = float(law.loss(n, tokens))
    low, high = spread.interval(spread.observed(spread.laws.loss(n, tokens)))
    stretched = 1.0 + decades
    ends = [float(loss * np.exp(stretched * np.log(end / loss))) for end in (low, high)]
    machine, share = Machine(**made["machine"]), made["audio_h_per_token"]
    cost = 6.0 * n * tokens
    hours = machine.hours(cost)
    cautions = [c["words"] for c in made["cautions"]]
    if decades > 0:
        cautions.insert(0, f"{_where(made, n, tokens)}; the interval is stretched {stretched:.2f} times")
    return {
        "n": n, "tokens": tokens, "flops": cost, "loss": loss, "interval": ends,
        "confidence": made["method"]["confidence"], "decades_beyond": decades, "stretched": stretched,
        "audio_h": None if share is None else share * tokens, "gpu_h": hours,
        "cost": None if machine.price is None else hours * machine.price,
        "cautions": cautions, **found,
    }  # fmt: skip


def _where(made: Mapping[str, Any], n: float, tokens: float) -> str:
    """How far N and D are beyond the grid, in words."""
    words = []
    for name, told, value in (("n", "parameters", n), ("tokens", "tokens", tokens)):
        low, high = made["range"][name]
        if value > high * (1 + 1e-9):
            words.append(f"{value:.3g} {told} are {value / high:.3g} times the grid's most ({high:.3g})")
        elif value < low * (1 - 1e-9):
            words.append(f"{value:.3g} {told} are {low / value:.3g} times below the grid's least ({low:.3g})")
    return " and ".join(words) or "it is inside the grid"


def read_fit(path: Path) -> dict[str, Any]:
    """Read a ``fit.json``, of its folder or by its name.

    Raises:
        DataError: There is none.
    """
    file = path / "fit.json" if path.is_dir() else path
    try:
        made: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        made["refits"]["E"]
        return made
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"{file} holds no fit; make one by: vivavoce scale fit.") from error
