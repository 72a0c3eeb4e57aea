"""``vivavoce eval tasks`` and ``report``: what can be asked, and reports made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_table


def tasks(json: Json = False, debug: Debug = False) -> None:
    """List the tasks and suites that `--tasks` takes."""
    from vivavoce.evaluation.tasks import SUITES, TASKS, make_task

    rows = []
    for name in TASKS:
        task = make_task(name)
        metrics = [str(metric["name"]) for metric in task.metrics]
        rows.append(
            {
                "name": name,
                "kind": task.kind,
                "metrics": metrics,
                "source": task.source,
                "licence": task.licence,
            }
        )
    suites = {name: list(names) for name, names in SUITES.items()}
    if json:
        print_json({"tasks": rows, "suites": suites})
        return
    cells = [(r["name"], r["kind"], ", ".join(r["metrics"]), r["source"], r["licence"]) for r in rows]
    cells += [(name, "suite", "", ", ".join(names), "") for name, names in suites.items()]
    print_table(("name", "kind", "metrics", "data", "licence"), cells)


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `vivavoce eval --out` made.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score the answers of a run again and write its report anew; nothing is asked."""
    from vivavoce.cli.eval_screen import print_report
    from vivavoce.evaluation.report.making import make_report

    print_report(make_report(folder), json)
