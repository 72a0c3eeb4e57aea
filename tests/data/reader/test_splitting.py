"""Splits: near their shares, the same for the same names, and no speaker in two."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.reader.sets import row, sound_set, text_row

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.data.reader import DataSource, Filters, InSplit, Mixing, Reader, SplitRule, Stream, split

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def talk(name: str, speakers: list[str | None], voice: str = "v1") -> Conversation:
    users = [Message("user", [Audio(0, speaker=s)]) for s in speakers]
    return Conversation(name, [*users, Message("assistant", [Audio(0, speaker=voice)])], [{"path": "a"}])


ROWS = st.lists(st.lists(st.sampled_from([f"s{i}" for i in range(25)]), min_size=1, max_size=2), max_size=60)


@given(ROWS, ROWS, st.integers(0, 99))
def test_speakers_stay_whole_and_rows_stay_where_they_are(
    first: list[list[str]], more: list[list[str]], salt: int
) -> None:
    rows = [talk(f"r{i}", list(names)) for i, names in enumerate(first)]
    grown = rows + [talk(f"m{i}", list(names)) for i, names in enumerate(more)]
    old, new = split(rows, SHARES, salt=str(salt)), split(grown, SHARES, salt=str(salt))
    for name, numbers in old.rows.items():
        assert [n for n in new.rows[name] if n < len(rows)] == numbers
    assert sorted(chain(*new.rows.values(), new.left_out)) == list(range(len(grown)))
    homes = defaultdict(set)
    for name, numbers in new.rows.items():
        for number in numbers:
            for part in grown[number].messages[0].audios:
                homes[part.speaker].add(name)
    assert all(len(names) == 1 for names in homes.values())
    for number in new.left_out:
        assert len({p.speaker for p in grown[number].audio_parts()}) > 2  # two users and the voice


def test_shares_and_salts() -> None:
    rows = [text_row(i) for i in range(4000)]
    found = split(rows, SHARES, by="id")
    assert not found.left_out
    assert [round(len(found.rows[name]) / 4000, 1) for name in SHARES] == [0.8, 0.1, 0.1]
    assert found == split(rows, {k: 7 * v for k, v in SHARES.items()}, by="id")
    assert found != split(rows, SHARES, by="id", salt="other")
    assert found == split(rows, SHARES, by="speaker")  # text has no speaker, so rows go by id


def test_unknown_speakers() -> None:
    rows = [talk("x", [None]), talk("y", ["s1", None])]
    with pytest.raises(DataError, match="row 'x' has audio without a speaker"):
        split(rows, SHARES)
    found = split(rows, SHARES, unknown="id")
    assert len(found.left_out) + sum(map(len, found.rows.values())) == 2
    for shares in ({}, {"train": 0.0}, {"a": float("nan")}):
        with pytest.raises(ConfigError, match="a number above 0"):
            SplitRule(shares)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        InSplit(SplitRule(SHARES), "dev")


def test_a_reader_reads_one_split(tmp_path: Path) -> None:
    path = sound_set(tmp_path / "set", 30)
    rule, seen = SplitRule({"train": 0.6, "test": 0.4}), {}
    for name in rule.shares:
        stream = Stream(DataSource(path, cache=None), Mixing(stop="all"))
        seen[name] = {s.row.id for s in Reader(stream, filters=Filters(keep=InSplit(rule, name)))}
    wanted = split([row(i) for i in range(30)], rule.shares).rows
    assert seen == {name: {f"r{i}" for i in numbers} for name, numbers in wanted.items()}
    assert all(seen.values())
