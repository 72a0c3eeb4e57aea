"""Emotional trajectories: is the sequence of labels right, as a whole, turn by turn, and in edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.evaluation.items import Item, checked
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Better, Score, make_score
from vivavoce.tokens.trajectory import EMOTIONS, HEADERS, parse_trajectory

Labels = tuple[str, ...]


def label_edits(found: Labels, wanted: Labels) -> int:
    """Fewest labels to put in, leave out or exchange."""
    row = list(range(len(wanted) + 1))
    for i, label in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (label != other))
    return row[-1]


@dataclass(frozen=True)
class TrajectoryExact:
    """Share of answers whose labels are all right and as many as there are turns.

    References are answers with their line of labels, or the bare sequence "happy -> sad". An answer without a
    readable sequence is wrong and counted ("no_sequence").

    Attributes:
        guess: Read the labels from the description's words where there is no such line; those are counted
            ("guessed").
        bootstrap: How the interval is drawn.
    """

    guess: bool = False
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "trajectory_exact"
    better: Better = field(default="higher", init=False, repr=False)

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by their one reference.

        Raises:
            DataError: No items, or a reference without known labels.
        """
        items = checked(items, self.name)
        counts: Counter[str] = Counter()
        rows = np.array([self._row(self._read(item, counts), _wanted(item, self.name)) for item in items])
        values = [float(total / length) for total, length in rows]
        settings = {"guess": self.guess, "labels": list(EMOTIONS)}
        return make_score(
            self.name, items, rows, values, counts, settings, better=self.better, bootstrap=self.bootstrap
        )

    def _read(self, item: Item, counts: Counter[str]) -> Labels:
        counts["no_answer"] += item.hypothesis is None
        text = item.hypothesis or ""
        labels = parse_trajectory(text)[1]
        if not labels and self.guess:
            labels = parse_trajectory(text, guess=True)[1]
            counts["guessed"] += bool(labels)
        counts["no_sequence"] += item.hypothesis is not None and not labels
        return labels

    def _row(self, found: Labels, wanted: Labels) -> tuple[float, float]:
        return float(found == wanted), 1.0


class TrajectoryTurns(TrajectoryExact):
    """Share of turns with the right label in the right place, all dialogues together.

    Labels beyond the turns count as wrong turns, so that a longer answer gains nothing.
    """

    name = "trajectory_turns"

    def _row(self, found: Labels, wanted: Labels) -> tuple[float, float]:
        same = sum(a == b for a, b in zip(found, wanted, strict=False))
        return float(same), float(max(len(found), len(wanted)))


@dataclass(frozen=True)
class TrajectoryEdits(TrajectoryExact):
    """Label edits per turn, all dialogues together: what a word error rate is for words.

    A label left out costs one, where "trajectory_turns" counts every turn after it.
    """

    name = "trajectory_edits"
    better: Better = field(default="lower", init=False, repr=False)

    def _row(self, found: Labels, wanted: Labels) -> tuple[float, float]:
        return float(label_edits(found, wanted)), float(len(wanted))


def _wanted(item: Item, metric: str) -> Labels:
    text = item.references[0]
    labels = parse_trajectory(text)[1] or parse_trajectory(HEADERS["en"] + text)[1]
    if not labels or set(labels) - set(EMOTIONS):
        raise DataError(
            f"{metric}: the reference of item {item.id!r} is {text[-80:]!r}, wanted labels such as "
            f"'happy -> sad' of {', '.join(EMOTIONS)}."
        )
    return labels
