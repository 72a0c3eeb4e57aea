"""A law as a picture: losses against tokens for each size, budgets as valleys, seen against told (extra ``plots``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import MissingExtraError
from vivavoce.evaluation.scaling.study import spread_of

SHADES = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563")


def write_png(made: Mapping[str, Any], path: Path) -> Path:
    """Write the picture of a ``fit.json``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'vivavoce[plots]'.") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4.4), dpi=80)
    _curves(left, made)
    _valleys(middle, made)
    _seen_and_told(right, made)
    for axes in (left, middle):
        low, high = axes.get_xlim()
        axes.set_xticks([], minor=True)
        axes.set_xticks(np.geomspace(low, high, 7)[1:-1:2])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    for axes in (left, middle, right):
        axes.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _curves(axes: Any, made: Mapping[str, Any]) -> None:
    law, spread = spread_of(made)
    low, high = made["range"]["tokens"]
    tokens = np.geomspace(low, 3 * high, 60)
    for shade, n in zip(SHADES * 9, sorted({p["n"] for p in made["points"]}), strict=False):
        own = [p for p in made["points"] if p["n"] == n]
        axes.plot(
            [p["tokens"] for p in own], [p["loss"] for p in own], "o", color=shade, label=f"N = {n:.3g}"
        )
        axes.plot(tokens, law.loss(n, tokens), color=shade, linewidth=1)
        ends = np.array([spread.interval(spread.laws.loss(n, d)) for d in tokens])
        axes.fill_between(tokens, ends[:, 0], ends[:, 1], color=shade, alpha=0.12, linewidth=0)
    axes.axvline(high, color="#888", linewidth=0.8, linestyle=":")
    axes.set(
        xscale="log", xlabel="tokens D (the grid ends at the dots)", ylabel="held-out loss, nats a token"
    )
    axes.legend(fontsize=8)


def _valleys(axes: Any, made: Mapping[str, Any]) -> None:
    for shade, valley in zip(SHADES * 9, made["valleys"]["valleys"], strict=False):
        axes.plot(
            valley["sizes"],
            valley["losses"],
            "o-",
            color=shade,
            linewidth=0.8,
            markersize=4,
            label=f"C = {valley['flops']:.2g}",
        )
        if valley["n"] is not None:
            axes.plot(valley["n"], valley["loss"], "*", color=shade, markersize=11)
    axes.set(xscale="log", xlabel="parameters N, at equal FLOPs (star: cheapest size)", ylabel="loss")
    if made["valleys"]["valleys"]:
        axes.legend(fontsize=8)


def _seen_and_told(axes: Any, made: Mapping[str, Any]) -> None:
    seen = [p["loss"] for p in made["points"]]
    axes.plot([p["law"] for p in made["points"]], seen, "o", color=SHADES[0], markersize=4, label="fitted")
    for shade, (name, held) in zip(SHADES[1:], made["held_back"].items(), strict=False):
        for run in held.get("runs", ()):
            low, high = run["interval"]
            bars = [[run["predicted"] - low], [high - run["predicted"]]]
            first = run is held["runs"][0]
            axes.errorbar(
                run["predicted"],
                run["loss"],
                xerr=bars,
                fmt="s",
                color=shade,
                markersize=4,
                capsize=3,
                label=f"{name.replace('_', ' ')}, from the others" if first else None,
            )
    ends = [min(seen), max(seen)]
    axes.plot(ends, ends, color="#888", linewidth=0.8)
    axes.set(xlabel="loss by the law", ylabel="loss seen")
    axes.legend(fontsize=8)
