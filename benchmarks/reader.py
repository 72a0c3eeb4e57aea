"""Reading rows for training, ours against the naive way: python benchmarks/reader.py [--json] [--rows N] [--rounds N]

A set of 100 Parquet shards with FLAC recordings of 1 to 4 s is made in a temporary folder and read in turn:

- naive: a shard is read whole, turned into rows, shuffled, and decoded; a restart goes through all rows before its
  place; a single row costs its whole shard;
- ours: `vivavoce.data.reader`, in place, with two threads, and behind a DataLoader with two processes.

Both decode with the same function. "per core" is seconds of audio per second of processor time. A restart is a new
process, from its start to the first 16 rows, in the middle of the set. With --json the last line is one object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

SHARDS = 100
RATE = 16_000
BATCH = 16
MOST_ROWS = 3200  # of a pass, to measure speed
AIM_RESTART_S, AIM_PER_CORE = 2.0, 20.0


def make_set(folder: Path, rows: int) -> None:
    """Voiced noise of evenly drawn lengths, 64 different recordings over and over."""
    import numpy as np

    from vivavoce.data.conversation import Audio, Conversation, Message, Text
    from vivavoce.data.manifest import write_set
    from vivavoce.data.recordings import encode_flac

    rng = np.random.default_rng(0)
    clips = []
    for seconds in rng.uniform(1, 4, 64):
        t = np.arange(int(seconds * RATE)) / RATE
        pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / RATE
        voice = sum(np.sin(k * pitch) / k for k in range(1, 20)) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * t))
        clips.append(encode_flac(0.1 * voice + 0.003 * rng.standard_normal(t.size), RATE))

    def made() -> Iterator[Conversation]:
        for i in range(rows):
            parts = [Audio(0, transcript="some words", speaker=f"s{i % 50}")]
            audios = [{"bytes": clips[i % 64], "path": f"{i}.flac"}]
            yield Conversation(
                f"r{i}", [Message("user", parts), Message("assistant", [Text("more words")])], audios
            )

    write_set(folder, made(), name="benchmark", shard_rows=-(-rows // SHARDS))


def naive(folder: Path, skip: int = 0) -> Generator[float, None, None]:
    """Seconds of each row's audio, after it was decoded."""
    import pyarrow.parquet

    from vivavoce.audio.files import read_audio

    shards = sorted(folder.glob("*.parquet"))
    random.Random(0).shuffle(shards)
    count = 0
    for shard in shards:
        rows = pyarrow.parquet.read_table(shard).to_pylist()
        random.Random(0).shuffle(rows)
        for row in rows:
            samples, rate = read_audio(io.BytesIO(row["audios"][0]["bytes"]), RATE)
            count += 1
            if count > skip:
                yield len(samples) / rate


def our_reader(folder: Path, workers: int, world_size: int = 1) -> Any:
    from vivavoce.data.reader import DataSource, Mixing, Reader, Stream

    stream = Stream(DataSource(folder), Mixing(stop="all"), world_size=world_size)
    return Reader(stream, RATE, workers=workers)


def ours(folder: Path, way: str) -> Generator[float, None, None]:
    """Seconds of each row's audio, after it was decoded."""
    if way == "ours, DataLoader of 2":
        from vivavoce.data.reader.torch_rows import RowDataset

        samples = RowDataset(our_reader(folder, 0)).rows(2)
    else:
        samples = iter(our_reader(folder, 2 if way == "ours, 2 threads" else 0))
    for sample in samples:
        yield len(sample.waveforms[0][0]) / RATE


def processor_s() -> float:
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def through(folder: Path, way: str) -> dict[str, float]:
    """Rows from the beginning."""
    began, worked = time.perf_counter(), processor_s()
    rows = naive(folder) if way == "naive" else ours(folder, way)
    seconds = list(islice(rows, MOST_ROWS))
    rows.close()
    took, work = time.perf_counter() - began, processor_s() - worked
    return {
        "rows_per_s": len(seconds) / took,
        "audio_x": sum(seconds) / took,
        "per_core": sum(seconds) / work,
    }


