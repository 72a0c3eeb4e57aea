"""How figures are written for people."""

from __future__ import annotations

import math
from typing import Any

from vivavoce.evaluation.scores import Score

SMALL_N = 30
"""Below so many items a figure is marked as resting on few."""
SYSTEM_WORDS = {
    "model": "the model",
    "endpoint": "the model at the endpoint",
    "cascade": "the cascade",
    "typed": "its LLM given the true words",
    "base": "its LLM before speech training",
    "silent": "the model given silence",
    "swapped": "the model given another question's audio",
    "original": "recordings of the texts, heard by the same recogniser",
}


def show_value(value: float, unit: str) -> str:
    """A score: shares as percent."""
    if not math.isfinite(value):
        return "none"
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.1f}" if unit == "points" else f"{value:.2f} {unit}"


def show_score(score: Score) -> str:
    """A score with its interval: ``12.3 % [9.1, 15.6]``."""
    return f"{show_value(score.value, score.unit)} {show_ends(score.low, score.high, score.unit)}"


def show_ends(low: float, high: float, unit: str) -> str:
    """An interval in the score's unit, which is not repeated."""
    return f"[{number(low, unit)}, {number(high, unit)}]"


def number(value: float, unit: str) -> str:
    """A value or difference without its unit; shares in percent, that is percentage points for differences."""
    value = 100 * value if unit == "share" else value
    if not math.isfinite(value):
        return "none"
    text = f"{value:.1f}" if unit in ("share", "points") else f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def gap_words(value: float, unit: str) -> str:
    """The size of a difference with its unit."""
    named = {"share": "points", "points": "points"}.get(unit, unit)
    return f"{number(abs(value), unit)} {named}"


def show_n(n: int) -> str:
    """``n 120``, or ``n 12 (few)``."""
    return f"n {n}" + (" (few)" if n < SMALL_N else "")


def seconds(value: float | None) -> str:
    """A time: milliseconds below one second."""
    if value is None:
        return "none"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def settings_words(settings: dict[str, Any]) -> str:
    """The settings of a score in one line: normaliser and versions first."""
    first = [k for k in ("normaliser", "recogniser", "tokenizer") if k in settings]
    rest = [k for k in settings if k not in (*first, "versions")]
    parts = [f"{key} {_flat(settings[key])}" for key in [*first, *rest] if settings[key] is not None]
    return ", ".join([*parts, *(f"{name} {v}" for name, v in (settings.get("versions") or {}).items())])


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k} {_flat(v)}" for k, v in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
