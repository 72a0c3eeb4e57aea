"""Read the folders that evaluations leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vivavoce.base.errors import DataError
from vivavoce.evaluation.results import (
    Finding,
    Outcome,
    Question,
    RunRecord,
    TaskRecord,
    read_findings,
    read_outcomes,
    read_questions,
    read_run,
)

SYSTEMS = ("model", "endpoint", "cascade", "typed", "base", "original", "silent", "swapped")
"""Order in which systems are shown; others follow."""
TEXT_KIND = "read"


@dataclass(frozen=True)
class TaskAnswers:
    """A task of a run with all that was answered.

    Attributes:
        name: Of the task.
        record: Kind, metrics, prompt.
        questions: All that were asked.
        outcomes: System -> question's id -> what it made of it; some may be missing in a run that was stopped.
    """

    name: str
    record: TaskRecord
    questions: list[Question]
    outcomes: Mapping[str, Mapping[str, Outcome]] = field(default_factory=dict)

    @property
    def typed(self) -> bool:
        """Whether it asks in text only."""
        return self.record.kind == TEXT_KIND

    @property
    def subject(self) -> str | None:
        """The system that is evaluated: the model (typed to, in typed tasks), or what answers at an endpoint."""
        names = ("typed", "model", "endpoint") if self.typed else ("model", "endpoint")
        return next((name for name in names if name in self.outcomes), None)

    @property
    def noise_of(self) -> str | None:
        """The task that this one repeats with noise at one level, by its name (``NAME_snr10``)."""
        name, found, _ = self.name.rpartition("_snr")
        levels = {q.snr_db for q in self.questions}
        return name if found and len(levels) == 1 and None not in levels else None


@dataclass(frozen=True)
class RunFolder:
    """One model's run.

    Attributes:
        path: The folder.
        run: Its record.
        findings: Of the diagnosis.
        tasks: With their answers.
    """

    path: Path
    run: RunRecord
    findings: list[Finding]
    tasks: list[TaskAnswers]


def run_folders(folder: Path) -> list[Path]:
    """The runs in a folder: itself, or the folders in it, one per model.

    Raises:
        DataError: There are none.
    """
    if (folder / "run.json").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/run.json"))
    if not found:
        raise DataError(f"{folder} holds no run.json; wanted the folder that `vivavoce eval --out` made.")
    return found


def read_run_folder(folder: Path) -> RunFolder:
    """Read everything a report is made from.

    Raises:
        DataError: A file is missing or is not what it should be.
    """
    run = read_run(folder)
    tasks = []
    for name, record in run.tasks.items():
        place = folder / "items" / name
        if not (place / "inputs.jsonl").is_file():
            continue  # the run was stopped before this task
        there = {path.stem: path for path in place.glob("*.jsonl")}
        found = {s: read_outcomes(path) for s, path in there.items() if s in SYSTEMS or s in run.systems}
        order = [s for s in SYSTEMS if s in found] + sorted(set(found) - set(SYSTEMS))
        tasks.append(
            TaskAnswers(name, record, read_questions(place / "inputs.jsonl"), {s: found[s] for s in order})
        )
    if not tasks:
        raise DataError(f"{folder} has no answers yet; run `vivavoce eval` with the same --out to its end.")
    return RunFolder(folder, run, read_findings(folder), tasks)


def file_inside(folder: Path, name: str | None) -> Path | None:
    """A recording that a line names, if it is there and lies in the run's folder."""
    if not name:
        return None
    path = (folder / name).resolve()
    return path if path.is_file() and path.is_relative_to(folder.resolve()) else None
