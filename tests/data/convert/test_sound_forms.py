"""Forms that hold the sound itself: Moshi's stereo files, WebDataset shards, folders of recordings."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.convert.cases import (
    RATE,
    asked,
    chat,
    check_ours,
    clip,
    faults,
    make_clips,
    read_lines,
    rows,
    tone,
    write_lines,
)

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import convert, detect_format, get_format
from vivavoce.data.convert.contract import Options
from vivavoce.data.convert.sounds import read_channels
from vivavoce.data.recordings import read_waveform

# Moshi


def moshi(folder: Path, rate: int = 24_000) -> Path:
    """Two stereo files as moshi-finetune has them."""
    stereo = folder / "data_stereo"
    stereo.mkdir(parents=True)
    lines = []
    for name, seconds in (("a", 1.0), ("b", 0.5)):
        waves = np.stack([tone(seconds, 300, rate), tone(seconds, 500, rate)])
        write_audio(stereo / f"{name}.wav", waves, rate)
        words = {
            "alignments": [["hello", [0.1, 0.25], "SPEAKER_MAIN"], ["there.", [0.3, 0.42], "SPEAKER_MAIN"]]
        }
        (stereo / f"{name}.json").write_text(json.dumps(words))
        lines.append({"path": f"data_stereo/{name}.wav", "duration": seconds})
    return write_lines(folder / "set.jsonl", lines)


def test_moshi_comes_back_whole(tmp_path: Path) -> None:
    source = moshi(tmp_path)
    done = convert(source, tmp_path / "out/o.jsonl", to="moshi")
    assert done.source_format == "moshi" and not done.num_faults and not done.written.dropped
    again = read_lines(tmp_path / "out/o.jsonl")
    assert [r["path"] for r in again] == ["o_stereo/data_stereo_a.wav", "o_stereo/data_stereo_b.wav"]
    for ours, theirs in zip(again, read_lines(source), strict=True):
        assert ours["duration"] == theirs["duration"]
        first, second = (tmp_path / "out" / ours["path"]), tmp_path / theirs["path"]
        np.testing.assert_array_equal(*(read_channels(p.read_bytes())[0] for p in (first, second)))
        assert json.loads(first.with_suffix(".json").read_text()) == json.loads(
            second.with_suffix(".json").read_text()
        )


def test_moshi_tracks_are_the_right_way_round(tmp_path: Path) -> None:
    first, _ = rows(list(get_format("moshi").read(moshi(tmp_path))))
    assert first.task == "duplex" and [m.role for m in first.messages] == ["user", "assistant"]
    user, model = (read_waveform(p, first)[0] for p in first.audio_parts())
    np.testing.assert_array_equal(model, tone(1.0, 300, 24_000))  # the left channel
    np.testing.assert_array_equal(user, tone(1.0, 500, 24_000))
    part = first.messages[1].audios[0]
    assert part.words == [("hello", 0.1, 0.25), ("there.", 0.3, 0.42)] and part.transcript == "hello there."
    assert first.messages[0].more == {"time": [0.0, 1.0]} and first.messages[0].audios[0].words is None


def turns() -> Conversation:
    """A spoken dialogue with times."""
    asks = Audio(
        "clips/a.wav", transcript="what is it", speaker="s1", language="en", labels={"emotion": "happy"}
    )
    says = Audio("clips/c.wav", transcript="rain", words=[("rain", 0.1, 0.4)], speaker="v1")
    again = Audio("clips/b.wav", transcript="oh", words=[("oh", 0.05, 0.2)])
    return Conversation(
        "d.1",
        [
            Message("user", [asks], None, {"time": [0.25, 0.75]}),
            Message("assistant", [says], None, {"time": [0.625, 1.375]}),
            Message("user", [again], None, {"time": [1.25, 1.5]}),
        ],
    )


def test_ours_to_moshi_and_back(tmp_path: Path) -> None:
    done = check_ours(get_format("moshi"), turns(), tmp_path / "o.jsonl", make_clips(tmp_path))
    assert not done.dropped
    [line] = read_lines(tmp_path / "o.jsonl")
    waves, rate = read_channels((tmp_path / line["path"]).read_bytes())
    assert (rate, waves.shape, line["duration"]) == (RATE, (2, 12_000), 1.5)
    np.testing.assert_array_equal(waves[0, 5000:11_000], tone(0.75, 700))
    np.testing.assert_array_equal(waves[1, 2000:6000], tone(0.5, 300))
    assert not waves[0, :5000].any() and not waves[1, 6000:10_000].any()
    words = json.loads((tmp_path / line["path"]).with_suffix(".json").read_text())["alignments"]
    assert words == [["rain", [0.725, 1.025], "SPEAKER_MAIN"], ["oh", [1.3, 1.45], "SPEAKER_USER"]]


def test_turns_without_times_follow_each_other(tmp_path: Path) -> None:
    row = turns()
    for message in row.messages:
        message.more = {}
    get_format("moshi").write([row], tmp_path / "o.jsonl", Options(audio_root=make_clips(tmp_path)))
    [again] = rows(list(get_format("moshi").read(tmp_path / "o.jsonl")))
    assert [m.more["time"] for m in again.messages] == [[0.0, 0.5], [0.74, 1.49], [1.73, 1.98]]


def test_what_moshi_has_no_room_for_is_said(tmp_path: Path) -> None:
    make_clips(tmp_path)
    silent, overlapping = turns(), turns()
    silent.messages[1].audios[0].words = None
    overlapping.messages[2].more = {"time": [0.5, 0.75]}
    user_only = Conversation("u", turns().messages[:1])
    done = get_format("moshi").write(
        [silent, overlapping, user_only, chat(), asked(), turns()],
        tmp_path / "o.jsonl",
        Options(audio_root=tmp_path),
    )
    assert done.rows == 1 and done.left_out == {
        "a reply without times of words; align it first": 1,
        "two turns of one speaker at the same time": 1,
        "no reply": 1,
        "a message that is neither the user's nor the assistant's": 1,
        "a turn that is not one recording": 1,
    }
    assert sorted(p.name for p in (tmp_path / "o_stereo").iterdir()) == ["d.1.json", "d.1.wav"]


def test_bad_moshi_rows_are_faults(tmp_path: Path) -> None:
    source = moshi(tmp_path)
    write_audio(tmp_path / "mono.wav", tone(0.5, 300), RATE)
    (tmp_path / "data_stereo/b.json").write_text('{"alignments": [["x", 0.1, "SPEAKER_MAIN"]]}')
    write_audio(tmp_path / "bare.wav", np.stack([tone(0.1, 300)] * 2), RATE)
    lines = read_lines(source) + [
        {"path": p, "duration": 1} for p in ("mono.wav", "no.wav", "bare.wav", "https://x/y.wav")
    ]
    found = list(get_format("moshi").read(write_lines(source, lines)))
    assert [f.kind for f in faults(found)] == [
        "malformed",
        "channels",
        "missing audio",
        "no words",
        "network address",
    ]
    assert [r.id for r in rows(found)] == ["data_stereo/a"]


# WebDataset


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as opened:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return path


def tar_files(path: Path) -> list[tuple[str, Any]]:
    with tarfile.open(path) as opened:
        found = [(m.name, opened.extractfile(m).read()) for m in opened]  # type: ignore[union-attr]
    return sorted((name, json.loads(data) if name.endswith(".json") else data) for name, data in found)


def members(folder: Path) -> list[tuple[str, bytes]]:
    return [
        ("0001.flac", (folder / "clips/d.flac").read_bytes()),
        ("0001.txt", "Hà Nội".encode()),
        ("0001.json", json.dumps({"speaker": "s1", "snr": 20.5}).encode()),
        ("sub/0002.txt", b"two"),
        ("sub/0002.wav", (folder / "clips/a.wav").read_bytes()),
        ("0003.json", json.dumps({"text": "three", "language": "en"}).encode()),
        ("0003.wav", (folder / "clips/b.wav").read_bytes()),
    ]


def test_webdataset_comes_back_whole(tmp_path: Path) -> None:
    source = tar(make_clips(tmp_path) / "in.tar", members(tmp_path))
    done = convert(source, tmp_path / "o.tar", to="webdataset")
    assert done.source_format == "webdataset" and not done.written.dropped and not done.num_faults
    again = dict(tar_files(tmp_path / "o.tar"))
    assert {k: v for k, v in again.items() if not k.startswith("0003")} == {
        k: v for k, v in tar_files(source) if not k.startswith("0003")
    }
    assert again["0003.txt"] == b"three" and again["0003.json"] == {"language": "en"}, (
        "the text has one place"
    )
    first, second, third = rows(list(get_format("webdataset").read(source)))
    assert [r.messages[0].audios[0].transcript for r in (first, second, third)] == ["Hà Nội", "two", "three"]
    assert first.messages[0].audios[0].speaker == "s1" and first.meta == {
        "webdataset": {"speaker": "s1", "snr": 20.5}
    }


@pytest.mark.parametrize("name", ["o.tar", "out"])
@pytest.mark.parametrize("make", [chat, clip, asked])
def test_ours_to_webdataset_and_back(tmp_path: Path, name: str, make: Any) -> None:
    done = check_ours(get_format("webdataset"), make(), tmp_path / name, make_clips(tmp_path))
    assert not done.dropped


def test_shards_are_split_and_joined(tmp_path: Path) -> None:
    many = [clip(i, start_s=0.0, end_s=None, words=None, labels={}) for i in range(5)]
    get_format("webdataset").write(
        many, tmp_path / "out", Options(audio_root=make_clips(tmp_path), shard_rows=2)
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000000.tar", "000001.tar", "000002.tar"]
    assert [n for n, _ in tar_files(tmp_path / "out/000002.tar")] == [
        "clip-4.json",
        "clip-4.txt",
        "clip-4.wav",
    ]
    assert [r.id for r in rows(list(get_format("webdataset").read(tmp_path / "out")))] == [
        f"clip-{i}" for i in range(5)
    ]
    assert detect_format(tmp_path / "out") == "webdataset"


def test_ids_that_are_no_file_names_stay_ids(tmp_path: Path) -> None:
    odd = ["../up", "a/b.c", "a_b_c", "Hà", "a/b", "/x"]
    made = [clip(start_s=0.0, end_s=None, words=None, labels={}) for _ in odd]
    for row, name in zip(made, odd, strict=True):
        row.id = name
    get_format("webdataset").write(made, tmp_path / "o.tar", Options(audio_root=make_clips(tmp_path)))
    assert [r.id for r in rows(list(get_format("webdataset").read(tmp_path / "o.tar")))] == odd
    assert not any(".." in n or n.startswith("/") for n, _ in tar_files(tmp_path / "o.tar"))


def test_bad_archives_give_what_is_whole(tmp_path: Path) -> None:
    good = members(make_clips(tmp_path))
    evil = [
        ("../x.wav", b"1"),
        ("/etc/y.wav", b"2"),
        ("0004.txt", b"x"),
        ("0005.wav", b"z"),
        ("0005.json", b"{"),
    ]
    found = list(get_format("webdataset").read(tar(tmp_path / "in.tar", good[:3] + evil + good[3:5])))
    assert [r.id for r in rows(found)] == ["0001", "sub/0002"]
    assert [f.kind for f in faults(found)] == ["outside", "outside", "no sound", "json"]
    twice = [("1.wav", good[0][1]), ("1.wav", good[0][1]), ("2.txt", b"x"), ("2.wav", good[0][1])]
    found = rows(list(get_format("webdataset").read(tar(tmp_path / "twice.tar", twice))))
    assert [r.id for r in found] == ["1", "1", "2"], "a second file of the same name begins a row"
    link = tarfile.TarInfo("0009.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "link.tar", "w") as opened:
        opened.addfile(link)
    assert [f.kind for f in faults(list(get_format("webdataset").read(tmp_path / "link.tar")))] == ["cut off"]
    whole = tar(tmp_path / "w.tar", good)
    ends = len(whole.read_bytes().rstrip(b"\0")) // 512 * 512 + 512
    for size in (4_000, 6_000, 9_000, ends):
        (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:size])
        found = list(get_format("webdataset").read(tmp_path / "cut.tar"))
        assert "cut off" in [f.kind for f in faults(found)]
    (tmp_path / "no.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match="no readable tar"):
        list(get_format("webdataset").read(tmp_path / "no.tar"))


# folders


def test_folders_are_read_in_every_way(tmp_path: Path) -> None:
    folder = make_clips(tmp_path / "in")
    (folder / "clips/a.txt").write_text("one\n")
    (folder / "clips/b.lab").write_text("two")
    (folder / "clips/x.trans.txt").write_text("c THREE\n")
    write_lines(
        folder / "metadata.jsonl",
        [{"file_name": "clips/d.flac", "transcription": "four", "speaker_id": 7, "x": 1}],
    )
    found = rows(list(get_format("folder").read(folder)))
    said = {r.id: r.messages[0].audios[0].transcript for r in found}
    assert said == {
        "clips/a.wav": "one",
        "clips/b.wav": "two",
        "clips/c.wav": "THREE",
        "clips/d.flac": "four",
    }
    assert found[3].messages[0].audios[0].speaker == "7" and found[3].meta == {"folder": {"x": 1}}
    assert detect_format(folder) == "folder"
    done = convert(folder, tmp_path / "o.jsonl")
    assert done.written.rows == 4
    assert read_lines(tmp_path / "o.jsonl")[0]["messages"][0]["content"][0]["audio"] == "in/clips/a.wav"


def test_ljspeech_and_lists_of_missing_files(tmp_path: Path) -> None:
    make_clips(tmp_path)
    folder = tmp_path / "clips"
    (folder / "metadata.csv").write_text('a|Dr. "A"|Doctor "A"\nb|bee\nzz.wav|gone|gone\nbroken\n')
    found = list(get_format("folder").read(folder))
    assert {r.id: r.messages[0].audios[0].transcript for r in rows(found)} == {
        "a.wav": 'Doctor "A"', "b.wav": "bee", "c.wav": None, "d.flac": None,
    }  # fmt: skip
    assert [f.kind for f in faults(found)] == ["malformed", "missing audio"]
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "metadata.csv").unlink()
    assert [f.kind for f in faults(list(get_format("folder").read(folder)))] == ["encoding"]


def test_folders_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="read, not written"):
        get_format("folder").write([Conversation("x", [Message("user", [Text("hi")])])], tmp_path / "o")
