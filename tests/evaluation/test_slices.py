"""Slices: bins and names hold every item once; splitting a score equals scoring the parts."""

from __future__ import annotations

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.metrics import make_metric
from vivavoce.evaluation.slices import UNKNOWN, group_items, score_slices, split_score

ITEMS = make_items(
    ["the Denver Broncos", "x", "panthers", None, "y", "a cat"],
    ["Denver Broncos", "y", "Panthers", "z", "y", "dog"],
    language=["en", "en", "de", "de", "fr", "en"],
    speaker=["s2", None, "s1", "s1", "s2", None],
    duration_s=[1.0, 2.0, 4.9, 100.0, None, float("nan")],
    snr_db=[-5.0, 0.0, 3.0, 25.0, None, 10.0],
)


def test_every_item_is_in_one_group() -> None:
    assert group_items(ITEMS, "duration_s") == {
        "below 2": [0],
        "2 to 5": [1, 2],
        "30 and up": [3],
        UNKNOWN: [4, 5],
    }
    assert group_items(ITEMS, "snr_db", [0, 10]) == {
        "below 0": [0],
        "0 to 10": [1, 2],
        "10 and up": [3, 5],
        UNKNOWN: [4],
    }
    assert group_items(ITEMS, "speaker") == {"s1": [2, 3], "s2": [0, 4], UNKNOWN: [1, 5]}
    assert list(group_items(ITEMS, "language")) == ["de", "en", "fr"]
    assert group_items(ITEMS, lambda item: item.id[-1]) == {str(i): [i] for i in range(6)}


def test_splitting_equals_scoring_the_parts() -> None:
    metric = make_metric("token_f1")
    fresh = score_slices(metric, ITEMS, "speaker")
    split = split_score(metric.score(ITEMS), ITEMS, "speaker")
    assert list(fresh) == list(split) == ["s1", "s2", UNKNOWN]
    for name, score in fresh.items():
        other = split[name]
        assert (score.value, score.low, score.high, score.n, score.ids) == (
            other.value,
            other.low,
            other.high,
            other.n,
            other.ids,
        )
    assert sum(score.n for score in split.values()) == len(ITEMS)


def test_languages_that_cannot_be_scored_together_are_scored_alone() -> None:
    pytest.importorskip("sacrebleu")
    items = make_items(["一 二 三 四 五", "a b c d e"], ["一二三四五", "a b c d e"], language=["zh", "de"])
    scores = score_slices(make_metric("bleu"), items, "language")
    assert {name: score.settings["tokenize"] for name, score in scores.items()} == {"de": "13a", "zh": "zh"}


def test_wrong_asks_are_refused() -> None:
    with pytest.raises(ConfigError, match="by is 'age'"):
        group_items(ITEMS, "age")
    with pytest.raises(ConfigError, match="rising"):
        group_items(ITEMS, "snr_db", [5, 5])
    with pytest.raises(DataError, match="another order"):
        split_score(make_metric("token_f1").score(ITEMS), ITEMS[::-1], "speaker")
