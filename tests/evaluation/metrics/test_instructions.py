"""Checks of instructions: each passes and fails where it must; shares by answer and by instruction."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

from typing import Any

import pytest

from vivavoce.base.errors import DataError
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.metrics.instructions import (
    CHECKS,
    Instructions,
    count_sentences,
    count_words,
    follows,
)

# kind, value, texts that do it, texts that do not
CASES: list[tuple[str, Any, list[str], list[str]]] = [
    ("min_words", 3, ["one two three", "我爱你"], ["one two", "well-known facts"]),
    ("max_words", 2, ["don't go", "你好"], ["one two three", "你好吗"]),
    ("min_sentences", 2, ["Hi. Go!", "好。走。"], ["Hi there."]),
    ("max_sentences", 1, ["It costs 3.50 today.", "no end"], ["Hi. Go"]),
    ("bullets", 2, ["* a\n* b", "1. a\n2) b"], ["* a", "a\nb"]),
    ("paragraphs", 2, ["a\n\nb", "a\n \n\nb\n"], ["a\nb"]),
    ("json", None, ['{"a": 1}', "```json\n[1]\n```"], ["{a: 1}", "3", 'so: {"a": 1}']),
    ("json", ["name"], ['{"name": 1, "b": 2}'], ['{"b": 2}', "[1]"]),
    ("language", "zh", ["你好，世界"], ["hello", "こんにちは世界", "今日は良い天気です", "123"]),
    ("language", "ja", ["今日は良い天気です"], ["你好，世界", "hello"]),
    ("language", "ko", ["안녕하세요"], ["你好"]),
    ("keywords", ["sun", "雨"], ["The Sun and 下雨"], ["sunny 雨", "sun"]),
    ("forbidden", ["sun"], ["sunny day"], ["The sun."]),
    ("lower_case", None, ["all small, 3"], ["One", "123"]),
    ("upper_case", None, ["ALL BIG!"], ["All"]),
    ("starts_with", "dear", ["Dear friend"], ["My dear"]),
    ("ends_with", "Bye.", ["so long. bye.\n"], ["bye. no"]),
    ("no_commas", None, ["a b"], ["a, b", "你，我"]),
]


@pytest.mark.parametrize(("kind", "value", "yes", "no"), CASES)
def test_each_check_says_yes_and_no(kind: str, value: Any, yes: list[str], no: list[str]) -> None:
    check = {"kind": kind} if value is None else {"kind": kind, "value": value}
    assert [follows(text, check) for text in yes] == [True] * len(yes)
    assert [follows(text, check) for text in no] == [False] * len(no)
    assert not follows("  ", check)


def test_every_kind_is_tried() -> None:
    assert {case[0] for case in CASES} == set(CHECKS)


def test_languages_of_one_script_are_told_apart() -> None:
    pytest.importorskip("langdetect")
    french, german = "Il fait très beau aujourd'hui à Paris.", "Das Wetter ist heute sehr schön in Berlin."
    assert follows(french, {"kind": "language", "value": "fr"})
    assert not follows(german, {"kind": "language", "value": "fr"})
    assert follows("Сегодня очень хорошая погода в Москве", {"kind": "language", "value": "ru"})


def test_counting() -> None:
    assert count_words("It's 3.5 o'clock, 你好") == 6  # it's, 3, 5, o'clock and two characters
    assert count_sentences("Wait... what?! Yes") == 3


def test_shares_of_answers_and_of_instructions() -> None:
    short, small = {"kind": "max_words", "value": 2}, {"kind": "lower_case"}
    items = [
        Item("a", "so it", checks=(short, small)),
        Item("b", "So it", checks=(short, small)),
        Item("c", None, checks=(short,)),
    ]
    whole = Instructions().score(items)
    assert whole.values == (1.0, 0.0, 0.0) and whole.interval == "Wilson"
    each = Instructions(each=True).score(items)
    assert each.value == 3 / 5 and each.details == {"lower_case": 0.5, "max_words": 2 / 3}
    assert each.counts == {"no_answer": 1, "checks": 5}


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"kind": "max_word", "value": 2}, "is unknown"),
        ({"kind": "max_words", "value": "2"}, "has the value '2'"),
        ({"kind": "max_words", "value": True}, "has the value True"),
        ({"kind": "max_words"}, "has the value None"),
        ({"kind": "lower_case", "values": 1}, "is unknown"),
    ],
)
def test_wrong_checks_are_refused(check: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Instructions().score([Item("a", "x", checks=(check,))])


def test_items_need_checks() -> None:
    with pytest.raises(DataError, match="1 items have no checks, first 'a'"):
        Instructions().score([Item("a", "x")])
