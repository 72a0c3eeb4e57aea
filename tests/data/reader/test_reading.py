"""Readers: right waveforms in order, exact resumption by what was taken, bounded memory, faults with names."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.reader.sets import RATE, flac, lines, row, sound_set, text_row, text_set, waveform

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError
from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.data.manifest import write_set
from vivavoce.data.reader import DataSource, Filters, Mixing, Reader, Sample, Stream, reading
from vivavoce.data.recordings import read_waveform

ONCE = Mixing(stop="all")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("sets") / "sound", 40)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every fifth cannot be decoded and every seventh cannot be read."""
    rows = [row(i) for i in range(40)]
    for i in range(0, 40, 5):
        rows[i].audios = [{"bytes": flac(i)[:90], "path": "cut.flac"}]
    for one in rows:
        data, one.audios = one.audios[0]["bytes"], []
        one.messages[0].parts[0].audio = data_uri(data)  # type: ignore[union-attr]
    path = lines(tmp_path_factory.mktemp("sets") / "broken.jsonl", rows)
    text = path.read_text().split("\n")
    text[::7] = [line[:40] for line in text[::7]]
    path.write_text("\n".join(text))
    return path


def data_uri(data: bytes) -> str:
    return f"data:audio/flac;base64,{base64.b64encode(data).decode()}"


def reader(
    path: Path, mixing: Mixing = ONCE, *, world_size: int = 1, rank: int = 0, **options: Any
) -> Reader:
    source = DataSource(path, cache=None)
    return Reader(Stream(source, mixing, seed=4, world_size=world_size, rank=rank, window_rows=16), **options)


def key(sample: Sample) -> tuple[Any, ...]:
    sounds = [None if w is None else (w[0].tobytes(), w[1]) for w in sample.waveforms]
    return sample.place, sample.source, sample.seed, json.dumps(sample.row.row()), tuple(sounds)


@pytest.mark.parametrize("workers", [0, 3])
def test_waveforms_are_those_of_the_rows_in_the_streams_order(sound: Path, workers: int) -> None:
    found = list(reader(sound, workers=workers))
    assert [s.place for s in found] == list(reader(sound).stream.places())
    for sample in found:
        assert len(sample.waveforms) == 1 and sample.waveforms[0] is not None
        samples, rate = sample.waveforms[0]
        assert rate == RATE and samples.dtype == np.float32
        assert np.array_equal(samples, waveform(int(sample.row.id[1:])))
        assert sample.row.audios == [{"path": f"{sample.row.id[1:]}.flac"}]
    assert len({s.seed for s in found}) == 40
    kept = next(iter(reader(sound, workers=workers, keep_bytes=True)))
    assert kept.row.audios[0]["bytes"] == flac(int(kept.row.id[1:]))


def test_processes_give_what_threads_give(sound: Path) -> None:
    threads = [key(s) for s in reader(sound, sample_rate=16_000, workers=1)]
    assert [key(s) for s in reader(sound, sample_rate=16_000, workers=1, pool="process")] == threads
    assert len(threads[0][4][0][0]) == 2 * 400 * 4


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=4),
    st.sampled_from([0, 2]),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_resumed_is_never_stopped(
    sound: Path, broken: Path, stops: list[int], workers: int, world_size: int, whole: bool
) -> None:
    """What was decoded ahead is not counted; bad rows are counted once."""
    path, options = (
        (sound if whole else broken),
        {"workers": workers, "rank": world_size - 1, "world_size": world_size},
    )
    through = reader(path, **options)
    wanted = [key(s) for s in through]
    now, found = reader(path, **options), []
    for count in stops:
        found += [key(s) for s in islice(now, count)]
        state = json.loads(json.dumps(now.state_dict()))
        now = reader(path, **options)
        now.load_state_dict(state)
    assert found + [key(s) for s in now] == wanted
    assert now.totals() == through.totals()


def test_stopping_a_loop_and_going_on(sound: Path) -> None:
    wanted = [s.row.id for s in reader(sound)]
    now, found = reader(sound), []
    for _ in range(3):
        for sample in now:
            found.append(sample.row.id)
            if len(found) % 7 == 0:
                break
    assert found + [s.row.id for s in now] == wanted
    assert list(now) == []


