"""Marks of a judge, made once and kept in the run's folder, as reports do not ask models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vivavoce.base.errors import VivavoceError
from vivavoce.base.whole_files import write_whole
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.metrics.judge import RubricJudge
from vivavoce.evaluation.results import read_outcomes, read_questions
from vivavoce.evaluation.run.settings import RunSettings
from vivavoce.evaluation.tasks.task import Task

JUDGED = ("model", "endpoint", "cascade", "typed", "base")


def judge_answers(tasks: Sequence[Task], out: Path, settings: RunSettings) -> None:
    """Mark answers of tasks with a judge's metric into ``scores/TASK/SYSTEM.judge.json``; what is marked stays.

    Verdicts are cached in the folder, so that a stopped run asks for none twice. Where too few verdicts came, the
    reason is kept in ``SYSTEM.judge.error``.
    """
    assert settings.judge is not None
    for task in tasks:
        record = next((m for m in task.metrics if m["name"] == "judge"), None)
        if record is None:
            continue
        judge = RubricJudge(
            model=settings.judge,
            endpoint=settings.judge_endpoint,
            rubric=record["rubric"],
            cache=out / "verdicts",
            device=settings.device or "cpu",
        )
        questions = read_questions(out / "items" / task.name / "inputs.jsonl")
        for system in JUDGED:
            answers = out / "items" / task.name / f"{system}.jsonl"
            target = out / "scores" / task.name / f"{system}.judge.json"
            if target.is_file() or not answers.is_file():
                continue
            found = read_outcomes(answers)
            items = [
                Item(q.id, found[q.id].hypothesis, q.references, q.language, q.question, cluster=q.cluster)
                for q in questions
                if q.id in found
            ]
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                score = judge.score(items)
            except VivavoceError as error:
                target.with_suffix(".error").write_text(str(error), encoding="utf-8")
                continue
            write_whole(target, json.dumps(score.record()))
