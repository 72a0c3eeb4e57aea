"""``vivavoce eval tasks`` and ``report``: what can be asked, and reports made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_table


def tasks(json: Json = False, debug: Debug = False) -> None:
    """List the tasks and suites that `--tasks` takes."""
    from vivavoce.evaluation.tasks import SUITES, TASKS, make_task

    rows = [_row(name, make_task) for name in TASKS if name != "own"]  # that one is written in --config
    suites = {name: list(names) for name, names in SUITES.items()}
    if json:
        print_json({"tasks": rows, "suites": suites})
        return
    cells = [(r["name"], r["kind"], ", ".join(r["metrics"]), r["source"], r["licence"]) for r in rows]
    cells += [(name, "suite", "", ", ".join(names), "") for name, names in suites.items()]
    print_table(("name", "kind", "metrics", "data", "licence"), cells)


def _row(name: str, make_task: Any) -> dict[str, Any]:
    """What a task is; one that needs a configuration says which."""
    try:
        task = make_task(name)
    except (ConfigError, MissingExtraError) as error:
        return {"name": name, "kind": "", "metrics": [], "source": str(error), "licence": ""}
    metrics = [str(metric["name"]) for metric in task.metrics]
    return {
        "name": name,
        "kind": task.kind,
        "metrics": metrics,
        "source": task.source,
        "licence": task.licence,
    }


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `vivavoce eval --out` made.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score the answers of a run again and write its report anew; nothing is asked."""
    from vivavoce.cli.eval_screen import print_report
    from vivavoce.evaluation.report.making import make_report

    print_report(make_report(folder), json)
