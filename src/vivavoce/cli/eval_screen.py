"""An evaluation on the terminal: how far it is, and its report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vivavoce.cli.screen import console, print_json, print_result, print_table, printable

if TYPE_CHECKING:
    from vivavoce.evaluation.report.report import ModelReport, Report
    from vivavoce.evaluation.run.runner import Progress

STYLES = {"better": "green", "worse": "red"}


@contextmanager
def answering() -> Iterator[Callable[[Progress], None]]:
    """Show on terminals how many questions a system has answered; gives the runner's callback."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with RichProgress(*columns, console=console(sys.stderr), transient=True) as bar:
        shown = bar.add_task("getting ready", total=None)
        now = ("", "")

        def advance(progress: Progress) -> None:
            nonlocal now, shown
            if now != (progress.task, progress.system):
                now = (progress.task, progress.system)
                bar.remove_task(shown)
                shown = bar.add_task(printable(f"{progress.task}, {progress.system}"), total=progress.total)
            bar.update(shown, completed=progress.done, total=progress.total)

        yield advance


def print_report(report: Report, json: bool) -> None:
    """Write a report on stdout: findings first, scores, verdicts, latency and where the page is."""
    if json:
        print_json(report.record())
        return
    for model in report.models:
        if len(report.models) > 1:
            print_styled(f"\n{model.run.model}", "bold")
        print_findings(model)
        _scores(model)
        print_result("")
        for task in model.tasks:
            for verdict in task.verdicts[:1]:
                print_styled(f"{task.name}: {verdict.words}", STYLES.get(verdict.claim, ""))
            for level in task.noisy:
                snr = level.scores.answers.questions[0].snr_db
                for verdict in level.verdicts[:1]:
                    print_styled(f"{task.name} at {snr:g} dB: {verdict.words}", STYLES.get(verdict.claim, ""))
        if not any(task.typed for task in model.tasks):
            print_result("retention: no typed task was run, so nothing is known of the model's text.")
        print_result("")
        _latency(model)
    print_result(f"\nreport  {report.folder / 'report.html'}")


def print_findings(model: ModelReport) -> None:
    """What the diagnosis found, the worst first; what was fine in one line."""
    for finding in model.findings:
        name = finding.name.replace("_", " ")
        if finding.severity == "broken":
            print_styled(f"BROKEN  {name}: {finding.words}", "bold white on red")
        elif finding.severity == "warning":
            print_styled(f"warning  {name}: {finding.words}", "yellow")
    fine = sum(finding.severity == "ok" for finding in model.findings)
    if fine:
        print_result(f"{fine} {'check' if fine == 1 else 'checks'} found nothing wrong")


def print_styled(text: str, style: str) -> None:
    """Write text in a style, on terminals only."""
    from rich.text import Text

    console(sys.stdout).print(Text(printable(text), style=style))


def _scores(model: ModelReport) -> None:
    from vivavoce.evaluation.report.wording import SMALL_N, show_ends, show_value

    rows: list[tuple[Any, ...]] = []
    for task in model.tasks:
        for each in (task, *task.noisy):
            for system, scores in each.scores.scores.items():
                for metric, score in scores.items():
                    value, ends = (
                        show_value(score.value, score.unit),
                        show_ends(score.low, score.high, score.unit),
                    )
                    few = "few" if score.n < SMALL_N else ""
                    rows.append((each.name, system, metric, value, ends, score.n, few))
    print_table(("task", "system", "metric", "score", "95 %", "n", ""), rows, right=("score", "95 %", "n"))
    for task in model.tasks:
        for sentence in task.scores.unscored:
            print_styled(f"not scored  {task.name}: {sentence}", "yellow")


def _latency(model: ModelReport) -> None:
    from vivavoce.evaluation.report.latency import TIMES
    from vivavoce.evaluation.report.page import time_cells

    rows = [
        (task.name, system, words, *time_cells(key, times[key]))
        for task in model.tasks
        for system, times in task.latency.items()
        for key, words in TIMES
        if key in times
    ]
    if rows:
        columns = ("latency of", "system", "until", "p50 [95 %]", "p95 [95 %]", "largest", "n")
        print_table(columns, rows, right=columns[3:])
