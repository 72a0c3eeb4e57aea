"""Trajectories: exact, per turn and edits by hand; unreadable answers are wrong."""

from __future__ import annotations

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import DataError
from vivavoce.evaluation.metrics.trajectories import (
    TrajectoryEdits,
    TrajectoryExact,
    TrajectoryTurns,
    label_edits,
)
from vivavoce.tokens.trajectory import format_trajectory

WANTED = ("happy", "disgust", "neutral")
ANSWERS = [
    format_trajectory("你先很开心。", WANTED),
    format_trajectory("You were glad.", ("happy", "anger", "neutral"), "en"),
    format_trajectory("x", ("disgust", "neutral")),  # the first one left out
    format_trajectory("x", (*WANTED, "neutral")),
    "First you were happy, then disgusted, at last calm.",
    None,
]
ITEMS = make_items(ANSWERS, ["happy -> disgust -> neutral"] * 5 + [format_trajectory("x", WANTED)])


def test_three_readings_by_hand() -> None:
    exact = TrajectoryExact().score(ITEMS)
    assert exact.values == (1.0, 0.0, 0.0, 0.0, 0.0, 0.0) and exact.interval == "Wilson"
    assert exact.counts == {"no_answer": 1, "no_sequence": 1}
    turns = TrajectoryTurns().score(ITEMS)
    assert turns.statistics.tolist() == [[3, 3], [2, 3], [0, 3], [3, 4], [0, 3], [0, 3]]
    assert turns.value == 8 / 19
    edits = TrajectoryEdits().score(ITEMS)
    assert edits.statistics.tolist() == [[0, 3], [1, 3], [1, 3], [1, 3], [3, 3], [3, 3]]
    assert edits.value == 0.5 and edits.better == "lower" and turns.better == "higher"


def test_words_can_be_guessed_and_are_counted() -> None:
    score = TrajectoryExact(guess=True).score(ITEMS)
    assert score.values[4] == 1.0 and score.counts == {"no_answer": 1, "guessed": 1}


def test_edits_are_fewest() -> None:
    assert label_edits((), WANTED) == label_edits(WANTED, ()) == 3
    assert label_edits(("disgust", "neutral", "happy"), WANTED) == 2
    assert label_edits(WANTED, WANTED) == 0


@pytest.mark.parametrize("right", ["no labels at all", "happy -> bored", ""])
def test_references_must_have_known_labels(right: str) -> None:
    with pytest.raises(DataError, match="wanted labels such as"):
        TrajectoryExact().score(make_items(["x"], [right]))