def test_rows_that_are_not_confirmed_come_again(sound: Path) -> None:
    now = reader(sound, confirm=True)
    held = list(islice(now, 10))
    for sample in held[::2]:  # a packer used every second row
        now.done(sample)
    state = now.state_dict()
    again = reader(sound, confirm=True)
    again.load_state_dict(state)
    rest = list(again)
    assert [s.place for s in rest[:5]] == [s.place for s in held[1::2]]
    assert len(rest) == 35 and not {s.row.id for s in rest} & {s.row.id for s in held[::2]}


def test_rows_that_cannot_be_read_are_counted_with_names(broken: Path) -> None:
    now = reader(broken)
    used = [s.row.id for s in now]
    bad_rows, bad_sounds = {*range(0, 40, 7)}, {*range(0, 40, 5)} - {*range(0, 40, 7)}
    assert sorted(used) == sorted(f"r{i}" for i in range(40) if i not in bad_rows | bad_sounds)
    counts = {"used": 28, "unreadable row": len(bad_rows), "unreadable recording": len(bad_sounds)}
    assert now.totals() == {"broken.jsonl": counts}
    assert any("row 7 of broken.jsonl" in fault for fault in now.faults)


@pytest.mark.parametrize("workers", [0, 2])
def test_raising_comes_after_the_rows_before_and_names_the_row(broken: Path, workers: int) -> None:
    wanted = []
    skipping = reader(broken, workers=0)
    for outcome in skipping.outcomes():
        if not isinstance(outcome, Sample):
            bad = outcome
            break
        wanted.append(outcome.row.id)
    now, found = reader(broken, workers=workers, on_fault="raise"), []
    with pytest.raises(DataError, match=r"row \d+ of broken.jsonl") as caught:
        for sample in now:
            found.append(sample.row.id)
    assert found == wanted and bad.detail in str(caught.value)
    assert now.stream.progress.next == bad.place.position  # it is not counted as done


