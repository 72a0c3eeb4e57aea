"""Records of scores come back, parts equal a fresh score, comparisons are paired and honest; what no metric takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.comparison import compare
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.metrics import METRICS, make_metric
from vivavoce.evaluation.scores import Score, mean_score, read_score


def _score(values: list[float | None], **options: object) -> Score:
    items = make_items([""] * len(values))
    return mean_score("test", items, values, {}, {}, **options)  # type: ignore[arg-type]


def test_every_metric_carries_its_name() -> None:
    for name in METRICS:
        assert METRICS.get(name).name == name


TEXT_METRICS = [n for n in METRICS if n not in ("mel_distance", "stoi", "pesq", "judge", "round_trip")]
NEEDS = {"wer": {"spellings": "none"}, "cer": {"spellings": "none"}}


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_no_items_and_repeated_ids_are_refused_and_none_is_counted(name: str) -> None:
    metric = make_metric(name, **NEEDS.get(name, {}))
    with pytest.raises(DataError, match="no items"):
        metric.score([])
    right = {"multiple_choice": "A"}.get(name, "happy -> sad" if "trajectory" in name else "a b c d e f")
    checks = ({"kind": "max_words", "value": 50},)
    good = (
        "Answer: A"
        if name == "multiple_choice"
        else f"So.\nEmotion sequence: {right}"
        if "->" in right
        else right
    )
    rows = [
        Item(str(i), said, (right,), "en", checks=checks) for i, said in enumerate([good, None, good, None])
    ]
    with pytest.raises(DataError, match="ids stand more than once"):
        metric.score([rows[0], rows[0]])
    score = metric.score(rows)
    assert score.counts["no_answer"] == 2 and score.n == 4
    best, worst = score.values[0], score.values[1]
    assert best is not None and worst is not None
    assert (best > worst) == (score.better == "higher")
    assert score.low <= score.value <= score.high
    if name != "instructions":
        with pytest.raises(DataError, match="number of references"):
            metric.score([Item("x", "a", (), "en")])


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="has no colour"):
        make_metric("wer", colour="red")
    with pytest.raises(ConfigError, match="needs recogniser"):
        make_metric("round_trip")
    with pytest.raises(ConfigError, match="Did you mean 'bleu'"):
        make_metric("blue")


def test_shares_get_wilson_and_other_values_the_bootstrap() -> None:
    perfect = _score([1.0] * 20)
    assert perfect.interval == "Wilson" and perfect.low == pytest.approx(1 - 0.1611, abs=1e-4)
    mixed = _score([0.5, 0.7, 0.1, 0.9])
    assert "bootstrap of items" in mixed.interval and "seed 0" in mixed.interval
    items = make_items([""] * 4, cluster=["a", "a", "b", "b"])
    assert "clusters" in mean_score("test", items, [1.0, 1.0, 0.0, 1.0], {}, {}).interval


def test_undefined_values_are_left_out() -> None:
    score = _score([0.5, None, 0.7])
    assert score.n == 2 and score.value == pytest.approx(0.6)
    with pytest.raises(DataError, match="none of 2 items counts"):
        _score([None, None])


def test_records_come_back() -> None:
    score = _score([0.5, None, 0.7, 0.9], better="lower")
    again = read_score(json.loads(json.dumps(score.record())))
    assert again == score and np.array_equal(again.statistics, score.statistics)
    with pytest.raises(DataError, match="without its items"):
        read_score(score.record(items=False))


def test_a_subset_equals_a_fresh_score() -> None:
    values = list(np.random.default_rng(0).random(40))
    part, fresh = _score(values).subset(range(20, 30)), _score(values[20:30])
    assert (part.value, part.low, part.high, part.n) == (fresh.value, fresh.low, fresh.high, 10)


def test_paired_draws_see_what_single_intervals_hide() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(200)  # how hard an item is moves both systems alike
    first, second = _score(list(hard)), _score(list(hard + 0.02 + 0.01 * rng.standard_normal(200)))
    assert first.high > second.low
    found = compare(first, second)
    assert found.better == "second" and found.p < 0.01 and 0.015 < found.low < found.high < 0.025
    back = compare(second, first)
    assert back.better == "first" and back.difference == pytest.approx(-found.difference)
    assert back.p == found.p
    lower = [_score(list(score.statistics[:, 0]), better="lower") for score in (first, second)]
    assert compare(*lower).better == "first"


def test_p_is_below_a_twentieth_one_time_in_twenty() -> None:
    rng, small, outside = np.random.default_rng(4), 0, 0
    for _ in range(300):
        both = rng.random((2, 80))
        found = compare(_score(list(both[0])), _score(list(both[1])))
        small += found.p < 0.05
        outside += found.better != "neither"
    assert 0.02 <= small / 300 <= 0.09 and 0.02 <= outside / 300 <= 0.09


def test_items_are_paired_by_id_whatever_their_order() -> None:
    items = make_items([""] * 30)
    values = list(np.random.default_rng(5).random(30))
    score = mean_score("test", items, values, {}, {})
    turned = mean_score("test", items[::-1], values[::-1], {}, {})
    found = compare(score, turned)
    assert found.difference == pytest.approx(0) and found.p == 1.0
    assert found.low == pytest.approx(0) and found.high == pytest.approx(0)


def test_what_cannot_be_compared_is_refused() -> None:
    score = _score([0.1, 0.2])
    with pytest.raises(DataError, match="only one score"):
        compare(score, _score([0.1, 0.2, 0.3]))
    items = make_items(["", ""])
    with pytest.raises(DataError, match="cannot be compared with other"):
        compare(score, mean_score("other", items, [0.1, 0.2], {}, {}))
    with pytest.raises(DataError, match="settings differ in normaliser"):
        compare(score, mean_score("test", items, [0.1, 0.2], {}, {"normaliser": "x"}))
    with pytest.raises(DataError, match="no item counts for both"):
        compare(_score([0.1, None]), _score([None, 0.1]))
