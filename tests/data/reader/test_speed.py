"""Readers are quick where it counts: a restart opens the files it needs, and decoding leaves cores for training.

The bounds are wide, so that a busy machine passes and a reader that goes through a set does not;
`benchmarks/reader.py` has the figures.
"""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from tests.data.reader.sets import text_set

from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.data.manifest import write_set
from vivavoce.data.reader import DataSource, Mixing, Reader, Stream, index
from vivavoce.data.recordings import encode_flac

SHARDS, SHARD_ROWS, WINDOW, BATCH = 100, 4, 16, 16
RATE = 16_000


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 100 shards."""
    return text_set(tmp_path_factory.mktemp("sets") / "hundred", SHARDS * SHARD_ROWS, SHARD_ROWS)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are opened, each time they are."""
    names: list[str] = []
    original = pyarrow.parquet.ParquetFile

    def open_and_tell(path: Path, *arguments: Any, **options: Any) -> Any:
        names.append(Path(path).name)
        return original(path, *arguments, **options)

    monkeypatch.setattr(pyarrow.parquet, "ParquetFile", open_and_tell)
    return names


def reader(folder: Path, cache: Path | None) -> Reader:
    source = DataSource(folder, cache=cache)
    return Reader(Stream(source, Mixing(stop="all"), window_rows=WINDOW), workers=0)


def stopped_half_way(folder: Path, cache: Path | None) -> tuple[dict[str, Any], list[str]]:
    """A state, and the ids that come after it."""
    first = reader(folder, cache)
    for _ in islice(first, SHARDS * SHARD_ROWS // 2):
        pass
    state = json.loads(json.dumps(first.state_dict()))
    return state, [sample.row.id for sample in islice(first, BATCH)]


def test_a_restart_opens_only_the_shards_it_reads(hundred, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(index, "_WORTH_S", 0.0)
    state, wanted = stopped_half_way(hundred, tmp_path)
    opened.clear()
    again = reader(hundred, tmp_path)
    again.load_state_dict(state)
    assert [sample.row.id for sample in islice(again, BATCH)] == wanted
    lanes = again.stream.orders[0].lanes
    assert lanes == 4 and len(opened) <= 2 * lanes, f"{len(opened)} of {SHARDS} shards were opened"


def test_a_restart_without_an_index_reads_footers_and_few_rows(hundred, opened):
    state, wanted = stopped_half_way(hundred, None)
    opened.clear()
    began = time.perf_counter()
    again = reader(hundred, None)
    again.load_state_dict(state)
    assert [sample.row.id for sample in islice(again, BATCH)] == wanted
    assert time.perf_counter() - began < 2.0
    lanes = again.stream.orders[0].lanes
    assert len(opened) <= SHARDS + 2 * lanes and again.stream.sources[0].rows.groups_read <= 2 * lanes


def test_flac_is_decoded_far_faster_than_it_is_heard(tmp_path):
    """At least 20 seconds of audio per second of a core's time, everything that the reader does included."""
    t = np.arange(10 * RATE) / RATE
    clip = encode_flac(0.1 * np.sin(700 * t) + 0.01 * np.random.default_rng(0).standard_normal(t.size), RATE)
    rows = [
        Conversation(str(i), [Message("user", [Audio(0)])], [{"bytes": clip, "path": f"{i}.flac"}])
        for i in range(12)
    ]
    write_set(tmp_path / "set", rows)
    stream = Stream(DataSource(tmp_path / "set", cache=None), Mixing(stop="all"))
    began = time.process_time()
    seconds = sum(len(sample.waveforms[0][0]) / RATE for sample in Reader(stream, RATE, workers=0))
    assert seconds == 120 and seconds / (time.process_time() - began) > 20
