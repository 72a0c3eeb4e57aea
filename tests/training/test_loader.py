"""The loader: every row in one update, the same updates after a stop and on more ranks, nothing left out unsaid."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.inference import tiny
from tests.training.row_cases import row

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.manifest import write_set
from vivavoce.data.recordings import hoist
from vivavoce.training.config import BatchSettings, DataSettings, SetSettings
from vivavoce.training.loader import NOT_RENDERED, TOO_LONG, Loader

PROCESSOR = tiny.embeddings_to_text().processor


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> SetSettings:
    """Forty typed rows of different lengths, and one that is heard."""
    folder = tmp_path_factory.mktemp("sets") / "texts"
    rows = [row(f"what is {i}", answer="it is " + "so " * (i % 7)) for i in range(40)] + [row()]
    for number, one in enumerate(rows):
        one.id = f"r{number}"
        hoist(one, None)
    write_set(folder, rows)
    return SetSettings(path=str(folder))


def loader(
    *sets: SetSettings, rows: int = 4, max_tokens: int = 400, passes: int | None = 1, **more: Any
) -> Loader:
    data = DataSettings(sets=sets, **{k: more.pop(k) for k in ("on_fault", "max_characters") if k in more})
    batch = BatchSettings(rows=rows, max_tokens=max_tokens)
    return Loader(sets, data, batch, PROCESSOR, more.pop("objective", "sft"), seed=3, passes=passes, **more)


def names(found: Any) -> list[list[str]]:
    return [[document.id for document in update.documents] for update in found]


def test_every_row_is_learned_once_a_pass(texts: SetSettings) -> None:
    made = names(loader(texts))
    assert [len(update) for update in made] == [4] * 10 + [1]
    assert sorted(name for update in made for name in update) == sorted(f"r{i}" for i in range(41))
    assert made == names(loader(texts)) and made[0] != ["r0", "r1", "r2", "r3"]
    endless = names(islice(loader(texts, passes=None), 21))
    assert [len(update) for update in endless] == [4] * 21


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_after_a_stop_the_same_updates_come(texts: SetSettings, stop: int) -> None:
    whole = names(islice(loader(texts, passes=None), 12))
    first = loader(texts, passes=None)
    for number, update in enumerate(first):
        if number == stop:
            break  # taken, and not learned
        first.done(update)
    state = first.state_dict()
    again = loader(texts, passes=None)
    again.load_state_dict([state])
    assert names(islice(again, 12 - stop)) == whole[stop:]
    if stop == 4:  # on two ranks each update has the same rows
        pair = [loader(texts, passes=None, rank=r, world_size=2) for r in range(2)]
        for one in pair:
            one.load_state_dict([state])
        ranks = [names(islice(one, 8)) for one in pair]
        assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(u) for u in whole[4:]]


def test_rows_that_cannot_be_used_are_counted(texts: SetSettings, tmp_path: Path) -> None:
    mute = row()
    mute.messages.pop()
    mute.id = "mute"
    hoist(mute, None)
    long = row("so " * 300)
    long.id = "long"
    write_set(tmp_path / "odd", [mute, long, *(row(f"yes {i}") for i in range(3))])
    odd = loader(SetSettings(path=str(tmp_path / "odd")))
    for update in odd:
        assert len(update.documents) == 3
        odd.done(update)
    assert odd.stream.totals() == {"odd": {"used": 3, NOT_RENDERED: 1, TOO_LONG: 1}}
    assert len(odd.faults) == 1 and "mute" in odd.faults[0]
    with pytest.raises(DataError, match="mute"):
        list(loader(SetSettings(path=str(tmp_path / "odd")), on_fault="raise"))


def test_rows_that_cannot_be_dealt_out_are_refused(texts: SetSettings) -> None:
    with pytest.raises(ConfigError, match=r"batch.rows is 4 for 3 ranks; wanted a multiple, such as 6"):
        loader(texts, world_size=3)
