"""Speech is scored by what a named recogniser hears; silence and failures are counted."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.base.errors import AudioError, ConfigError, DataError
from vivavoce.evaluation.items import Item, Sound
from vivavoce.evaluation.metrics.error_rates import WordErrorRate
from vivavoce.evaluation.metrics.round_trip import RoundTrip

pytest.importorskip("jiwer")
ERRORS = WordErrorRate(normaliser="none", language="en")
HEARD = {1: "nine plus four", 2: "nine four"}


def recogniser(waveform: np.ndarray, sample_rate: int) -> str:
    """Read the number of a waveform of one value."""
    assert sample_rate == 16_000
    if waveform[0] == 3:
        raise AudioError("too quiet")
    return HEARD[int(waveform[0])]


def _items() -> list[Item]:
    sounds = [Sound(np.full(4, value), 16_000) for value in (1.0, 2.0, 3.0)]
    return [
        Item(str(i), "what it wrote", ("nine plus four",), audio=sound)
        for i, sound in enumerate([*sounds, None])
    ]


def test_what_is_heard_is_scored() -> None:
    score = RoundTrip(recogniser=recogniser, recogniser_name="table 1", errors=ERRORS).score(_items())
    assert score.metric == "round_trip" and score.settings["recogniser"] == "table 1"
    assert score.statistics.tolist() == [[0, 3], [1, 3], [3, 3], [3, 3]]
    assert score.counts["recogniser_failed"] == 1 and score.counts["no_answer"] == 1


def test_other_errors_are_not_hidden() -> None:
    items = [Item("a", None, ("x",), audio=Sound(np.full(4, 9.0), 16_000))]
    with pytest.raises(KeyError):
        RoundTrip(recogniser=recogniser, recogniser_name="table 1", errors=ERRORS).score(items)
    with pytest.raises(DataError, match="no items"):
        RoundTrip(recogniser=recogniser, recogniser_name="table 1").score([])


def test_the_recogniser_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="recogniser_name is empty"):
        RoundTrip(recogniser=recogniser, recogniser_name=" ")
