"""The bundle's domain against other ways of knowing the same, and its splits."""

from __future__ import annotations

import calendar
import datetime
import operator
import re
from collections.abc import Callable

import pytest
from domain import DAYS, MONTHS, Item, all_items, held_out_facts, held_out_questions, number

VALUES = {
    **{calendar.month_name[i].lower(): i for i in range(1, 13)},
    **{name.lower(): i for i, name in enumerate(calendar.day_name)},
}
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
UNITS = {word: n for n, word in enumerate([*SMALL.split(), "seventeen", "eighteen", "nineteen"])}
UNITS |= {
    word: n
    for n, word in zip(
        range(20, 100, 10), "twenty thirty forty fifty sixty seventy eighty ninety".split(), strict=True
    )
}


def value(words: str) -> int:
    """The number that words name."""
    if words.startswith("minus "):
        return -value(words.removeprefix("minus "))
    total = 0
    for word in words.split():
        total = total * 100 if word == "hundred" else total + UNITS[word]
    return total


def matching(kind: str, pattern: str) -> list[tuple[tuple[str, ...], str]]:
    """(captured words, answer) of the questions of a kind that have this form."""
    found = [(re.fullmatch(pattern, item.question), item) for item in all_items() if item.kind == kind]
    return [(match.groups(), item.answer) for match, item in found if match]


def test_number_words_read_back() -> None:
    assert [n for n in range(-999, 1000) if value(number(n)) != n] == []
    assert len({number(n) for n in range(-999, 1000)}) == 1999


@pytest.mark.parametrize(
    ("word", "operation", "count"),
    [("plus", operator.add, 441), ("minus", operator.sub, 231), ("times", operator.mul, 121)],
)
def test_arithmetic(word: str, operation: Callable[[int, int], int], count: int) -> None:
    rows = matching("arithmetic", rf"(?:what is |how much is |)([a-z ]+) {word} ([a-z ]+)")
    assert len(rows) == 3 * count
    assert [row for row in rows if operation(*map(value, row[0])) != value(row[1])] == []


def test_neighbours_parity_doubles_and_order() -> None:
    checks: list[tuple[str, str, Callable[..., int | str]]] = [
        ("neighbour", r"what comes after (.+)", lambda n: n + 1),
        ("neighbour", r"what comes before (.+)", lambda n: n - 1),
        ("parity", r"is (.+) even or odd", lambda n: ("even", "odd")[n % 2]),
        ("double", r"what is double (.+)", lambda n: n + n),
        ("double", r"what is half of (.+)", lambda n: n // 2),
        ("compare", r"which is bigger (.+) or (.+)", max),
        ("compare", r"which is smaller (.+) or (.+)", min),
    ]
    for kind, pattern, compute in checks:
        rows = matching(kind, pattern)
        assert len(rows) >= 20, pattern
        for words, answer in rows:
            wanted = compute(*map(value, words))
            assert answer == wanted or value(answer) == wanted, (words, answer)


def test_counting() -> None:
    for (low, high), answer in matching("count", r"count from (.+) to (.+)"):
        assert answer == " ".join(number(n) for n in range(value(low), value(high) + 1))
    for (high,), answer in matching("count", r"count to (.+)"):
        assert [UNITS[word] for word in answer.split()] == list(range(1, value(high) + 1))


def test_days_and_months() -> None:
    assert [VALUES[d] for d in DAYS] == list(range(7)) and [VALUES[m] for m in MONTHS] == list(range(1, 13))
    for what, size in (("day", 7), ("month", 12)):
        for step, word in ((1, "after"), (-1, "before")):
            rows = matching("calendar", rf"what {what} comes {word} (\w+)")
            assert len(rows) == size
            assert [r for r in rows if (VALUES[r[0][0]] + step - VALUES[r[1]]) % size] == []
    days = matching("calendar", r"how many days are in (\w+)")
    assert {m: value(n) for (m,), n in days} == {m: calendar.monthrange(2023, VALUES[m])[1] for m in MONTHS}


def test_clock() -> None:
    rows = matching("clock", r"what time is it (\w+) hours? after (\w+) o'clock")
    assert len(rows) == 72
    for (hours, hour), answer in rows:
        then = datetime.datetime(2024, 1, 1, value(hour)) + datetime.timedelta(hours=value(hours))
        assert answer == f"{number(int(then.strftime('%I')))} o'clock"


def test_spelling_and_opposites() -> None:
    spelled = matching("spelling", r"(?:how do you )?spell (\w+)")
    assert spelled and all(answer.replace(" ", "") == word for (word,), answer in spelled)
    opposite = {
        word: answer for (word,), answer in matching("opposite", r"(?:what is )?the opposite of (\w+)")
    }
    one_way = {w for w, o in opposite.items() if opposite.get(o) != w}
    assert one_way == {"heavy"}  # "light" is the opposite of dark first


def test_a_question_has_one_answer() -> None:
    answers: dict[str, set[str]] = {}
    for item in all_items():
        answers.setdefault(item.question, set()).add(item.answer)
    assert {q: a for q, a in answers.items() if len(a) > 1} == {}


def test_held_out_facts_are_a_tenth_and_fixed() -> None:
    items = all_items()
    unseen = held_out_facts(items)
    arithmetic = {i.fact for i in items if i.kind == "arithmetic"}
    assert unseen <= arithmetic and len(unseen) == len(arithmetic) // 10
    assert unseen == held_out_facts(list(reversed(items)))


def test_training_rows_have_no_held_out_fact_sentence_or_voice() -> None:
    pytest.importorskip("pocketsphinx")  # its dictionary gives the words outside the domain
    from speech_plans import HELD_OUT_VOICES, plan

    items = all_items()
    facts, questions = held_out_facts(items), held_out_questions(items)
    withheld: set[str] = {i.question for i in items if i.fact in facts or i.question in questions}
    by_split: dict[str, list[dict]] = {}
    for job in plan(0.2):
        by_split.setdefault(job["split"], []).append(job)
    trained = [job for split in ("train", "voice", "unknown") for job in by_split[split]]
    assert [job["text"] for job in by_split["train"] if job["text"] in withheld] == []
    assert not {job["voice"] for job in trained} & set(HELD_OUT_VOICES)
    assert {job["voice"] for job in by_split["test_voice"] + by_split["test_unknown"]} == set(HELD_OUT_VOICES)
    closed = [job for job in by_split["test_sentence"] if job["kind"] not in ("digits", "number", "say")]
    assert len(closed) > 250 and {job["text"] for job in closed} <= withheld


def test_facts_are_shared_by_phrasings() -> None:
    def phrasings(fact: str) -> list[Item]:
        return [i for i in all_items() if i.fact == fact]

    assert len(phrasings("seven plus five")) == 3
    assert len({i.answer for i in phrasings("seven plus five")}) == 1
