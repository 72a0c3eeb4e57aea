"""A block for a model's card: tables in Markdown, and the hub's model-index."""

from __future__ import annotations

from typing import Any

import yaml

from vivavoce.evaluation.report.report import ModelReport, TaskReport
from vivavoce.evaluation.report.wording import SYSTEM_WORDS, settings_words, show_score

HUB_TASKS = {
    "transcribe": ("automatic-speech-recognition", "Automatic Speech Recognition"),
    "speak": ("text-to-speech", "Text to Speech"),
    "read": ("text-generation", "Text Generation"),
    "listen": ("audio-text-to-text", "Spoken Question Answering"),
    "choose": ("audio-text-to-text", "Spoken Multiple Choice"),
}


def model_card(report: ModelReport) -> str:
    """Markdown to paste: front matter with the model-index, the scores, and what they mean in words."""
    front = yaml.safe_dump(model_index(report), sort_keys=False, allow_unicode=True, width=110)
    lines = ["---", front.rstrip(), "---", "", "## Evaluation", ""]
    if report.broken:
        lines += [f"**This model is broken.** {' '.join(_sentence(f.words) for f in report.broken)}", ""]
    lines += ["| task | system | metric | score [95 % interval] | n |", "|---|---|---|---|---|"]
    made: dict[str, None] = {}
    for task in report.tasks:
        for system, scores in task.scores.scores.items():
            for metric, score in scores.items():
                name = _cell(report.run.systems.get(system) or SYSTEM_WORDS.get(system, system))
                shown = show_score(score)
                lines.append(f"| {_cell(task.name)} | {name} | {metric} | {shown} | {score.n} |")
                made[f"{metric}: {settings_words(score.settings)}"] = None
    lines += ["", *(f"- {task.name}: {v.words}" for task in report.tasks for v in task.verdicts[:1]), ""]
    lines += [f"- {words}" for words in made]
    twins = [task.name for task in report.tasks if task.scores.answers.record.twin]
    if twins:
        lines.append(f"- Synthetic stand-ins, not the published data: {', '.join(twins)}")
    where = ", ".join(f"{k} {v}" for k, v in report.run.hardware.items())
    lines.append(
        f"- Measured {report.run.date[:10] or 'without a date'} by vivavoce eval{f' on {where}' * bool(where)}"
    )
    return "\n".join(lines) + "\n"


def model_index(report: ModelReport) -> dict[str, Any]:
    """The hub's model-index of the model's own scores; synthetic stand-ins are named as such."""
    return {"model-index": [{"name": report.run.model, "results": [_result(t) for t in _scored(report)]}]}


def _scored(report: ModelReport) -> list[TaskReport]:
    return [t for t in report.tasks if t.scores.scores.get(t.scores.answers.subject or "")]


def _result(task: TaskReport) -> dict[str, Any]:
    answers = task.scores.answers
    kind, words = HUB_TASKS.get(answers.record.kind, ("audio-text-to-text", answers.record.kind))
    scores = task.scores.scores[answers.subject or ""]
    name = f"{task.name} (synthetic stand-in)" if answers.record.twin else task.name
    return {
        "task": {"type": kind, "name": words},
        "dataset": {"name": name, "type": task.name},
        "metrics": [
            {
                "type": metric,
                "value": round(score.value, 4),
                "name": f"{metric}, 95 % interval {score.low:.4f} to {score.high:.4f}, n {score.n}",
            }
            for metric, score in scores.items()
        ],
    }


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _sentence(text: str) -> str:
    return text if text.rstrip().endswith((".", "!")) else f"{text}."
