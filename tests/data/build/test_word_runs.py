"""Which words become speech: the share, the lengths and the numbers of runs are what the settings say."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vivavoce.data.build.spans.word_runs import poisson_runs, runs_of, single_words, some_spans

DRAWS = 4000


@pytest.mark.parametrize(
    ("words", "share", "mean"), [(40, 0.3, 10.0), (12, 0.5, 2.0), (25, 0.8, 4.0), (1, 0.3, 10.0)]
)
def test_poisson_shares_hold_at_every_word(words: int, share: float, mean: float) -> None:
    rng = random.Random(1)
    drawn = np.array([poisson_runs(words, share, mean, rng) for _ in range(DRAWS)])
    assert drawn.shape == (DRAWS, words)
    assert np.abs(drawn.mean(axis=0) - share).max() < 4 * (share * (1 - share) / DRAWS) ** 0.5


def test_poisson_lengths() -> None:
    rng = random.Random(2)
    chosen = poisson_runs(300_000, 0.3, 10.0, rng)
    inner = runs_of(chosen)[1:-1]
    for is_speech, mean in ((True, 10.0), (False, 10 * 0.7 / 0.3)):
        lengths = np.array([b - a for kind, a, b in inner if kind == is_speech])
        assert abs(lengths.mean() / mean - 1) < 0.02
        assert abs(lengths.var() / mean - 1) < 0.08  # a Poisson distribution's variance is its mean


@pytest.mark.parametrize(
    ("words", "share", "spans"), [(40, 0.3, 1), (40, 0.3, 3), (9, 0.7, 2), (3, 0.1, 5), (2, 0.9, 4)]
)
def test_spans(words: int, share: float, spans: int) -> None:
    rng = random.Random(3)
    total = 0
    places = set()
    for _ in range(DRAWS):
        chosen = some_spans(words, share, spans, rng)
        spoken = sum(chosen)
        assert len(chosen) == words and spoken in (int(share * words), int(share * words) + 1)
        found = [run for run in runs_of(chosen) if run[0]]
        assert len(found) == min(spans, spoken, words - spoken + 1)
        total += spoken
        places |= {i for i, word in enumerate(chosen) if word}
    assert abs(total / DRAWS / words - share) < 0.02 and places == set(range(words))


def test_single_words() -> None:
    rng = random.Random(4)
    drawn = np.array([single_words(30, 0.4, rng) for _ in range(DRAWS)])
    assert abs(drawn.mean() - 0.4) < 0.01
    assert abs(np.mean(drawn[:, 1:] & drawn[:, :-1]) - 0.16) < 0.01


def test_runs() -> None:
    assert runs_of([True, True, False, True]) == [(True, 0, 2), (False, 2, 3), (True, 3, 4)]
    assert runs_of([]) == []
