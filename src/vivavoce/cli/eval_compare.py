"""``vivavoce eval compare``: two runs on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import note, print_json, print_result, print_table

if TYPE_CHECKING:
    from vivavoce.evaluation.report.comparing import Row


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another, on the same questions.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether the second run is better, by metric and by part, with paired intervals.

    Runs that were asked different questions are refused.
    """
    from vivavoce.evaluation.report.comparing import claim_words, compare_runs
    from vivavoce.evaluation.report.wording import number, show_value

    found = compare_runs(first, second)
    if json:
        rows = [_record(row) for row in found.rows]
        print_json({"first": found.first, "second": found.second, "rows": rows, "left_out": found.left_out})
        return
    cells = [
        (
            row.task,
            row.part,
            row.first.metric,
            show_value(row.first.value, row.first.unit),
            show_value(row.second.value, row.second.unit),
            f"{'+' if row.gain > 0 else ''}{number(row.gain, row.first.unit)}",
            f"[{number(row.low, row.first.unit)}, {number(row.high, row.first.unit)}]",
            row.comparison.n,
            f"{row.comparison.p:.3f}",
            claim_words(row),
        )
        for row in found.rows
    ]
    print_result(
        f"A {found.first} ({first}), B {found.second} ({second}); gains are of B, positive is better"
    )
    columns = ("task", "part", "metric", "A", "B", "gain", "95 %", "n", "p", "B is")
    print_table(columns, cells, right=("A", "B", "gain", "95 %", "n", "p"))
    for sentence in found.left_out:
        note(f"not compared: {sentence}")
    if len(cells) > 1:
        note(
            f"{len(cells)} comparisons: of so many without any difference, about 1 in 20 would still look like one."
        )


def _record(row: Row) -> dict[str, Any]:
    compared = row.comparison
    return {
        "task": row.task,
        "part": row.part,
        "metric": row.first.metric,
        "first": {"value": row.first.value, "interval": [row.first.low, row.first.high], "n": row.first.n},
        "second": {
            "value": row.second.value,
            "interval": [row.second.low, row.second.high],
            "n": row.second.n,
        },
        "gain": {"value": row.gain, "interval": [row.low, row.high], "n": compared.n, "p": compared.p},
        "claim": row.claim,
    }
