"""Streams: any state goes on anywhere, every row once a pass, and never into another stream."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.reader.sets import lines, text_row, text_set

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.reader import DataSource, Mixing, Place, Stream


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[DataSource]:
    folder = tmp_path_factory.mktemp("sets")
    weighted = [text_row(i, "w", weight=[1.0, 0.5, 2.0][i % 3]) for i in range(30)]
    paths = [
        text_set(folder / "a", 53),
        text_set(folder / "b", 20, prefix="b"),
        lines(folder / "c.jsonl", weighted),
    ]
    return [DataSource(path, cache=None) for path in paths]


def take(stream: Stream, count: int) -> list[Place]:
    """Read some places and count them as done."""
    found = []
    for place, _ in zip(stream.places(), range(count), strict=False):
        stream.done(place.position, stream.sources[place.source].name, "used")
        found.append(place)
    return found


def saved(streams: list[Stream]) -> list[dict[str, Any]]:
    return json.loads(json.dumps([s.state_dict() for s in streams]))


@settings(max_examples=60)
@given(st.data())
def test_over_changes_of_world_size_every_row_comes_once_a_pass(
    sources: list[DataSource], data: st.DataObject
) -> None:
    which = data.draw(st.sampled_from([sources, sources[:1], sources[:2]]))
    mixing = data.draw(
        st.sampled_from(
            [Mixing(stop="all"), Mixing((1.5, 0.5, 1)[: len(which)], spread="even", stop="all", passes=2)]
        )
    )
    seed, window_rows = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0, 16, 1024]))
    states: list[dict[str, Any]] | None = None
    found: list[Place] = []
    length = len(Stream(which, mixing, seed=seed, window_rows=window_rows))
    while len(found) < length:
        world_size = data.draw(st.sampled_from([1, 2, 3, 4, 8]))
        streams = [
            Stream(which, mixing, seed=seed, world_size=world_size, rank=rank, window_rows=window_rows)
            for rank in range(world_size)
        ]
        for stream in streams:
            if states is not None:
                stream.load_state_dict(states)
            found += take(stream, data.draw(st.integers(1, 60)))  # ranks do not keep step
        states = saved(streams)
    assert sorted(p.position for p in found) == list(range(length))
    by_pass = Counter((p.source, p.turn, p.number) for p in found)
    unweighted = {key: count for key, count in by_pass.items() if key[0] != 2}
    assert set(unweighted.values()) == {1}
    for source, rows in ((0, 53), (1, 20)):
        for turn in range(
            max([t for s, t, _ in by_pass if s == source], default=0)
        ):  # passes before the last
            assert sum(1 for s, t, _ in by_pass if (s, t) == (source, turn)) == rows
    assert states is not None
    totals = Stream(which, mixing, seed=seed, window_rows=window_rows)
    totals.load_state_dict(states)
    assert sum(n for counts in totals.totals().values() for n in counts.values()) == length


@given(st.sampled_from([1, 2, 4]), st.lists(st.integers(0, 40), min_size=1, max_size=5), st.data())
def test_stopping_changes_nothing_at_the_same_world_size(
    sources: list[DataSource], world_size: int, stops: list[int], data: st.DataObject
) -> None:
    mixing = Mixing((0.8, 0.1, 0.1), "shares")
    rank = data.draw(st.integers(0, world_size - 1))

    def stream() -> Stream:
        return Stream(sources, mixing, seed=3, world_size=world_size, rank=rank, window_rows=32)

    through = take(stream(), sum(stops) + 10)
    now, found = stream(), list[Place]()
    for count in stops:
        found += take(now, count)
        own = saved([now])[0]
        now = stream()
        now.load_state_dict(own)
    assert found + take(now, 10) == through


def test_workers_share_a_ranks_places_without_any_twice(sources: list[DataSource]) -> None:
    stream = Stream(sources, Mixing(stop="all"), world_size=3, rank=1)
    take(stream, 5)
    alone = list(stream.places())
    parts = [list(stream.places(worker, 4)) for worker in range(4)]
    assert [
        p for step in range(len(parts[0])) for p in (part[step] for part in parts if step < len(part))
    ] == alone


def test_the_order_does_not_depend_on_ranks_and_a_source_keeps_its_own_in_any_mix(
    sources: list[DataSource],
) -> None:
    one = Stream(sources, Mixing(stop="all"), seed=9)
    for world_size in (2, 5):
        streams = [
            Stream(sources, Mixing(stop="all"), seed=9, world_size=world_size, rank=r)
            for r in range(world_size)
        ]
        assert sorted(p for s in streams for p in s.places()) == list(one.places())
    numbers = [p.number for p in one.places() if p.source == 0]
    alone = Stream(sources[:1], Mixing(stop="all"), seed=9)
    assert sorted(numbers) == sorted(p.number for p in alone.places()) and [*numbers] != list(range(53))


def test_a_mix_says_where_each_source_stands(sources: list[DataSource]) -> None:
    stream = Stream(sources[:2], Mixing((1, 3), "shares", "even"))
    take(stream, 40)
    assert stream.state_dict()["sources"] == {
        "a": {"turn": 0, "place": 10, "rows": 53},
        "b": {"turn": 1, "place": 10, "rows": 20},
    }
    assert stream.totals() == {"a": {"used": 10}, "b": {"used": 30}}


def test_a_state_goes_into_its_own_stream_only(sources: list[DataSource], tmp_path: Path) -> None:
    mixing = Mixing((1, 2))
    streams = [Stream(sources[:2], mixing, world_size=2, rank=rank) for rank in (0, 1)]
    take(streams[0], 3)
    states = saved(streams)
    for other, why in (
        (Stream(sources[:2], mixing, seed=1), "seed was 0, is 1"),
        (Stream(sources[:2], Mixing((1, 1))), "weight of b was 40, is 20"),
        (Stream(sources, Mixing((1, 2, 1))), "the source c.jsonl is new"),
        (Stream(sources[1::-1], Mixing((2, 1))), "another order"),
    ):
        with pytest.raises(DataError, match=why):
            other.load_state_dict(states)
    grown = DataSource(text_set(tmp_path / "a", 54), cache=None)
    with pytest.raises(DataError, match="rows of a was 53, is 54"):
        Stream([grown, sources[1]], mixing).load_state_dict(states)
    with pytest.raises(
        DataError, match="rank 0 of 2 and this is rank 1 of 4; give the states of all 2 ranks"
    ):
        Stream(sources[:2], mixing, world_size=4, rank=1).load_state_dict(states[0])
    with pytest.raises(DataError, match="no state of a stream"):
        Stream(sources[:2], mixing).load_state_dict({"epoch": 3})
    with pytest.raises(ConfigError, match="a name of its own"):
        Stream([sources[0], sources[0]])
    with pytest.raises(ConfigError, match="no end"):
        len(Stream(sources))
    with pytest.raises(DataError, match="no row to read"):
        Stream(DataSource(lines(tmp_path / "empty.jsonl", []), cache=None))
