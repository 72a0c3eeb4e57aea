"""Letters are read out of free answers by the rule that fits, and not where nothing was chosen."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import DataError
from vivavoce.evaluation.metrics.choices import MultipleChoice, read_choice

CITIES = ("Paris", "London", "New York", "York")


@pytest.mark.parametrize(
    ("text", "letter", "rule"),
    [
        ("The answer is (B).", "B", "stated"),
        ("Answer: c", "C", "stated"),
        ("**Answer: D**", "D", "stated"),
        ("The correct answer is option A because of B.", "A", "stated"),
        ("At first the answer is A. No: the answer is D.", "D", "stated"),
        ("答案是C。", "C", "stated"),
        ("应该选B，因为", "B", "stated"),
        ("B", "B", "alone"),
        (" (b). ", "B", "alone"),
        ("B. London is the one", "B", "leading"),
        ("A) Paris, not D", "A", "leading"),
        ("Option B fits best", "B", "only_letter"),
        ("Of these, (C) is right", "C", "only_letter"),
        ("I think it's New York.", "C", "text"),
        ("york it is", "D", "text"),
        ("The answer is Paris", "A", "text"),
        ("A good question! I can't say.", None, "unread"),
        ("The answer is a good one", None, "unread"),
        ("Both Paris and London", None, "unread"),
        ("(A) or (B)", None, "unread"),
        ("答案不是A", None, "unread"),
        ("我不选A", None, "unread"),
        ("The answer is E", None, "unread"),
        ("I'd rather not", None, "unread"),
        ("", None, "unread"),
    ],
)
def test_what_an_answer_means(text: str, letter: str | None, rule: str) -> None:
    assert read_choice(text, "ABCD", CITIES) == (letter, rule)


def test_chinese_choices_are_found_in_running_text() -> None:
    assert read_choice("我觉得是开心。", "AB", ("开心", "愤怒")) == ("A", "text")
    assert read_choice("不开心", "AB", ("开心", "不开心")) == ("B", "text")


def test_what_cannot_be_read_is_wrong_and_counted() -> None:
    items = make_items(["B", "who knows", None, "The answer is A"], ["B", "A", "A", "b"])
    score = MultipleChoice().score(items)
    assert score.values == (1.0, 0.0, 0.0, 0.0) and score.interval == "Wilson"
    assert score.counts == {"read_alone": 1, "unread": 1, "no_answer": 1, "read_stated": 1}


def test_choices_say_which_letters_there_are() -> None:
    items = make_items(["E"], ["E"], choices=[("v", "w", "x", "y", "z")])
    assert MultipleChoice().score(items).value == 1.0
    with pytest.raises(DataError, match="wanted a letter of AB"):
        MultipleChoice().score(make_items(["A"], ["C"], choices=[("x", "y")]))
    with pytest.raises(DataError, match="'Paris'"):
        MultipleChoice().score(make_items(["A"], ["Paris"]))
