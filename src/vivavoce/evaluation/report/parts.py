"""Scores of parts of a task: slices by what is known of the items, and the sweep over noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vivavoce.base.errors import DataError
from vivavoce.evaluation.report.scoring import TaskScores
from vivavoce.evaluation.scores import Score
from vivavoce.evaluation.slices import UNKNOWN, By, split_score

SHOWN = ("model", "endpoint", "cascade", "typed", "base")
"""Systems whose parts are shown."""
NAMES = {"duration_s": "length, s", "snr_db": "SNR, dB", "language": "language", "speaker": "speaker"}
MOST_LEVELS = 12


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
        levels: SNR in dB, loudest noise first; None is without noise, last.
        scores: System -> score per level.
    """

    levels: list[float | None]
    scores: Mapping[str, list[Score | None]]


def sweep_task(task: TaskScores) -> Sweep | None:
    """Split a task by its noise levels; None where it has fewer than two, or each item its own."""
    found = {q.snr_db for q in task.answers.questions}
    if not 2 <= len(found) <= MOST_LEVELS:
        return None
    levels: list[float | None] = [*sorted(level for level in found if level is not None)]
    levels += [None] if None in found else []
    scores: dict[str, list[Score | None]] = {}
    for system, items in task.items.items():
        score = task.deciding(system)
        if score is None or system not in SHOWN:
            continue
        places = [[i for i, item in enumerate(items) if item.snr_db == level] for level in levels]
        scores[system] = [score.subset(p) if p and score.statistics[p].any() else None for p in places]
    return Sweep(levels, scores) if scores else None
