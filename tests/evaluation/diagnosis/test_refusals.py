"""What the finding about refusals says, on outcomes made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vivavoce.evaluation.diagnosis.checks import refuses_everything


def folder(**answered: int) -> Any:
    """Ten recordings to write down in each task, of which so many were."""
    outcomes = {
        task: {"model": {n: SimpleNamespace(understood=n < count, hypothesis=f"word {n}") for n in range(10)}}
        for task, count in answered.items()
    }
    tasks = {task: SimpleNamespace(kind="transcribe") for task in answered}
    run = SimpleNamespace(tasks=tasks)
    return cast(
        Any, SimpleNamespace(questions=dict.fromkeys(answered), outcomes=outcomes, tested="model", run=run)
    )


@pytest.mark.parametrize(
    ("answered", "severity", "words"),
    [
        ({"clean": 10, "noisy": 9}, "ok", "It answers most"),
        ({"clean": 10, "noisy": 0}, "warning", "Task noisy: 100% of its spoken questions"),
        ({"clean": 0, "noisy": 0}, "broken", "It refuses everything: 100%"),
    ],
)
def test_words(answered: dict[str, int], severity: str, words: str) -> None:
    finding = refuses_everything(folder(**answered))
    assert finding is not None and finding.severity == severity
    assert finding.words.startswith(words)
