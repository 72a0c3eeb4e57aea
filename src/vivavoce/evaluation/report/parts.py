"""Scores of parts of a task: slices by what is known of the items, and the sweep over noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vivavoce.base.errors import DataError
from vivavoce.evaluation.report.scoring import TaskScores
from vivavoce.evaluation.scores import Score
from vivavoce.evaluation.slices import UNKNOWN, By, split_score

SHOWN = ("model", "endpoint", "cascade", "typed", "base")
"""Systems whose parts are shown."""
NAMES = {"duration_s": "length, s", "snr_db": "SNR, dB", "language": "language", "speaker": "speaker"}


@dataclass(frozen=True)
class Slice:
    """One group of items.

    Attributes:
        by: What they are grouped by, in words.
        name: Of the group.
        scores: System -> its deciding score on the group.
    """

    by: str
    name: str
    scores: Mapping[str, Score]


def slice_task(task: TaskScores) -> list[Slice]:
    """Split the deciding scores of a task by length, noise, language, speaker and the task's own groups.

    What puts all items into one group is left out.
    """
    found: dict[tuple[str, str], dict[str, Score]] = {}
    own = {q.id: q.slices for q in task.answers.questions}
    named = sorted({name for groups in own.values() for name in groups})
    ways: list[tuple[str, By]] = [(words, by) for by, words in NAMES.items()]
    ways += [(name, _own_group(own, name)) for name in named]
    for system in task.scores:
        score = task.deciding(system)
        if system not in SHOWN or score is None:
            continue
        for words, by in ways:
            try:
                parts = split_score(score, task.items[system], by)
            except DataError:  # a judge's scores may have left items out
                continue
            if len(parts) < 2:
                continue
            for name, part in parts.items():
                found.setdefault((words, name), {})[system] = part
    return [Slice(by, name, scores) for (by, name), scores in found.items()]


def _own_group(groups: Mapping[str, Mapping[str, str]], name: str) -> By:
    return lambda item: groups[item.id].get(name, UNKNOWN)


@dataclass(frozen=True)
class Sweep:
    """The deciding score by noise.

    Attributes:
        levels: SNR in dB, loudest noise first; None is without added noise, last.
        scores: System -> score per level; None where it has none.
    """

    levels: list[float | None]
    scores: Mapping[str, list[Score | None]]


def sweep_tasks(clean: TaskScores, noisy: Sequence[TaskScores]) -> Sweep | None:
    """Put a task beside its repetitions with noise; None where there are none.

    Args:
        clean: The task.
        noisy: The same questions, each time at one level.
    """
    if not noisy:
        return None
    rows = sorted(((task.answers.questions[0].snr_db or 0.0, task) for task in noisy), key=lambda row: row[0])
    levels: list[float | None] = [*(level for level, _ in rows), None]
    tasks = [*(task for _, task in rows), clean]
    systems = [s for s in clean.scores if s in SHOWN]
    return Sweep(levels, {s: [task.deciding(s) for task in tasks] for s in systems})
