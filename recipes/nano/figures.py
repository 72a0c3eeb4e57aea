"""Measured figures: a value with its number of trials, its 95 % interval and what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Z_95 = 1.959964


@dataclass
class Figure:
    """One row of the table.

    Attributes:
        test: The test it belongs to.
        name: What was measured.
        value: A share in [0, 1], or a word error (0 is best).
        n: Trials; for word error, sentences.
        low: Lower end of the 95 % interval.
        high: Upper end.
        aim: ">= 0.95", "<= 0.08", or "" where none was set.
        seconds: What its test took.
    """

    test: str
    name: str
    value: float
    n: int
    low: float
    high: float
    aim: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool | None:
        """Whether the value reaches the aim; None without one, False without trials."""
        if not self.aim:
            return None
        sign, bound = self.aim.split()
        if self.n == 0:
            return False
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)

    def as_json(self) -> dict[str, Any]:
        row = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**row, "passed": self.passed}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share; honest at 0 and 1, and (0, 1) when nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = hits / n, Z_95 * Z_95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(test: str, name: str, outcomes: Sequence[bool], aim: str = "") -> Figure:
    """How often something was right, with a Wilson interval."""
    hits, n = sum(outcomes), len(outcomes)
    return Figure(test, name, hits / n if n else 0.0, n, *wilson(hits, n), aim)


def word_edits(wanted: str, heard: str) -> tuple[int, int]:
    """(substitutions + deletions + insertions, wanted words) of one sentence."""
    a, b = wanted.split(), heard.split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)


def word_error(
    test: str, name: str, pairs: Sequence[tuple[str, str]], aim: str = "", draws: int = 2000
) -> Figure:
    """Word error of (wanted, heard) pairs; the interval redraws whole sentences, as their errors hang together."""
    counts = np.array([word_edits(*pair) for pair in pairs], dtype=float).reshape(-1, 2)
    if not len(counts):
        return Figure(test, name, 0.0, 0, 0.0, 1.0, aim)
    drawn = counts[np.random.default_rng(0).integers(0, len(counts), (draws, len(counts)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    errors, words = counts.sum(axis=0)
    return Figure(test, name, float(errors / words), len(counts), float(low), float(high), aim)


def print_table(figures: Sequence[Figure], title: str) -> None:
    """One table, a section per test."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("figure", "value", "95 % interval", "n", "aim", "", "s"):
        table.add_column(column, justify="left" if column == "figure" else "right", no_wrap=True)
    for place, f in enumerate(figures):
        verdict = {None: "", True: "[green]pass[/]", False: "[red]short[/]"}[f.passed]
        aim = f"{f.aim.split()[0]} {100 * float(f.aim.split()[1]):g} %" if f.aim else ""
        interval = f"{100 * f.low:.1f} to {100 * f.high:.1f} %" if f.n else ""
        value = f"{100 * f.value:.1f} %" if f.n else "not tried"
        ends = place + 1 == len(figures) or figures[place + 1].test != f.test
        seconds = f"{f.seconds:.0f}" if ends else ""
        table.add_row(
            f"{f.test}: {f.name}", value, interval, str(f.n), aim, verdict, seconds, end_section=ends
        )
    Console(width=118).print(table)
