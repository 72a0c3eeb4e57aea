"""Score what the systems of a run answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.evaluation.items import Item, Sound
from vivavoce.evaluation.metrics import make_metric
from vivavoce.evaluation.report.reading import TaskAnswers, file_inside
from vivavoce.evaluation.results import Outcome, Question
from vivavoce.evaluation.scores import Score, read_score

SOUND_METRICS = ("mel_distance", "stoi", "pesq")
OUTSIDE_METRICS = ("judge", "round_trip")
"""Metrics that need a model to score: the run leaves their scores in its folder."""


@dataclass(frozen=True)
class TaskScores:
    """Scores of a task.

    Attributes:
        answers: The task.
        items: System -> its items, in the order of the questions; those of a stopped run are fewer.
        scores: System -> metric -> score.
        unscored: Sentences about what has no score, and why.
    """

    answers: TaskAnswers
    items: Mapping[str, list[Item]]
    scores: Mapping[str, dict[str, Score]]
    unscored: list[str] = field(default_factory=list)

    @property
    def metric(self) -> str:
        """The metric that decides: the task's first."""
        return str(self.answers.record.metrics[0]["name"])

    def deciding(self, system: str | None) -> Score | None:
        """The deciding score of a system."""
        return self.scores.get(system or "", {}).get(self.metric)


def make_item(question: Question, outcome: Outcome, folder: Path | None = None) -> Item:
    """Put a question and its answer together.

    Args:
        question: Asked.
        outcome: Its answer.
        folder: Of the run, to read the recordings too; None without them.
    """
    audio = reference_audio = None
    if folder is not None:
        audio, reference_audio = _sound(folder, outcome.audio), _sound(folder, question.audio)
    return Item(
        id=question.id,
        hypothesis=outcome.hypothesis,
        references=question.references,
        language=question.language,
        question=question.question,
        audio=audio,
        reference_audio=reference_audio,
        choices=question.choices,
        checks=question.checks,
        cluster=question.cluster,
        speaker=question.speaker,
        duration_s=question.duration_s,
        snr_db=question.snr_db,
    )


def score_task(folder: Path, answers: TaskAnswers) -> TaskScores:
    """Score all systems of a task by all its metrics.

    Args:
        folder: Of the run.
        answers: The task.
    """
    items: dict[str, list[Item]] = {}
    scores: dict[str, dict[str, Score]] = {}
    unscored: dict[str, None] = {}
    sound = any(row["name"] in SOUND_METRICS for row in answers.record.metrics)
    total = len(answers.questions)
    for system, outcomes in answers.outcomes.items():
        there = [q for q in answers.questions if q.id in outcomes]
        items[system] = [make_item(q, outcomes[q.id], folder if sound else None) for q in there]
        if not there:
            continue
        if len(there) < total:
            unscored[f"{system}: {len(there)} of {total} questions are answered; run it again to go on."] = (
                None
            )
        scores[system] = {}
        for row in answers.record.metrics:
            name = str(row["name"])
            try:
                scores[system][name] = _score(folder, answers.name, system, row, items[system])
            except (DataError, MissingExtraError) as error:
                unscored[f"{system}, {name}: {error}"] = None
    return TaskScores(answers, items, scores, list(unscored))


def _score(folder: Path, task: str, system: str, row: Mapping[str, Any], items: list[Item]) -> Score:
    name = str(row["name"])
    saved = folder / "scores" / task / f"{system}.{name}.json"
    if saved.is_file():
        score = read_score(json.loads(saved.read_text(encoding="utf-8")))
        if list(score.ids) == [item.id for item in items]:
            return score
        raise DataError(f"{saved} is of other questions; delete it and evaluate again.")
    if name in OUTSIDE_METRICS:
        raise DataError("it needs a model to score, and the run left no score of it")
    return make_metric(name, **{k: v for k, v in row.items() if k != "name"}).score(items)


def _sound(folder: Path, name: str | None) -> Sound | None:
    from vivavoce.audio.files import read_audio

    path = file_inside(folder, name)
    return None if path is None else Sound(*read_audio(path))
