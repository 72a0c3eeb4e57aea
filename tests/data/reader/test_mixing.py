"""Turns of sources: the lowest consumed fraction goes first, shares hold at every moment, ends are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.base.errors import ConfigError
from vivavoce.data.reader.mixing import Mixing, Schedule

SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=6)
REPEATS = st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0, 10.0, 100.0])


def draws(schedule: Schedule, count: int) -> list[tuple[int, int]]:
    return [schedule.draw(d) for d in range(count)]


@given(SIZES, st.data())
def test_even_is_the_lowest_consumed_fraction_first(sizes: list[int], data: st.DataObject) -> None:
    repeats = tuple(data.draw(REPEATS) for _ in sizes)
    schedule = Schedule(sizes, Mixing(repeats, spread="even"), 0)
    targets = [max(1, round(n * Fraction(w))) for n, w in zip(sizes, repeats, strict=True)]
    consumed = [0] * len(sizes)
    for found in draws(schedule, min(9000, sum(targets) + 100)):
        which = min(range(len(sizes)), key=lambda s: (Fraction(consumed[s], targets[s]), s))
        assert found == (which, consumed[which])
        consumed[which] += 1


@given(SIZES, st.sampled_from(["even", "random"]), st.integers(0, 99), st.data())
def test_a_pass_repeats_every_source_as_often_as_asked(
    sizes: list[int], spread: str, seed: int, data: st.DataObject
) -> None:
    repeats = tuple(data.draw(st.sampled_from([0.5, 1.0, 1.5, 4.0])) for _ in sizes)
    schedule = Schedule(sizes, Mixing(repeats, spread=spread, stop="all"), seed)  # type: ignore[arg-type]
    wanted = [max(1, round(n * Fraction(w))) for n, w in zip(sizes, repeats, strict=True)]
    assert schedule.length == sum(wanted)
    found = draws(schedule, schedule.length)
    assert [sum(s == i for s, _ in found) for i in range(len(sizes))] == wanted
    for i in range(len(sizes)):
        assert [k for s, k in found if s == i] == list(range(wanted[i]))


@given(st.data())
def test_shares_hold_at_every_moment_and_draws_can_be_asked_in_any_order(data: st.DataObject) -> None:
    weights = tuple(
        data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.8, 1.0, 5.0]), min_size=1, max_size=6))
    )
    if not any(weights):
        with pytest.raises(ConfigError, match="all weights are 0"):
            Mixing(weights)
        return
    spread = data.draw(st.sampled_from(["even", "random"]))
    schedule = Schedule([50] * len(weights), Mixing(weights, "shares", spread), data.draw(st.integers(0, 9)))
    found = draws(schedule, 2000)
    counts = np.zeros(len(weights))
    for number, (source, count) in enumerate(found, 1):
        assert count == counts[source]
        counts[source] += 1
        assert np.abs(counts - number * np.array(weights) / sum(weights)).max() <= len(weights)
    far = data.draw(st.integers(0, 10**12))
    assert schedule.draw(far) is not None
    number = data.draw(st.integers(0, 1999))
    assert schedule.draw(number) == found[number]
    assert schedule.before(number) == [sum(s == i for s, _ in found[:number]) for i in range(len(weights))]
    before = schedule.before(far)
    source, count = schedule.draw(far)
    assert sum(before) == far and before[source] == count


def test_eighty_to_twenty() -> None:
    """Jan-Llama3's mix of sound and text, and no rank that gets one kind only."""
    schedule = Schedule([9000, 9000], Mixing((0.8, 0.2), "shares"), 42)
    sources = [source for source, _ in draws(schedule, 5000)]
    assert sources.count(0) == 4000
    assert all(0.7 < sources[rank::5].count(0) / 1000 < 0.9 for rank in range(5))
    even = [s for s, _ in draws(Schedule([9, 9], Mixing((0.8, 0.2), "shares", "even"), 0), 500)]
    assert {even[rank::5].count(0) for rank in range(5)} == {0, 100}  # the pattern that "random" avoids


@given(SIZES, st.sampled_from(["even", "random"]), st.integers(1, 3), st.data())
def test_stops(sizes: list[int], spread: str, passes: int, data: st.DataObject) -> None:
    weights = tuple(data.draw(st.sampled_from([0.5, 1.0, 2.0])) for _ in sizes)
    options = {"weights": weights, "meaning": "shares", "spread": spread, "passes": passes}
    first = Schedule(sizes, Mixing(stop="first", **options), 1)  # type: ignore[arg-type]
    assert first.length is not None
    found = draws(first, first.length)
    counts = [sum(s == i for s, _ in found) for i in range(len(sizes))]
    assert all(c <= n * passes for c, n in zip(counts, sizes, strict=True))
    assert found[-1][1] + 1 == sizes[found[-1][0]] * passes  # the last draw is the one that uses a source up
    every = Schedule(sizes, Mixing(stop="all", **options), 1)  # type: ignore[arg-type]
    assert every.length is not None
    found = draws(every, every.length)
    counts = [sum(s == i for s, _ in found) for i in range(len(sizes))]
    assert all(c >= n * passes for c, n in zip(counts, sizes, strict=True))
    assert found[-1][1] + 1 == sizes[found[-1][0]] * passes
    assert Schedule(sizes, Mixing(weights), 1).length is None


def test_faults_are_named_together() -> None:
    with pytest.raises(ConfigError, match=r"spread is 'odd'.*passes is 0"):
        Mixing(spread="odd", passes=0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="wanted numbers of 0 or more"):
        Mixing((1.0, float("nan")))
    with pytest.raises(ConfigError, match="2 weights for 3 sources"):
        Schedule([1, 2, 3], Mixing((1, 2)), 0)
