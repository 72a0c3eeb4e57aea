"""Through torch's DataLoader: the order of the reader alone, whatever the workers, and exact resumption."""

from __future__ import annotations

import json
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.data.reader.sets import lines, row, sound_set
from torch.utils.data import DataLoader

from vivavoce.base.errors import DataError
from vivavoce.data.reader import DataSource, Filters, Mixing, Reader, Stream
from vivavoce.data.reader.torch_rows import RowDataset


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("sets") / "sound", 40)


def reader(
    path: Path, world_size: int = 1, rank: int = 0, mixing: Mixing | None = None, **options: Any
) -> Reader:
    stream = Stream(
        DataSource(path, cache=None),
        mixing or Mixing(stop="all"),
        world_size=world_size,
        rank=rank,
        window_rows=16,
    )
    return Reader(stream, filters=Filters(keep=_most), **options)


def _most(row: Any) -> bool:
    return row.id not in ("r3", "r4", "r20")


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_workers_change_nothing(sound: Path, num_workers: int, world_size: int) -> None:
    alone = reader(sound, world_size, world_size - 1)
    wanted = [s.place for s in alone]
    now = reader(sound, world_size, world_size - 1)
    found = [s.place for s in islice(RowDataset(now).rows(num_workers, prefetch=4), 9)]
    state = json.loads(json.dumps(now.state_dict()))
    assert state["progress"]["next"] == (wanted[8].position + world_size)
    again = reader(sound, world_size, world_size - 1)
    again.load_state_dict(state)
    found += [s.place for s in RowDataset(again).rows(2)]
    assert found == wanted
    assert again.totals() == alone.totals()


def test_waveforms_arrive_and_faults_are_raised_in_the_trainers_process(sound: Path, tmp_path: Path) -> None:
    alone = {s.row.id: s.waveforms[0] for s in reader(sound)}
    for sample in RowDataset(reader(sound)).rows(2):
        samples, rate = sample.waveforms[0]  # type: ignore[misc]
        assert rate == 8000 and (samples == alone[sample.row.id][0]).all()  # type: ignore[index]
    bad = row(1)
    bad.audios, bad.messages[0].parts[0].audio = [], "gone.flac"  # type: ignore[union-attr]
    path = lines(tmp_path / "a.jsonl", [bad])
    with pytest.raises(DataError, match=r"row 0 of a.jsonl in a.jsonl: .*gone.flac"):
        list(RowDataset(reader(path, on_fault="raise")).rows(1))


def test_a_dataset_can_be_sent_to_another_process(sound: Path) -> None:
    now = reader(sound)
    taken = [s.place for s in islice(now, 5)]
    sent = pickle.loads(pickle.dumps(RowDataset(now)))
    assert taken + [s.place for s in sent.rows(0)] == [s.place for s in reader(sound)]


def test_a_loader_that_makes_batches_is_refused(sound: Path) -> None:
    dataset = RowDataset(reader(sound))
    with pytest.raises(DataError, match="gives list; wanted rows, by batch_size=None"):
        next(dataset.taken(DataLoader(dataset, batch_size=2, collate_fn=list)))
