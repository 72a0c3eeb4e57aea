"""Intervals hold the truth as often as they say; formulas of totals equal the libraries'; clusters are drawn whole."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.resampling import FORMULAS, Bootstrap, cluster_numbers, ratio, wilson


def _corpus(rng: np.random.Generator, size: int) -> np.ndarray:
    """Errors and words of sentences whose error rate varies from one to the next; 0.2 on the whole."""
    words = 1 + rng.poisson(9, size)
    return np.stack([rng.binomial(words, rng.beta(1, 4, size)), words], axis=1).astype(float)


def test_intervals_of_a_word_error_hold_the_truth() -> None:
    rng, inside = np.random.default_rng(1), 0
    for trial in range(400):
        rows = _corpus(rng, 120)
        low, high = Bootstrap(200, seed=trial).ends(
            ratio(Bootstrap(200, seed=trial).totals(rows, np.arange(120)))
        )
        inside += low <= 0.2 <= high
    assert 0.91 <= inside / 400 <= 0.98


def test_clusters_widen_the_interval_to_the_truth() -> None:
    rng, inside, naive = np.random.default_rng(2), 0, 0
    groups = np.repeat(np.arange(40), 10)
    for trial in range(200):
        right = rng.random(400) < np.repeat(rng.beta(1, 1, 40), 10)  # each speaker has a rate of its own
        rows = np.stack([right, np.ones(400)], axis=1).astype(float)
        draws = Bootstrap(200, seed=trial)
        low, high = draws.ends(ratio(draws.totals(rows, groups)))
        inside += low <= 0.5 <= high
        low, high = draws.ends(ratio(draws.totals(rows, np.arange(400))))
        naive += low <= 0.5 <= high
    assert 0.88 <= inside / 200 <= 0.99
    assert naive / 200 < 0.8


def test_totals_are_sums_of_whole_draws() -> None:
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    totals = Bootstrap(500).totals(rows, np.arange(3))
    assert np.array_equal(totals[:, 1], 10 * totals[:, 0])  # each draw keeps an item's columns together
    assert set(totals[:, 0]) == {float(a + b + c) for a in (1, 2, 4) for b in (1, 2, 4) for c in (1, 2, 4)}
    assert np.array_equal(totals, Bootstrap(500).totals(rows, np.arange(3)))
    assert not np.array_equal(totals, Bootstrap(500, seed=1).totals(rows, np.arange(3)))
    paired = Bootstrap(500).totals(rows, np.array([0, 0, 1]))
    assert set(paired[:, 0]) == {6.0, 7.0, 8.0}


def test_draws_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _corpus(np.random.default_rng(0), 50)
    whole = Bootstrap().totals(rows, np.arange(50))
    monkeypatch.setattr("vivavoce.evaluation.resampling._BLOCK", 50 * 7)
    assert np.array_equal(whole, Bootstrap().totals(rows, np.arange(50)))


def test_a_thousand_resamples_take_less_than_a_second() -> None:
    rows = np.random.default_rng(0).random((1000, 10))
    start = time.perf_counter()
    Bootstrap(1000).totals(rows, np.arange(1000))
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_wilson_gives_the_published_intervals(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_clusters_are_numbered_by_name() -> None:
    assert cluster_numbers(["a", None, "a", "b", None]).tolist() == [0, 1, 0, 2, 3]


def test_formulas_equal_the_library_on_any_totals(rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    for _ in range(200):
        counts = np.sort(rng.integers(0, 12, 4))[::-1]
        matches = np.minimum(rng.integers(0, 12, 4), counts)
        system, reference = int(counts[0]), int(rng.integers(1, 15))
        totals = np.array([system, reference, *matches, *counts], float)
        wanted = metrics.BLEU.compute_bleu(
            matches.tolist(), counts.tolist(), system, reference, smooth_method="exp"
        ).score
        assert float(FORMULAS["bleu"](totals)) == pytest.approx(wanted, abs=1e-9)
        grams = rng.integers(0, 9, (6, 2))
        rows = np.concatenate([grams, np.minimum(grams.min(axis=1), rng.integers(0, 9, 6))[:, None]], axis=1)
        wanted = metrics.CHRF()._compute_f_score(rows.ravel().tolist())
        assert float(FORMULAS["chrf"](rows.ravel().astype(float))) == pytest.approx(wanted, abs=1e-9)


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(ConfigError, match="resamples is 10"):
        Bootstrap(10)
