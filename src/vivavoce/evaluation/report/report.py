"""A report: everything that a run's folder says, in figures and words, as Python and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vivavoce.evaluation.report.latency import Times, measure_times
from vivavoce.evaluation.report.parts import Slice, Sweep, slice_task, sweep_tasks
from vivavoce.evaluation.report.reading import read_run_folder, run_folders
from vivavoce.evaluation.report.scoring import TaskScores, score_task
from vivavoce.evaluation.report.verdicts import Verdict, retention_verdict, task_verdicts
from vivavoce.evaluation.report.wording import SMALL_N
from vivavoce.evaluation.report.worst import Poor, worst_items
from vivavoce.evaluation.results import Finding, RunRecord
from vivavoce.evaluation.scores import Score

CONTROLS = ("silent", "swapped", "original")
"""Systems whose times say nothing."""


@dataclass(frozen=True)
class TaskReport:
    """What is said of one task.

    Attributes:
        name: Of the task.
        scores: Of all systems.
        verdicts: Cascade first; of a typed task retention alone.
        slices: Parts of the deciding scores.
        sweep: Over noise.
        noisy: The same task at each level of noise, the loudest first.
        worst: Items of the model.
        latency: System -> times.
    """

    name: str
    scores: TaskScores
    verdicts: list[Verdict]
    slices: list[Slice]
    sweep: Sweep | None
    noisy: list[TaskReport]
    worst: list[Poor]
    latency: dict[str, dict[str, Times]]

    @property
    def typed(self) -> bool:
        """Whether it asks in text only."""
        return self.scores.answers.typed


@dataclass(frozen=True)
class ModelReport:
    """What is said of one model.

    Attributes:
        folder: Of its run.
        run: Its record.
        findings: Of the diagnosis, the worst first.
        tasks: In the order of the run.
    """

    folder: Path
    run: RunRecord
    findings: list[Finding]
    tasks: list[TaskReport]

    @property
    def broken(self) -> list[Finding]:
        """Findings that make the scores worthless."""
        return [f for f in self.findings if f.severity == "broken"]

    def record(self) -> dict[str, Any]:
        """The report as JSON."""
        spoken, typed = [t for t in self.tasks if not t.typed], [t for t in self.tasks if t.typed]
        return {
            "model": self.run.model,
            "broken": bool(self.broken),
            "findings": [asdict(f) for f in self.findings],
            "tasks": {task.name: _task_record(task, self.run.systems) for task in spoken},
            "retention": {task.name: _typed_record(task) for task in typed}
            or {"verdict": "no typed task was run, so nothing is known of the model's text."},
            "latency": {t.name: _latency_record(t) for t in self.tasks if t.latency},
            "environment": {
                "date": self.run.date,
                "seed": self.run.seed,
                "hardware": self.run.hardware,
                "versions": self.run.versions,
                "model": self.run.model_facts,
                "settings": self.run.settings,
            },
        }


@dataclass(frozen=True)
class Report:
    """Of one model or several, side by side.

    Attributes:
        folder: Where the report stands.
        models: In the order of their folders.
    """

    folder: Path
    models: list[ModelReport]

    def record(self) -> dict[str, Any]:
        """The report as JSON: of one model its record, of several ``{"models": {folder: record}}``."""
        path = {"report": str(self.folder / "report.html")}
        if len(self.models) == 1 and self.models[0].folder == self.folder:
            return self.models[0].record() | path
        return {"models": {model.folder.name: model.record() for model in self.models}} | path


def read_report(folder: Path) -> Report:
    """Score and judge the runs in a folder; writes nothing.

    Raises:
        DataError: There are none, or they are damaged.
    """
    return Report(folder, [_model_report(path) for path in run_folders(folder)])


def _model_report(folder: Path) -> ModelReport:
    read = read_run_folder(folder)
    scores = {answers.name: score_task(folder, answers) for answers in read.tasks}
    noisy: dict[str, list[TaskScores]] = {name: [] for name in scores}
    for answers in read.tasks:
        name = answers.noise_of
        if name is not None and name in noisy:
            noisy[name].append(scores[answers.name])
    repeated = {task.answers.name for tasks in noisy.values() for task in tasks}
    tasks = [_task_report(scores[n], noisy[n], read.run) for n in scores if n not in repeated]
    order = ("broken", "warning", "ok")
    findings = sorted(read.findings, key=lambda f: order.index(f.severity))
    return ModelReport(folder, read.run, findings, tasks)


def _task_report(scores: TaskScores, noisy: Sequence[TaskScores], run: RunRecord) -> TaskReport:
    answers = scores.answers
    if answers.typed:
        kept = retention_verdict(scores, run.no_base)
        verdicts = [kept] if kept else []
    else:
        verdicts = task_verdicts(scores, run.systems)
    times = {system: measure_times(outcomes.values()) for system, outcomes in answers.outcomes.items()}
    ordered = sorted(noisy, key=lambda task: task.answers.questions[0].snr_db or 0.0)
    return TaskReport(
        answers.name,
        scores,
        verdicts,
        slice_task(scores),
        sweep_tasks(scores, noisy),
        [_task_report(task, (), run) for task in ordered],
        worst_items(scores),
        {s: t for s, t in times.items() if t and s not in CONTROLS},
    )


def _task_record(task: TaskReport, systems: Mapping[str, str]) -> dict[str, Any]:
    answers = task.scores.answers
    names = {"model": "speech", "endpoint": "speech"}
    record: dict[str, Any] = {
        "kind": answers.record.kind,
        "source": answers.record.source,
        "twin": answers.record.twin,
        "prompt": answers.record.prompt,
        "metric": task.scores.metric,
        "speech": {},
        "cascade": {},
    }
    for system, scores in task.scores.scores.items():
        name = names[system] if system == answers.subject else system
        record[name] = {metric: score_record(score) for metric, score in scores.items()}
    record["systems"] = {s: systems[s] for s in answers.outcomes if s in systems}
    record["verdict"] = task.verdicts[0].words if task.verdicts else "there is no score to judge."
    record["verdicts"] = [_verdict_record(v) for v in task.verdicts]
    record["slices"] = [
        {"by": part.by, "name": part.name, "system": names.get(s, s), **score_record(score, short=True)}
        for part in task.slices
        for s, score in part.scores.items()
    ]
    if task.noisy:
        record["noise"] = [
            {"snr_db": level.scores.answers.questions[0].snr_db, **_task_record(level, systems)}
            for level in task.noisy
        ]
    record["worst"] = [
        {
            "id": poor.question.id,
            "value": poor.value,
            "references": list(poor.question.references),
            "answer": poor.outcome.hypothesis,
            "heard": poor.outcome.transcript,
            "error": poor.outcome.error,
            "diff": [list(piece) for piece in poor.diff],
        }
        for poor in task.worst
    ]
    record["unscored"] = task.scores.unscored
    return record


def _typed_record(task: TaskReport) -> dict[str, Any]:
    answers = task.scores.answers
    named = {answers.subject: "after", "base": "before"}
    record: dict[str, Any] = {"metric": task.scores.metric, "source": answers.record.source}
    for system, scores in task.scores.scores.items():
        record[named.get(system, system)] = {metric: score_record(score) for metric, score in scores.items()}
    record.setdefault("before", None)
    record["verdict"] = task.verdicts[0].words if task.verdicts else "the model did not answer it."
    record["verdicts"] = [_verdict_record(v) for v in task.verdicts]
    record["unscored"] = task.scores.unscored
    return record


def score_record(score: Score, short: bool = False) -> dict[str, Any]:
    """A score as JSON; ``short`` leaves out how it was made."""
    record: dict[str, Any] = {
        "value": score.value,
        "interval": [score.low, score.high],
        "n": score.n,
        "few": score.n < SMALL_N,
    }
    if not short:
        record |= {"unit": score.unit, "better": score.better, "interval_by": score.interval}
        record |= {"settings": score.settings, "counts": score.counts, "details": score.details}
    return record


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    return {
        "about": verdict.about,
        "claim": verdict.claim,
        "words": verdict.words,
        "metric": verdict.metric,
        "gain": verdict.gain,
        "interval": None if verdict.gain is None else [verdict.low, verdict.high],
        "n": verdict.n,
        "p": verdict.p,
    }


def _latency_record(task: TaskReport) -> dict[str, Any]:
    return {
        system: {
            key: {
                "n": t.n,
                "p50": {"value": t.p50.value, "interval": [t.p50.low, t.p50.high]},
                "p95": {"value": t.p95.value, "interval": [t.p95.low, t.p95.high]},
                "largest": t.largest,
            }
            for key, t in times.items()
        }
        for system, times in task.latency.items()
    }
