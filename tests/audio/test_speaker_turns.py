"""The diarisation error rate by hand-worked cases and against counting moments; RTTM files both ways."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audio.speaker_turns import SpeakerTurn as Turn
from vivavoce.audio.speaker_turns import best_pairs, diarisation_error, read_rttm, rttm_lines
from vivavoce.base.errors import AudioError, ConfigError

TRUE = [Turn(0.0, 4.0, "ann"), Turn(4.0, 10.0, "bob")]


@pytest.mark.parametrize(
    ("true", "found", "missed", "false", "confused"),
    [
        (TRUE, [Turn(0, 4, "x"), Turn(4, 10, "y")], 0, 0, 0),  # names do not matter
        (TRUE, [Turn(0, 2, "x"), Turn(2, 4, "x"), Turn(4, 10, "y")], 0, 0, 0),  # nor how turns are cut
        (TRUE, [Turn(0, 4, "x"), Turn(6, 10, "y")], 2, 0, 0),  # missed
        (TRUE, [Turn(0, 4, "x"), Turn(4, 13, "y")], 0, 3, 0),  # false alarm
        (TRUE, [Turn(0, 5, "x"), Turn(5, 10, "y")], 0, 0, 1),  # confusion
        (TRUE, [Turn(0, 10, "x")], 0, 0, 4),  # one for all: mapped to who says more
        (TRUE, [], 10, 0, 0),
        ([], TRUE, 0, 10, 0),
        # two true speakers for 2 s, one of them found
        ([Turn(0, 6, "a"), Turn(4, 10, "b")], [Turn(0, 5, "x"), Turn(5, 10, "y")], 2, 0, 0),
        # two found where one speaks
        (TRUE, [Turn(0, 5, "x"), Turn(4, 10, "y")], 0, 1, 0),
        # two true and two found, one of them right: 1 s of confusion in the overlap
        ([Turn(0, 4, "a"), Turn(3, 9, "b")], [Turn(0, 4, "x"), Turn(4, 9, "y"), Turn(3, 4, "z")], 0, 0, 1),
        # the best mapping, not the greedy one: a-x 3 s, a-y 2, b-x 3; greedy a-x leaves b nothing
        ([Turn(0, 5, "a"), Turn(5, 8, "b")], [Turn(0, 3, "x"), Turn(3, 5, "y"), Turn(5, 8, "x")], 0, 0, 3),
    ],
)  # fmt: skip
def test_error_by_hand(
    true: list[Turn], found: list[Turn], missed: float, false: float, confused: float
) -> None:
    error = diarisation_error(true, found)
    assert (error.missed_s, error.false_alarm_s, error.confusion_s) == pytest.approx(
        (missed, false, confused)
    )
    assert error.total_s == pytest.approx(sum(turn.end_s - turn.start_s for turn in true))
    if true:
        assert error.rate == pytest.approx((missed + false + confused) / error.total_s)
    else:
        assert math.isnan(error.rate)


def test_collar_overlap_and_scope() -> None:
    found = [Turn(0, 4.5, "x"), Turn(4.5, 10.2, "y")]
    assert diarisation_error(TRUE, found).rate == pytest.approx(0.7 / 10)
    collar = diarisation_error(
        TRUE, found, collar_s=0.25
    )  # 0..0.25, 3.75..4.25 and 9.75..10.25 are not scored
    assert collar.total_s == pytest.approx(9.0)
    assert (collar.confusion_s, collar.false_alarm_s) == pytest.approx((0.25, 0.0))
    assert diarisation_error(TRUE, found, collar_s=0.5).rate == 0.0
    both = [Turn(0, 6, "a"), Turn(4, 10, "b")]
    one = [Turn(0, 5, "x"), Turn(5, 10, "y")]
    assert diarisation_error(both, one).rate == pytest.approx(2 / 12)
    skipped = diarisation_error(both, one, skip_overlap=True)
    assert (skipped.total_s, skipped.rate) == (pytest.approx(8.0), 0.0)
    assert diarisation_error(TRUE, [], scope=(3.0, 5.0)).missed_s == pytest.approx(2.0)
    for wrong in ({"collar_s": -1.0}, {"scope": (5.0, 5.0)}):
        with pytest.raises(ConfigError, match="wanted 0 or more"):
            diarisation_error(TRUE, [], **wrong)
    with pytest.raises(ConfigError, match="a found turn of x"):
        diarisation_error(TRUE, [Turn(3, 2, "x")])


TURNS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from("abc")), max_size=7)


@given(first=TURNS, second=TURNS)
def test_error_is_what_counting_moments_gives(first: list, second: list) -> None:
    """Whole seconds, all mappings tried one by one."""
    true, found = ([Turn(a, a + n, name) for a, n, name in turns] for turns in (first, second))
    seconds = range(0, 30)

    def speaking(turns: list[Turn]) -> list[set[str]]:
        return [{t.speaker for t in turns if t.start_s <= s < t.end_s} for s in seconds]

    real, told = speaking(true), speaking(found)
    best = math.inf
    for names in itertools.permutations("abc"):
        mapping = dict(zip("abc", names, strict=True))
        right = [len(r & {mapping[n] for n in t}) for r, t in zip(real, told, strict=True)]
        best = min(best, sum(min(len(r), len(t)) - k for r, t, k in zip(real, told, right, strict=True)))
    error = diarisation_error(true, found)
    assert error.confusion_s == pytest.approx(best)
    assert error.total_s == pytest.approx(sum(map(len, real)))
    missed = sum(max(0, len(r) - len(t)) for r, t in zip(real, told, strict=True))
    false = sum(max(0, len(t) - len(r)) for r, t in zip(real, told, strict=True))
    assert (error.missed_s, error.false_alarm_s) == pytest.approx((missed, false))
    assert diarisation_error(found, found)[1:] == (0.0, 0.0, 0.0)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_best_pairs_are_the_best(rows: int, columns: int, seed: int) -> None:
    worth = np.random.default_rng(seed).integers(-2, 9, (rows, columns)).astype(float)
    pairs = best_pairs(worth)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    padded = np.zeros((4, 4))
    padded[:rows, :columns] = np.maximum(worth, 0)
    best = max(sum(padded[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(4)))
    assert sum(worth[i, j] for i, j in pairs) == best


@given(
    times=st.lists(
        st.tuples(st.integers(0, 10**7), st.integers(1, 10**5), st.sampled_from(["1", "ann", "s07"]))
    )
)
def test_rttm_round_trip(times: list[tuple[int, int, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    turns = sorted(Turn(a / 1000, (a + n) / 1000, name) for a, n, name in times)
    path = tmp_path_factory.getbasetemp() / "round.rttm"
    path.write_text("".join(f"{line}\n" for line in rttm_lines(turns, "talk")))
    back = read_rttm(path)
    assert len(back) == len(turns)
    assert sorted(turn.speaker for turn in back) == sorted(turn.speaker for turn in turns)
    if turns:
        assert np.allclose(sorted(t[:2] for t in back), sorted(t[:2] for t in turns), atol=1e-6)
    assert rttm_lines(back, "talk") == rttm_lines(turns, "talk")


def test_rttm_as_others_write_it(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        "SPKR-INFO talk 1 <NA> <NA> <NA> unknown ann <NA>\n\n"
        "SPEAKER talk 1 6.69 0.43 <NA> <NA> ann <NA> <NA>\nSPEAKER talk 1 1 2.5 <NA> <NA> bob <NA>\n"
    )
    assert read_rttm(path) == [Turn(1.0, 3.5, "bob"), Turn(6.69, pytest.approx(7.12), "ann")]
    path.write_text("SPEAKER a 1 0 1 <NA> <NA> x\nSPEAKER b 1 0 2 <NA> <NA> y\n")
    assert read_rttm(path, "b") == [Turn(0.0, 2.0, "y")]
    with pytest.raises(AudioError, match=r"2 recordings \(a, b\)"):
        read_rttm(path)
    path.write_text("SPEAKER a 1 zero 1 <NA> <NA> x\n")
    with pytest.raises(AudioError, match="line 1 of"):
        read_rttm(path)
    with pytest.raises(AudioError, match="cannot read"):
        read_rttm(tmp_path / "none.rttm")