def test_what_a_bug_raises_names_the_row_too(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(clips: object, rate: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(reading, "decode", fail)
    for workers in (0, 2):
        with pytest.raises(ZeroDivisionError) as caught:
            next(iter(reader(sound, workers=workers)))
        assert any("'r" in note and "data-000" in note for note in caught.value.__notes__)


def test_a_missing_program_is_an_error_and_not_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    path = lines(tmp_path / "a.jsonl", [Conversation("x", [Message("user", [Audio("a.m4a")])])])
    monkeypatch.setenv("PATH", "")
    for workers in (0, 1):
        with pytest.raises(MissingExtraError, match=r"(row 0 of a.jsonl|'x').*ffmpeg"):
            list(reader(path, workers=workers))


def test_filters_count_what_they_leave_out(tmp_path: Path) -> None:
    rows = [row(i) for i in range(12)] + [text_row(0), text_row(1)]
    for i, samples in ((1, 8000), (2, 80)):
        rows[i].audios[0]["bytes"] = flac(i, samples)
    rows[3].messages[0].parts[0].end_s = 0.001  # type: ignore[union-attr]
    rows[4].messages[1].parts[0].text = "x" * 500  # type: ignore[union-attr]
    rows[5].messages[1].parts = []
    rows[6].messages[0].parts[0].tokens = {"codec": "c", "ids": [1] * 30}  # type: ignore[union-attr]
    write_set(tmp_path / "set", rows)
    filters = Filters(
        min_audio_s=0.02, max_audio_s=0.5, max_characters=300, max_audio_tokens=20, needs_audio=True, needs_answer=True,
        keep=lambda row: row.id != "r7",
    )  # fmt: skip
    for workers in (0, 2):
        now = reader(tmp_path / "set", filters=filters, workers=workers)
        assert sorted(s.row.id for s in now) == ["r0", "r10", "r11", "r8", "r9"]
        assert now.totals()["set"] == {
            "used": 5, "too much audio": 1, "too little audio": 2, "too many characters": 1, "no answer": 1,
            "too many audio tokens": 1, "no audio": 2, "left out by rule": 1,
        }  # fmt: skip
    clip = reader(tmp_path / "set", filters=Filters(max_clip_s=0.5))
    assert len(list(clip)) == 13 and clip.totals()["set"]["recording too long"] == 1
    with pytest.raises(ConfigError, match="max_clip_s is -1"):
        Filters(max_clip_s=-1)


def test_a_length_that_only_decoding_tells_is_filtered_too(tmp_path: Path) -> None:
    rows = [row(0), row(1)]
    data = bytearray(flac(1, 8000))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples, as in a FLAC that was written to a pipe
    rows[1].audios[0]["bytes"] = bytes(data)
    write_set(tmp_path / "set", rows)
    now = reader(tmp_path / "set", filters=Filters(max_audio_s=0.5))
    assert [s.row.id for s in now] == ["r0"] and now.totals()["set"]["too much audio"] == 1


def test_a_stream_of_nothing_but_bad_rows_ends_in_an_error(sound: Path) -> None:
    never = Filters(keep=lambda row: False)
    with pytest.raises(DataError, match=r"100 rows in a row.*left out by rule \(100\)"):
        next(iter(reader(sound, Mixing(), filters=never, patience=100)))


def test_which_recordings_are_decoded(sound: Path, tmp_path: Path) -> None:
    assert all(s.waveforms == [None] for s in reader(sound, decode="none"))
    rows = [row(i) for i in range(4)]
    rows[0].messages[0].parts[0].tokens = {"codec": "c", "ids": [1]}  # type: ignore[union-attr]
    write_set(tmp_path / "set", rows)
    found = {s.row.id: s.waveforms[0] is None for s in reader(tmp_path / "set", decode="untokenized")}
    assert found == {"r0": True, "r1": False, "r2": False, "r3": False}
    assert [s.waveforms for s in reader(text_set(tmp_path / "text", 3))] == [[], [], []]


def test_recordings_beside_rows_are_found_wherever_they_are(tmp_path: Path) -> None:
    """Paths, cuts of long files, members of archives: what `read_waveform` gives."""
    soundfile.write(tmp_path / "long.wav", waveform(1, 24_000), RATE, subtype="PCM_16")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(3):
            info = tarfile.TarInfo(f"in/{i}.flac")
            info.size = len(flac(i))
            tar.addfile(info, io.BytesIO(flac(i)))
    named: list[Audio] = [
        Audio("long.wav"), Audio("long.wav", 1.0, 1.5), Audio({"path": "long.wav"}, 2.0), Audio("a.tar::in/2.flac"),
        Audio(data_uri(flac(5))),
    ]  # fmt: skip
    rows = [Conversation(f"x{i}", [Message("user", [part])]) for i, part in enumerate(named)]
    rows.append(Conversation("gone", [Message("user", [Audio("a.tar::in/9.flac")])]))
    now = reader(lines(tmp_path / "a.jsonl", rows), sample_rate=16_000)
    found = {s.row.id: s.waveforms[0] for s in now}
    for one in rows[:-1]:
        wanted, _ = read_waveform(next(one.audio_parts()), one, 16_000, tmp_path)
        assert np.array_equal(found[one.id][0], wanted)  # type: ignore[index]
    assert "no member 'in/9.flac'" in now.faults[0]


@pytest.mark.parametrize("limits", [{"ahead_rows": 3, "ahead_s": 1e9}, {"ahead_rows": 99, "ahead_s": 0.15}])
def test_no_more_is_decoded_ahead_than_was_allowed(
    sound: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    """Rows are 0.05 s long, so both limits are three rows."""
    decoded, plain = [0], reading.decode

    def counted(*args: Any) -> Any:
        decoded[0] += 1
        return plain(*args)

    monkeypatch.setattr(reading, "decode", counted)
    for taken, _ in enumerate(reader(sound, workers=2, **limits), 1):
        if taken in (1, 8):
            time.sleep(0.05)
        assert decoded[0] <= taken + 3
    one = reader(sound, workers=1, ahead_s=1e-6)  # a row longer than that goes alone
    assert len(list(one)) == 40


def test_nothing_is_left_behind(sound: Path) -> None:
    before = threading.active_count()
    for end in range(3):
        now = reader(sound, workers=3)
        rows = iter(now)
        next(rows)
        assert threading.active_count() > before
        if end == 0:
            rows.close()
        elif end == 1:
            now.close()
            assert list(rows) == []
        else:
            list(rows)
        assert threading.active_count() == before
    with reader(sound, workers=2) as now:
        next(iter(now))
    del now
    assert threading.active_count() == before


def test_a_reader_that_nobody_closes_does_not_keep_the_program(sound: Path) -> None:
    import subprocess
    import sys

    code = (
        "from vivavoce.data.reader import *\n"
        f"rows = iter(Reader(Stream(DataSource({str(sound)!r}, cache=None)), ahead_rows=2))\nnext(rows)\nprint('read')"
    )
    environment = {**os.environ, "PYTHONPATH": "src"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"pool is 'fibre'.*workers is -1"):
        Reader(None, pool="fibre", workers=-1)  # type: ignore[arg-type]
