"""Positions: whatever ranks do and however many there are, every place is done once and none is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.reader.position import Progress, merge

WORLDS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(max_examples=200)
@given(WORLDS, st.data())
def test_no_place_is_lost_or_done_twice_over_changes_of_world_size(
    worlds: list[int], data: st.DataObject
) -> None:
    start, ahead = 0, list[int]()
    done: list[int] = []
    for world_size in worlds:
        ranks = [Progress(world_size, rank, start, ahead) for rank in range(world_size)]
        for progress in ranks:
            left = progress.remaining()
            window = [next(left) for _ in range(data.draw(st.integers(0, 12)))]
            chosen = data.draw(st.permutations(window))[: data.draw(st.integers(0, len(window)))]
            for place in chosen:  # in any order, as who packs rows confirms them
                progress.done(place)
                done.append(place)
        records = json.loads(json.dumps([p.record() for p in data.draw(st.permutations(ranks))]))
        start, ahead = merge(records)
        assert sorted(done) == [*range(start), *ahead]
        assert start not in ahead
    assert len(set(done)) == len(done)


@given(st.integers(1, 9), st.integers(0, 50))
def test_ranks_in_step_are_one_number(world_size: int, steps: int) -> None:
    ranks = [Progress(world_size, rank) for rank in range(world_size)]
    for progress in ranks:
        left = progress.remaining()
        for _ in range(steps):
            progress.done(next(left))
    assert merge([p.record() for p in ranks]) == (world_size * steps, [])


@given(st.integers(1, 6), st.data())
def test_the_same_world_size_goes_on_as_if_never_stopped(world_size: int, data: st.DataObject) -> None:
    ranks = [Progress(world_size, rank) for rank in range(world_size)]
    for progress in ranks:
        left = progress.remaining()
        for _ in range(data.draw(st.integers(0, 15))):
            progress.done(next(left))
    start, ahead = merge([p.record() for p in ranks])
    for rank, progress in enumerate(ranks):
        again, left = Progress(world_size, rank, start, ahead).remaining(), progress.remaining()
        assert [next(again) for _ in range(20)] == [next(left) for _ in range(20)]


def test_faults() -> None:
    with pytest.raises(ConfigError, match="rank is 4 of 4"):
        Progress(4, 4)
    progress = Progress(2, 1)
    progress.done(1)
    for place, why in ((1, "done already"), (2, "rank 0's")):
        with pytest.raises(DataError, match=why):
            progress.done(place)
    with pytest.raises(DataError, match=r"ranks \[0, 0\]"):
        merge([Progress(2, 0).record(), Progress(2, 0).record()])
    with pytest.raises(DataError, match="wanted one of each"):
        merge([Progress(2, 0).record(), Progress(3, 1).record()])
