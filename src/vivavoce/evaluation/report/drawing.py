"""Two drawings as SVG: scores with their intervals, and a score over noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vivavoce.evaluation.report.parts import Sweep
from vivavoce.evaluation.report.style import COLOURS, OTHER_COLOUR
from vivavoce.evaluation.report.wording import number, show_value
from vivavoce.evaluation.scores import Score

WIDTH, ROW, LABEL = 560, 26, 92
SWEEP_HEIGHT, MARGIN = 240, 54


def draw_intervals(scores: Mapping[str, Score]) -> str:
    """One row per system: a dot at the score, a line over its interval.

    Args:
        scores: System -> score of one metric.
    """
    found = {s: score for s, score in scores.items() if math.isfinite(score.value)}
    if not found:
        return ""
    low, high = _range(list(found.values()))
    unit = next(iter(found.values())).unit
    height = ROW * len(found) + 26

    def at(value: float) -> float:
        return LABEL + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LABEL - 30)

    made = [
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="scores and intervals">'
    ]
    for step in range(5):
        value = low + (high - low) * step / 4
        made.append(
            f'<line x1="{at(value):.1f}" x2="{at(value):.1f}" y1="0" y2="{height - 20}" stroke="#8884"/>'
            f'<text x="{at(value):.1f}" y="{height - 5}" font-size="11" text-anchor="middle">'
            f"{number(value, unit)}</text>"
        )
    for row, (system, score) in enumerate(found.items()):
        y, colour = ROW * row + ROW / 2, COLOURS.get(system, OTHER_COLOUR)
        made.append(f'<text x="0" y="{y + 4}" font-size="12.5">{_letters(system)}</text>')
        if math.isfinite(score.low) and math.isfinite(score.high):
            made.append(
                f'<line x1="{at(score.low):.1f}" x2="{at(score.high):.1f}" y1="{y}" y2="{y}" '
                f'style="stroke:{colour}" stroke-width="3" stroke-linecap="round"/>'
            )
        made.append(f'<circle cx="{at(score.value):.1f}" cy="{y}" r="5.5" style="fill:{colour}"/>')
    return "".join(made) + "</svg>"


def draw_sweep(sweep: Sweep) -> str:
    """A line per system over the noise levels, evenly spaced, with a bar over each interval."""
    points = {s: [x for x in scores if x is not None] for s, scores in sweep.scores.items()}
    every = [score for scores in points.values() for score in scores]
    if not every:
        return ""
    low, high = _range(every)
    unit, bottom = every[0].unit, SWEEP_HEIGHT - 40

    def across(place: int) -> float:
        return MARGIN + 14 + place * (WIDTH - MARGIN - 40) / max(1, len(sweep.levels) - 1)

    def down(value: float) -> float:
        return 8 + (high - min(max(value, low), high)) / (high - low) * (bottom - 8)

    made = [
        f'<svg viewBox="0 0 {WIDTH} {SWEEP_HEIGHT}" width="{WIDTH}" role="img" aria-label="score over noise">'
    ]
    for step in range(5):
        value = low + (high - low) * step / 4
        made.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - 8}" y1="{down(value):.1f}" y2="{down(value):.1f}" stroke="#8884"/>'
            f'<text x="{MARGIN - 6}" y="{down(value) + 4:.1f}" font-size="11" text-anchor="end">'
            f"{number(value, unit)}</text>"
        )
    for place, level in enumerate(sweep.levels):
        name = "clean" if level is None else f"{level:g} dB"
        made.append(
            f'<text x="{across(place):.1f}" y="{bottom + 18}" font-size="11" text-anchor="middle">{name}</text>'
        )
    made.append(
        f'<text x="{WIDTH / 2}" y="{SWEEP_HEIGHT - 4}" font-size="11" text-anchor="middle">'
        f"signal to noise ratio</text>"
    )
    for shift, (system, scores) in enumerate(sweep.scores.items()):
        colour, moved = COLOURS.get(system, OTHER_COLOUR), 4 * shift  # bars beside each other
        there = [(across(i) + moved, s) for i, s in enumerate(scores) if s is not None]
        path = " ".join(f"{x:.1f},{down(s.value):.1f}" for x, s in there)
        made.append(f'<polyline fill="none" style="stroke:{colour}" stroke-width="2" points="{path}"/>')
        for x, score in there:
            made.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{down(score.low):.1f}" y2="{down(score.high):.1f}" '
                f'style="stroke:{colour}" stroke-width="1.5" opacity="0.6"/>'
                f'<circle cx="{x:.1f}" cy="{down(score.value):.1f}" r="4" style="fill:{colour}">'
                f"<title>{show_value(score.value, unit)}, n {score.n}</title></circle>"
            )
    return "".join(made) + "</svg>"


def _range(scores: Sequence[Score]) -> tuple[float, float]:
    """Ends of the axis: all intervals, and 0 to 1 for shares unless they go beyond."""
    values = [v for s in scores for v in (s.low, s.high, s.value) if math.isfinite(v)]
    low, high = min([0.0, *values]), max(values)
    if scores[0].unit == "share" and high > 0.5:
        high = max(1.0, high)
    if scores[0].unit == "points" and high > 50:
        high = max(100.0, high)
    if scores[0].unit == "share":
        high = math.ceil(round(5 * high, 6)) / 5  # even numbers along the axis
    return low, high if high > low else low + 1.0


def _letters(name: str) -> str:
    return "".join(c for c in name if c.isalnum() or c in " _-.")[:16]
