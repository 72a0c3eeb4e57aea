"""Two runs on the same questions: which one is better, by metric and by slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vivavoce.base.errors import DataError
from vivavoce.evaluation.comparison import Comparison, compare
from vivavoce.evaluation.report.parts import slice_task
from vivavoce.evaluation.report.reading import RunFolder, TaskAnswers, read_run_folder, run_folders
from vivavoce.evaluation.report.scoring import TaskScores, score_task
from vivavoce.evaluation.report.verdicts import FEWEST, Claim, claim_of, gain_of
from vivavoce.evaluation.scores import Score


@dataclass(frozen=True)
class Row:
    """One metric on one part of one task.

    Attributes:
        task: Its name.
        part: "all", or "language: de".
        first: Score of the first run.
        second: Score of the second.
        comparison: Second minus first, paired.
        gain: Of the second over the first, positive where it is better.
        low: Lower end of the gain.
        high: Upper end.
        claim: Of the second run.
    """

    task: str
    part: str
    first: Score
    second: Score
    comparison: Comparison
    gain: float
    low: float
    high: float
    claim: Claim


@dataclass(frozen=True)
class RunComparison:
    """Two runs compared.

    Attributes:
        first: Model of the first.
        second: Model of the second.
        rows: By task, metric and part.
        left_out: Sentences about what could not be compared.
    """

    first: str
    second: str
    rows: list[Row]
    left_out: list[str]


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compare the models of two runs by a paired bootstrap on the questions that both answered.

    Raises:
        DataError: A folder holds several models, no task stands in both or can be compared, or questions differ.
    """
    runs = [_one(first), _one(second)]
    tasks = [{task.name: task for task in run.tasks} for run in runs]
    shared = [name for name in tasks[0] if name in tasks[1]]
    if not shared:
        names = [", ".join(found) for found in tasks]
        raise DataError(f"{first} has the tasks {names[0]}, {second} has {names[1]}: none in common.")
    left_out = [
        f"{name}: only in {run.path}"
        for run, found, others in zip(runs, tasks, reversed(tasks), strict=True)
        for name in found
        if name not in others
    ]
    rows: list[Row] = []
    for name in shared:
        pair = (tasks[0][name], tasks[1][name])
        check_same_questions(*pair, first, second)
        scored = [score_task(run.path, task) for run, task in zip(runs, pair, strict=True)]
        try:
            found = list(_rows(name, *scored))
        except DataError as error:  # other settings, or a run that was stopped
            left_out.append(f"{name}: {error}")
            continue
        if not found:
            left_out.append(f"{name}: one of the two has no score")
        rows += found
    if not rows:
        raise DataError(f"nothing can be compared: {'; '.join(left_out)}")
    return RunComparison(runs[0].run.model, runs[1].run.model, rows, left_out)


def check_same_questions(a: TaskAnswers, b: TaskAnswers, first: Path, second: Path) -> None:
    """Refuse tasks that asked different things: ids, words, what is right, length of the audio, noise.

    Raises:
        DataError: They differ.
    """
    if (a.record.kind, a.record.prompt) != (b.record.kind, b.record.prompt):
        raise DataError(f"{a.name} was asked in two ways, as its kind or prompt differ; evaluate both alike.")
    ours, theirs = {q.id: q for q in a.questions}, {q.id: q for q in b.questions}
    odd = sorted(set(ours) ^ set(theirs))
    if odd:
        raise DataError(
            f"{a.name} has {len(ours)} questions in {first} and {len(theirs)} in {second}, {len(odd)} in only one, "
            f"first {odd[0]!r}; evaluate both with the same --limit, --seed and data."
        )
    for name, question in ours.items():
        other = theirs[name]
        for what in ("question", "references", "choices", "snr_db", "duration_s"):
            left, right = getattr(question, what), getattr(other, what)
            if what == "duration_s" and left is not None and right is not None and abs(left - right) < 1e-3:
                continue
            if left != right:
                raise DataError(
                    f"{a.name}: question {name!r} differs between the runs, {what} is {left!r} and {right!r}; "
                    "evaluate both with the same --seed, data and voices."
                )


def _rows(name: str, first: TaskScores, second: TaskScores) -> Iterator[Row]:
    subjects = first.answers.subject or "", second.answers.subject or ""
    ours, theirs = first.scores.get(subjects[0], {}), second.scores.get(subjects[1], {})
    for metric in ours:
        if metric in theirs:
            yield row_of(name, "all", ours[metric], theirs[metric])
    parts = {(part.by, part.name): part.scores.get(subjects[1]) for part in slice_task(second)}
    for part in slice_task(first):
        left, right = part.scores.get(subjects[0]), parts.get((part.by, part.name))
        if left is not None and right is not None:
            yield row_of(name, f"{part.by}: {part.name}", left, right)


def row_of(task: str, part: str, first: Score, second: Score) -> Row:
    """Compare two scores of the same items, turned so that more is better."""
    found = compare(first, second)
    gain, low, high = gain_of(found, first.better)
    return Row(task, part, first, second, found, gain, low, high, claim_of(low, high, found.n))


def claim_words(row: Row) -> str:
    """What a row allows to say of the second run."""
    if row.comparison.n < FEWEST:
        return "too few"
    return {"better": "better", "worse": "worse"}.get(row.claim, "no difference can be claimed")


def _one(folder: Path) -> RunFolder:
    found = run_folders(folder)
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {len(found)} models; name one of {', '.join(str(path) for path in found)}."
        )
    return read_run_folder(found[0])