def restart(folder: Path, way: str, state: Path, skip: int) -> None:
    """The first rows after a stop, in this process."""
    if way == "naive":
        rows = list(islice(naive(folder, skip), BATCH))
    else:
        reader = our_reader(folder, 2)
        reader.load_state_dict(json.loads(state.read_text()))
        rows = list(islice(reader, BATCH))
        reader.close()
    assert len(rows) == BATCH


def restarted(folder: Path, way: str, state: Path, skip: int, env: dict[str, str]) -> float:
    began = time.perf_counter()
    command = [sys.executable, __file__, "--restart", way, "--set", str(folder), "--state", str(state)]
    subprocess.run([*command, "--skip", str(skip)], check=True, env=env)
    return time.perf_counter() - began


def one_row_ms(folder: Path, way: str, count: int) -> float:
    """A row anywhere, undecoded, in milliseconds."""
    import pyarrow.parquet

    from vivavoce.data.reader import DataSource

    source, rng = DataSource(folder, memory_mb=1), random.Random(1)
    files, numbers = source.index, [rng.randrange(len(source)) for _ in range(count)]
    began = time.perf_counter()
    for number in numbers:
        if way == "naive":
            shard, row = files.locate(number)
            assert (
                pyarrow.parquet.read_table(folder / files.names[shard]).to_pylist()[row]["id"] == f"r{number}"
            )
        else:
            assert source[number].id == f"r{number}"
    return (time.perf_counter() - began) / count * 1000


def groups_read(folder: Path, world_size: int) -> float:
    """Row groups that one rank reads in a pass, as part of all."""
    reader = our_reader(folder, 0, world_size)
    reader.decode = reader._clips.decode = "none"
    for _ in reader:
        pass
    source = reader.stream.sources[0]
    return source.rows.groups_read / len(source.index.block_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    for name in ("--restart", "--set", "--state", "--skip"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.restart:
        restart(Path(given.set), given.restart, Path(given.state), int(given.skip))
        return
    ways = ["naive", "ours, in place", "ours, 2 threads", "ours, DataLoader of 2"]
    with tempfile.TemporaryDirectory() as scratch:
        folder, state, half = Path(scratch) / "set", Path(scratch) / "state.json", given.rows // 2
        make_set(folder, given.rows)
        source = Path(__file__).parents[1] / "src"
        env = {
            **os.environ,
            "XDG_CACHE_HOME": scratch,
            "PYTHONPATH": os.pathsep.join([str(source), *sys.path]),
        }
        reader = our_reader(folder, 0)
        for place in islice(reader.stream.places(), half):
            reader.stream.done(place.position, "benchmark", "used")
        state.write_text(json.dumps(reader.state_dict()))
        size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
        found: dict[str, Any] = {"rows": given.rows, "mb": size, "ways": {}}
        print(
            f"{given.rows} rows in {SHARDS} shards, {size:.0f} MB; median of {given.rounds} rounds, ways in turn"
        )
        passes = [{way: through(folder, way) for way in ways} for _ in range(given.rounds)]
        stops = [{way: restarted(folder, way, state, half, env) for way in (ways[0], ways[2])}
                 for _ in range(given.rounds)]  # fmt: skip
        print(f"{'way':<24}{'rows/s':>9}{'audio s/s':>11}{'per core':>10}{'restart s':>11}{'one row ms':>12}")
        for way in ways:
            row = {key: statistics.median(p[way][key] for p in passes) for key in passes[0][way]}
            line = f"{way:<24}{row['rows_per_s']:>9.0f}{row['audio_x']:>11.0f}{row['per_core']:>10.0f}"
            if way in stops[0]:
                row["restart_s"] = statistics.median(s[way] for s in stops)
                row["one_row_ms"] = one_row_ms(folder, way, 100)
                line += f"{row['restart_s']:>11.2f}{row['one_row_ms']:>12.1f}"
            found["ways"][way] = row
            print(line)
        found["groups"] = {n: groups_read(folder, n) for n in (1, 2, 8)}
        parts = ", ".join(f"{part:.2f} of {n}" for n, part in found["groups"].items())
        print(f"row groups that one rank reads in a pass: {parts} ranks (aims: restart < {AIM_RESTART_S:g} s, "
              f"{AIM_PER_CORE:g} s of audio per second and core)")  # fmt: skip
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
