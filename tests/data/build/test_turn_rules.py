"""Turns, pairs and overlap by hand-worked times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audio.speaker_turns import SpeakerTurn as Turn
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.mining.turn_rules import (
    TurnRules,
    exchanges,
    main_share,
    overlap_s,
    refusal,
    whole_turns,
)

RULES = TurnRules()


def one(found: list[Turn], rules: TurnRules = RULES) -> str | None:
    """What a recording of one pair comes to."""
    (pair,) = exchanges(whole_turns(found, rules), found)
    return refusal(pair, found, rules)


def test_pauses_join_turns_and_backchannels_are_dropped() -> None:
    found = [
        Turn(0.0, 2.0, "a"), Turn(2.5, 4.0, "a"),  # a pause of 0.5 s
        Turn(4.1, 4.6, "b"),  # "mhm" between two turns of a
        Turn(4.8, 7.0, "a"),
        Turn(7.5, 12.0, "b"), Turn(8.0, 8.4, "a"),  # within b's turn
        Turn(13.5, 14.0, "b"),  # after a pause of 1.5 s: another turn
        Turn(14.2, 16.0, "a"),
    ]  # fmt: skip
    assert whole_turns(found, RULES) == [
        Turn(0.0, 7.0, "a"), Turn(7.5, 12.0, "b"), Turn(13.5, 14.0, "b"), Turn(14.2, 16.0, "a"),
    ]  # fmt: skip
    assert whole_turns(found, RULES, pause_s=2.0)[1:] == [Turn(7.5, 14.0, "b"), Turn(14.2, 16.0, "a")]
    everything = whole_turns(found, TurnRules(backchannel_s=0.0))
    assert [turn.speaker for turn in everything] == list("abababa")
    answer = [
        Turn(0.0, 2.0, "a"),
        Turn(2.1, 2.6, "b"),
        Turn(4.0, 6.0, "a"),
    ]  # "yes", and a says no more for long
    assert whole_turns(answer, RULES) == answer
    assert whole_turns(list(reversed(found)), RULES) == whole_turns(found, RULES)


def test_gap_and_overlap_are_exact() -> None:
    found = [Turn(0.0, 4.0, "a"), Turn(3.9, 8.0, "b"), Turn(5.0, 5.25, "a"), Turn(8.5, 11.0, "a")]
    first, second = exchanges(whole_turns(found, RULES), found)
    assert (first.gap_s, first.overlap_s) == pytest.approx((-0.1, 0.1 + 0.25))
    assert (second.gap_s, second.overlap_s) == pytest.approx((0.5, 0.1 + 0.25))
    assert [refusal(pair, found, RULES) for pair in (first, second)] == [None, None]


def test_each_rule_refuses_what_breaks_it() -> None:
    fine = [Turn(0.0, 3.0, "a"), Turn(3.5, 8.0, "b")]
    assert one(fine) is None
    assert one([Turn(0.0, 0.9, "a"), fine[1]._replace(start_s=1.0)]) == "request_length"
    assert one([Turn(0.0, 20.1, "a"), Turn(20.5, 25.0, "b")]) == "request_length"
    assert one([fine[0], Turn(3.5, 5.4, "b")]) == "answer_length"
    assert one([fine[0], Turn(3.5, 43.6, "b")]) == "answer_length"
    assert one([fine[0], Turn(4.6, 8.0, "b")]) == "gap"
    assert one([fine[0], Turn(4.5, 8.0, "b")]) is None  # 1.5 s, the longest gap
    assert one([fine[0], Turn(2.7, 8.0, "b")]) == "overlap"
    assert one([fine[0], Turn(2.8, 8.0, "b")]) is None  # -0.2 s
    many = [*fine, Turn(4.0, 4.6, "a"), Turn(5.0, 5.6, "a")]  # 1.2 s of 8 s in which two speak
    assert one(many) == "overlap" and one(many, TurnRules(max_overlap=0.15)) is None
    assert one([*fine, Turn(7.5, 7.9, "c")]) == "third_voice"


@given(
    times=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.sampled_from("abc")), max_size=9),
    start=st.integers(0, 10),
    length=st.integers(1, 15),
)
def test_overlap_is_counted_moment_by_moment(
    times: list[tuple[int, int, str]], start: int, length: int
) -> None:
    found = [Turn(float(a), float(a + n), name) for a, n, name in times]
    both = [
        moment
        for moment in range(start, start + length)
        if len({t.speaker for t in found if t.start_s <= moment < t.end_s}) > 1
    ]
    assert overlap_s(found, float(start), float(start + length)) == pytest.approx(len(both))


def test_main_share() -> None:
    found = [Turn(0, 6, "a"), Turn(6, 9, "b"), Turn(9, 10, "c")]
    assert main_share(found) == pytest.approx(0.9) and main_share(found[:1]) == 1.0 and main_share([]) == 0.0


def test_rules_that_make_no_sense_are_refused() -> None:
    for settings, message in (
        ({"min_request_s": 30.0}, "min_request_s is 30 and max_request_s 20"),
        ({"max_overlap": 1.5}, "max_overlap is 1.5"),
        ({"pause_s": -1.0}, "pause_s is -1"),
        ({"min_turns": 1}, "min_turns of 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            TurnRules(**settings)
