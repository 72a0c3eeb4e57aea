"""Manifests of recordings: NeMo, SALMONN, trajectories, Lhotse and Shar, both ways."""

from __future__ import annotations

import base64
import gzip
import io
import itertools
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
from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import convert, detect_format, get_format
from vivavoce.data.convert.contract import Options
from vivavoce.data.recordings import read_waveform

NEMO = [
    {"audio_filepath": "clips/a.wav", "duration": 0.5, "text": "one two", "lang": "en", "speaker": "s1", "pnc": "yes"},
    {"audio_filepath": "clips/c.wav", "offset": 0.25, "duration": 0.5, "text": "three"},
    {"audio_filepath": "clips/a.wav", "duration": 0.5, "context": "What is it?", "answer": "A tone.", "text": "beep"},
    {
        "audio_filepath": "clips/d.flac", "duration": 0.5, "text": "eins", "source_lang": "en", "target_lang": "de",
        "taskname": "s2t_translation",
    },
    {"id": "unlabelled", "audio_filepath": "clips/b.wav", "duration": 0.25},
]  # fmt: skip


@pytest.mark.parametrize("name", ["o.jsonl", "o.json", "o.jsonl.gz"])
def test_nemo_comes_back_whole(tmp_path: Path, name: str) -> None:
    source = write_lines(make_clips(tmp_path) / "in.json", NEMO)
    done = convert(source, tmp_path / name, to="nemo")
    assert done.source_format == "nemo" and not done.num_faults and not done.written.dropped
    assert read_lines(tmp_path / name) == NEMO, "lines, even in a file called .json"


def test_nemo_is_understood(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "in.jsonl", NEMO)
    plain, cut, question, translation, bare = rows(list(get_format("nemo").read(source)))
    assert plain.messages[0].audios[0].transcript == "one two" and plain.task == "asr"
    assert (cut.messages[0].audios[0].start_s, cut.messages[0].audios[0].end_s) == (0.25, 0.75)
    assert question.messages[0].text == "What is it?" and question.messages[1].text == "A tone."
    assert translation.task == "translate" and translation.messages[0].audios[0].transcript is None
    assert bare.id == "unlabelled" and bare.messages[0].audios[0].transcript is None


@pytest.mark.parametrize("make", [clip, asked])
def test_ours_to_nemo_and_back(tmp_path: Path, make: Any) -> None:
    row = make()
    row.task = "chat" if make is asked else "asr"
    done = check_ours(get_format("nemo"), row, tmp_path / "o.jsonl", make_clips(tmp_path))
    assert set(done.dropped) == ({"words", "labels"} if make is clip else set())


def test_a_question_after_its_recording_moves_before_it(tmp_path: Path) -> None:
    row = asked(task="chat")
    row.messages[0].parts.append(Text("Answer briefly."))
    done = check_ours(get_format("nemo"), row, tmp_path / "o.jsonl", make_clips(tmp_path))
    assert set(done.dropped) == {"part order"}


def test_a_chat_becomes_its_recordings(tmp_path: Path) -> None:
    typed = Conversation("t", [Message("user", [Text("hi")])])
    done = get_format("nemo").write(
        [chat(), typed], tmp_path / "o.jsonl", Options(audio_root=make_clips(tmp_path))
    )
    assert (done.rows, done.entries, done.left_out) == (1, 3, {"no recording": 1})
    assert {"roles", "typed text", "tools", "loss numbers"} <= set(done.dropped)
    assert [r["id"] for r in read_lines(tmp_path / "o.jsonl")] == ["r1-0", "r1-1", "r1-2"]


SALMONN = {
    "annotation": [
        {"path": "clips/a.wav", "text": "one two", "task": "asr"},
        {
            "path": "clips/a.wav",
            "expand_wav": ["clips/b.wav"],
            "text": "Calm, then high.",
            "task": "emotion_recognition",
        },
        {"path": "clips/d.flac", "text": "A tone.", "task": "QA", "Q": "What is heard?", "testset_id": 3},
        {"path": "clips/c.wav", "text": "eins", "task": "translation_ec"},
    ]
}


def test_salmonn_comes_back_whole(tmp_path: Path) -> None:
    source = make_clips(tmp_path) / "train.json"
    source.write_text(json.dumps(SALMONN, indent=1))
    done = convert(source, tmp_path / "o.json", to="salmonn")
    assert done.source_format == "salmonn" and not done.written.dropped
    assert json.loads((tmp_path / "o.json").read_text()) == SALMONN
    first, joined, question, translation = rows(list(get_format("salmonn").read(source)))
    assert first.messages[0].audios[0].transcript == "one two" and len(first.messages) == 1
    assert len(joined.messages[0].audios) == 2
    assert question.messages[0].text == "What is heard?" and translation.task == "translate"


def test_ours_to_salmonn_and_back(tmp_path: Path) -> None:
    row = asked(task="chat")
    row.messages[0].parts.insert(0, Text("What is heard?"))
    row.id = "0"
    done = check_ours(get_format("salmonn"), row, tmp_path / "a.json", make_clips(tmp_path))
    assert {"part order", "language", "speaker", "user transcripts"} <= set(done.dropped)
    asr = clip(words=None, labels={}, language=None, speaker=None)
    asr.id = "0"
    assert set(check_ours(get_format("salmonn"), asr, tmp_path / "b.json", tmp_path).dropped) == {"spans"}


def test_salmonn_has_no_room_for_chats(tmp_path: Path) -> None:
    make_clips(tmp_path)
    typed = Conversation("t", [Message("user", [Text("hi")]), Message("assistant", [Text("ho")])])
    between = asked()
    between.messages[0].parts += [Text("and"), Audio("clips/b.wav")]
    done = get_format("salmonn").write(
        [chat(), typed, between, asked()], tmp_path / "o.json", Options(audio_root=tmp_path)
    )
    assert done.rows == 1 and sum(done.left_out.values()) == 3 and len(done.left_out) == 3


HUMDIAL = [
    {
        "dialogue_id": "en_0001_0001",
        "turns": [
            {
                "turn_id": 1,
                "text": "I won! [laughter]",
                "emotion": "happy",
                "split_audio_file": "clips/a.wav",
                "response_txt": "Great!",
            },
            {
                "turn_id": 2,
                "text": "But it broke.",
                "emotion": "sad",
                "split_audio_file": "clips/b.wav",
                "response_txt": "Oh.",
            },
            {
                "turn_id": 3,
                "text": "How did I feel?",
                "emotion": "neutral",
                "split_audio_file": "clips/c.wav",
                "response_txt": "You were happy, then sad.",
            },
        ],
    }
]
LINES = [
    {
        "dialogue_id": "zh_0102_0001",
        "task": "task1_emotional_trajectory",
        "input_text": "我赢了\n太好了\n坏了\n哦\n我怎么了\n请描述情绪。",
        "target_text": "你先高兴后难过。",
        "audio_files": ["clips/a.wav", "clips/b.wav", "clips/c.wav"],
        "emotion_sequence": ["happy", "sad", "neutral"],
    }
]


@pytest.mark.parametrize(("variant", "theirs"), [("turns", HUMDIAL), ("lines", LINES)])
def test_trajectories_come_back_whole(tmp_path: Path, variant: str, theirs: list[Any]) -> None:
    make_clips(tmp_path)
    source = tmp_path / "in.json"
    source.write_text(json.dumps(theirs, ensure_ascii=False), encoding="utf-8")
    done = convert(source, tmp_path / "o.json", to="trajectory", options={"variant": variant})
    assert done.source_format == "trajectory" and not done.num_faults
    assert json.loads((tmp_path / "o.json").read_text(encoding="utf-8")) == theirs
    [row] = rows(list(get_format("trajectory").read(source)))
    assert [p.labels["emotion"] for p in row.audio_parts()] == ["happy", "sad", "neutral"]
    assert [m.role for m in row.messages] == ["user", "assistant"] * 3 and row.task == "trajectory"
    assert [m.loss for m in row.messages if m.role == "assistant"] == [0.0, 0.0, None]


def test_ours_to_trajectory_and_back(tmp_path: Path) -> None:
    make_clips(tmp_path)
    source = write_lines(tmp_path / "in.jsonl", HUMDIAL)
    [row] = rows(list(get_format("trajectory").read(source)))
    row.messages[0].audios[0].words = [("I", 0.0, 0.1)]
    row.messages[-1].parts = [Text("You were happy, then sad.\nEmotion sequence: happy -> sad -> neutral")]
    read = list(get_format("trajectory").read(_written("trajectory", row, tmp_path / "o.jsonl", tmp_path)))
    row.messages[0].audios[0].words = None
    row.messages[-1].parts = [Text("You were happy, then sad.")]
    assert [r.row() for r in rows(read)] == [row.row()]


@pytest.mark.parametrize("task", ["trajectory", "empathy", "chat"])
def test_other_dialogues_to_trajectory_and_back(tmp_path: Path, task: str) -> None:
    row = chat(task=task)
    del row.messages[2:4], row.messages[0]
    row.messages[0].parts.pop(0)
    done = check_ours(get_format("trajectory"), row, tmp_path / "o.jsonl", make_clips(tmp_path))
    assert {"labels", "words", "speaker", "spans", "loss numbers", "meta"} <= set(done.dropped)
    assert ("task" in done.dropped) == (task == "chat")


def _written(form: str, row: Conversation, path: Path, root: Path) -> Path:
    done = get_format(form).write([row], path, Options(audio_root=root))
    assert done.rows == 1
    return path


def test_broken_dialogues_are_faults(tmp_path: Path) -> None:
    make_clips(tmp_path)
    bad = json.loads(json.dumps(HUMDIAL[0])) | {"dialogue_id": "x"}
    bad["turns"][1]["turn_id"] = 1
    lost = json.loads(json.dumps(HUMDIAL[0])) | {"dialogue_id": "y"}
    lost["turns"][0]["split_audio_file"] = "clips/none.wav"
    source = tmp_path / "task1_3.jsonl"
    source.write_text("\n".join([json.dumps(HUMDIAL[0]), json.dumps(bad), "{", json.dumps(lost)]))
    found = list(get_format("trajectory").read(source))
    assert [f.kind for f in faults(found)] == ["turn numbers", "broken JSON", "missing audio"]
    assert [f.row for f in faults(found)] == [1, 2, 3]


# Lhotse


def recording(name: str, path: str, samples: int, **known: Any) -> dict[str, Any]:
    source = {"type": "file", "channels": [0], "source": path}
    made = {
        "id": name,
        "sources": [source],
        "sampling_rate": RATE,
        "num_samples": samples,
        "duration": samples / RATE,
    }
    return made | known


CUTS: list[dict[str, Any]] = [
    {
        "id": "cut-1", "start": 0.25, "duration": 0.5, "channel": 0,
        "supervisions": [
            {
                "id": "sup-1", "recording_id": "rec-c", "start": 0.0, "duration": 0.5, "channel": 0, "text": "one two",
                "language": "English", "speaker": "s1", "gender": "female", "custom": {"snr": 21.5},
                "alignment": {
                    "word": [["one", 0.3, 0.15, 0.9], ["two", 0.5, 0.125, None]],
                    "phone": [["W", 0.3, 0.02, None]],
                },
            }
        ],
        "recording": recording("rec-c", "clips/c.wav", 6000, channel_ids=[0]),
        "custom": {"dataset": "x"}, "type": "MonoCut",
    },
    {
        "id": "cut-2", "start": 0, "duration": 0.5, "channel": 0, "supervisions": [],
        "recording": recording("a", "clips/a.wav", 4000), "type": "MonoCut",
        "features": {"type": "fbank", "num_frames": 50, "storage_path": "feats", "storage_key": "0"},
    },
]  # fmt: skip
LONG: dict[str, Any] = {
    "id": "meeting",
    "start": 0.0,
    "duration": 0.75,
    "channel": 0,
    "supervisions": [
        {
            "id": "m-1",
            "recording_id": "c",
            "start": 0.0,
            "duration": 0.25,
            "channel": 0,
            "text": "hello",
            "speaker": "A",
        },
        {
            "id": "m-2",
            "recording_id": "c",
            "start": 0.3,
            "duration": 0.4,
            "channel": 0,
            "text": "bye",
            "speaker": "B",
            "alignment": {"word": [["bye", 0.35, 0.2, None]]},
        },
    ],
    "recording": recording("c", "clips/c.wav", 6000),
    "type": "MonoCut",
}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_cuts_come_back_whole(tmp_path: Path, suffix: str) -> None:
    source = write_lines(make_clips(tmp_path) / f"cuts{suffix}", CUTS)
    done = convert(source, tmp_path / f"o{suffix}", to="lhotse")
    assert done.source_format == "lhotse" and not done.num_faults and not done.written.dropped
    assert read_lines(tmp_path / f"o{suffix}") == CUTS


def test_cuts_are_understood(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "cuts.jsonl", CUTS)
    first, second = rows(list(get_format("lhotse").read(source)))
    part = first.messages[0].audios[0]
    assert (part.audio, part.start_s, part.end_s) == ("clips/c.wav", 0.25, 0.75)
    assert part.words == [("one", 0.05, 0.2), ("two", 0.25, 0.375)] and part.transcript == "one two"
    assert (
        part.labels["gender"] == "female"
        and part.labels["snr"] == 21.5
        and part.labels["word_scores"] == [0.9, None]
    )
    assert (second.messages[0].audios[0].end_s, second.messages[0].audios[0].transcript) == (None, None)


def test_long_cuts_become_rows_or_stay_together(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "cuts.jsonl", [LONG])
    apart = rows(list(get_format("lhotse").read(source)))
    assert [r.id for r in apart] == ["m-1", "m-2"]
    part = apart[1].messages[0].audios[0]
    assert (part.start_s, part.end_s, part.speaker) == (0.3, 0.7, "B") and part.words == [("bye", 0.05, 0.25)]
    done = convert(source, tmp_path / "o.jsonl", to="lhotse", options={"segments": "parts"})
    assert read_lines(tmp_path / "o.jsonl") == [LONG] and done.written.entries == 1


def test_ours_to_lhotse_and_back(tmp_path: Path) -> None:
    done = check_ours(get_format("lhotse"), clip(), tmp_path / "o.jsonl.gz", make_clips(tmp_path))
    assert not done.dropped
    for name in ("clips/a.wav", "clips/d.flac"):
        row = clip(audio=name, start_s=0.0, end_s=None)
        check_ours(get_format("lhotse"), row, tmp_path / f"{name[6]}.jsonl", tmp_path)


def test_supervisions_find_their_recordings(tmp_path: Path) -> None:
    make_clips(tmp_path)
    write_lines(tmp_path / "x_recordings_train.jsonl.gz", [recording("c", "clips/c.wav", 6000)])
    supervisions = LONG["supervisions"] + [{"id": "m-3", "recording_id": "zz", "start": 0, "duration": 1}]
    path = write_lines(tmp_path / "x_supervisions_train.jsonl.gz", supervisions)
    for place in (path, tmp_path / "x_recordings_train.jsonl.gz", tmp_path):
        found = list(get_format("lhotse").read(place))
        assert [(r.id, r.messages[0].audios[0].transcript) for r in rows(found)] == [
            ("m-1", "hello"),
            ("m-2", "bye"),
        ]
        assert rows(found)[1].messages[0].audios[0].words == [("bye", 0.05, 0.25)]
        assert [f.kind for f in faults(found)] == ["missing audio"]
    assert detect_format(tmp_path) == "lhotse"
    alone = write_lines(tmp_path / "sups.jsonl", supervisions)
    with pytest.raises(DataError, match="recordings"):
        list(get_format("lhotse").read(alone))


def test_one_channel_of_several_is_read_alone(tmp_path: Path) -> None:
    make_clips(tmp_path)
    stereo = np.stack([tone(0.5, 300), tone(0.5, 800)])
    write_audio(tmp_path / "s.wav", stereo, RATE)
    both = recording("s", "s.wav", 4000)
    both["sources"][0]["channels"] = [0, 1]
    cut = {"id": "s1", "start": 0.125, "duration": 0.25, "channel": 1, "recording": both, "type": "MonoCut"}
    bad = cut | {"id": "s2", "channel": 5}
    source = write_lines(tmp_path / "cuts.jsonl", [cut, bad])
    found = list(get_format("lhotse").read(source))
    [row] = rows(found)
    wave, _ = read_waveform(row.messages[0].audios[0], row)
    np.testing.assert_array_equal(wave, stereo[1, 1000:3000])
    assert [f.kind for f in faults(found)] == ["malformed"]


def test_a_stereo_recording_is_written_with_all_its_channels(tmp_path: Path) -> None:
    write_audio(tmp_path / "s.wav", np.stack([tone(0.5, 300), tone(0.5, 800)]), RATE)
    get_format("lhotse").write(
        [clip(audio="s.wav", start_s=0.0, end_s=None)], tmp_path / "o.jsonl", Options(audio_root=tmp_path)
    )
    [cut] = read_lines(tmp_path / "o.jsonl")
    assert (cut["type"], cut["channel"], cut["recording"]["sources"][0]["channels"]) == (
        "MultiCut",
        [0, 1],
        [0, 1],
    )


def test_alignments_in_the_time_of_the_cut_are_seen(tmp_path: Path) -> None:
    """Lhotse's count from the recording's start; those of others, from the cut's."""
    make_clips(tmp_path)
    cut = json.loads(json.dumps(CUTS[0]))
    for word in [*cut["supervisions"][0]["alignment"]["word"], *cut["supervisions"][0]["alignment"]["phone"]]:
        word[1] = round(word[1] - cut["start"], 8)
    source = write_lines(tmp_path / "cuts.jsonl", [cut])
    [row] = rows(list(get_format("lhotse").read(source)))
    assert row.messages[0].audios[0].words == [("one", 0.05, 0.2), ("two", 0.25, 0.375)]
    convert(source, tmp_path / "o.jsonl", to="lhotse")
    assert read_lines(tmp_path / "o.jsonl") == CUTS[:1], "written in the time of the recording"


@pytest.mark.parametrize(
    ("cut", "kind"),
    [
        (LONG | {"duration": 0.5}, "overhang"),
        (CUTS[0] | {"supervisions": [CUTS[0]["supervisions"][0] | {"start": -0.3}]}, "overhang"),
        (CUTS[0] | {"supervisions": [{"start": 0, "alignment": {"word": [["x", 9.0, 0.1]]}}]}, "word times"),
        ({"id": "x", "type": "MixedCut", "tracks": []}, "mixed cut"),
        ({"id": "x", "start": 0, "duration": 1}, "no sound"),
        (CUTS[0] | {"recording": recording("r", "clips/none.wav", 10)}, "missing audio"),
        (CUTS[0] | {"recording": recording("r", "a.wav", 10, transforms=[{"name": "Speed"}])}, "transforms"),
        (
            CUTS[0] | {"recording": {"id": "r", "sources": [{"type": "command", "source": "cat x"}]}},
            "no sound",
        ),
        (
            CUTS[0] | {"recording": {"id": "r", "sources": [{"type": "url", "source": "https://x/a.wav"}]}},
            "network address",
        ),
        (CUTS[0] | {"start": "early"}, "malformed"),
        (CUTS[0] | {"supervisions": [{"text": 3, "alignment": [1]}]}, "malformed"),
    ],
)
def test_bad_cuts_are_faults(tmp_path: Path, cut: Any, kind: str) -> None:
    source = write_lines(make_clips(tmp_path) / "cuts.jsonl", [cut, CUTS[1]])
    found = list(get_format("lhotse").read(source))
    assert [f.kind for f in faults(found)] == [kind] and rows(found)[-1].id == "cut-2"


def test_recordings_alone_are_rows(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "recs.jsonl", [recording("a", "clips/a.wav", 4000)])
    [row] = rows(list(get_format("lhotse").read(source)))
    assert (row.id, row.messages[0].audios[0].audio) == ("a", "clips/a.wav")
    memory = {
        "type": "memory",
        "channels": [0],
        "source": base64.b64encode((tmp_path / "clips/a.wav").read_bytes()).decode(),
    }
    inside = recording("m", "", 4000) | {"sources": [memory]}
    [row] = rows(list(get_format("lhotse").read(write_lines(tmp_path / "m.jsonl", [inside]))))
    np.testing.assert_array_equal(read_waveform(row.messages[0].audios[0], row)[0], tone(0.5, 300))


# Shar


def shar(
    folder: Path, cuts: list[dict[str, Any]], members: list[tuple[str, bytes]], shard: str = "000000"
) -> Path:
    folder.mkdir(exist_ok=True)
    write_lines(folder / f"cuts.{shard}.jsonl.gz", cuts)
    with tarfile.open(folder / f"recording.{shard}.tar", "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


def shar_cut(name: str, folder: Path, file: str) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """A cut as Lhotse writes it to Shar, with its two members."""
    data = (folder / "clips" / file).read_bytes()
    samples = {"a.wav": 4000, "b.wav": 2000, "c.wav": 6000, "d.flac": 4000}[file]
    rec = recording(f"rec-{name}", "", samples)
    rec["sources"] = [{"type": "shar", "channels": [0], "source": ""}]
    sup = {
        "id": f"s-{name}",
        "recording_id": rec["id"],
        "start": 0.0,
        "duration": samples / RATE,
        "channel": 0,
        "text": name,
    }
    cut = {
        "id": name,
        "start": 0,
        "duration": samples / RATE,
        "channel": 0,
        "supervisions": [sup],
        "recording": rec,
        "type": "MonoCut",
    }
    suffix = file.partition(".")[2]
    return cut, [(f"{name}.{suffix}", data), (f"{name}.json", json.dumps(rec).encode() + b"\n")]


def test_shar_comes_back_whole(tmp_path: Path) -> None:
    make_clips(tmp_path)
    first, second, third = (
        shar_cut(n, tmp_path, f) for n, f in (("x", "a.wav"), ("sub/y", "d.flac"), ("z", "c.wav"))
    )
    folder = shar(tmp_path / "in", [first[0], second[0]], first[1] + second[1])
    shar(folder, [third[0]], third[1], "000001")
    done = convert(folder, tmp_path / "out", to="lhotse_shar", options={"shard_rows": 2})
    assert done.source_format == "lhotse_shar" and not done.num_faults and not done.written.dropped
    for shard in ("000000", "000001"):
        assert read_lines(tmp_path / f"out/cuts.{shard}.jsonl.gz") == read_lines(
            folder / f"cuts.{shard}.jsonl.gz"
        )
        assert tar_files(tmp_path / f"out/recording.{shard}.tar") == tar_files(
            folder / f"recording.{shard}.tar"
        )


def tar_files(path: Path) -> list[tuple[str, Any]]:
    with tarfile.open(path) as tar:
        found = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    return [(name, json.loads(data) if name.endswith(".json") else data) for name, data in found]


def test_ours_to_shar_and_back(tmp_path: Path) -> None:
    done = check_ours(get_format("lhotse_shar"), clip(), tmp_path / "out", make_clips(tmp_path))
    assert set(done.dropped) == {"spans"}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clips(tmp_path)
    clock = itertools.count(1_700_000_000, 3600)
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    for form, name in (
        ("lhotse_shar", "a"),
        ("webdataset", "b.tar"),
        ("lhotse", "c.jsonl.gz"),
        ("swift", "d.jsonl"),
    ):
        made = []
        for i in "01":
            path = tmp_path / i / name
            get_format(form).write([clip(), clip(1)], path, Options(audio_root=tmp_path, audio="copy"))
            made.append([f.read_bytes() for f in sorted(path.parent.rglob("*")) if f.is_file()])
        assert made[0] == made[1]


def test_damaged_shar_gives_what_is_whole(tmp_path: Path) -> None:
    make_clips(tmp_path)
    made = [shar_cut(n, tmp_path, f) for n, f in (("x", "a.wav"), ("y", "b.wav"), ("z", "c.wav"))]
    cuts, members = [m[0] for m in made], [m for _, files in made for m in files]
    folder = shar(tmp_path / "in", cuts, members)
    tar = folder / "recording.000000.tar"
    tar.write_bytes(tar.read_bytes()[:20_000])
    found = list(get_format("lhotse_shar").read(folder))
    assert [r.id for r in rows(found)] == ["x", "y"] and [f.kind for f in faults(found)] == ["cut off"]
    shar(folder, cuts, members[2:4] + members[:2] + [("z.nodata", b""), ("z.nometa", b"")])
    found = list(get_format("lhotse_shar").read(folder))
    assert [f.kind for f in faults(found)] == ["out of step", "out of step", "no sound"]
    shar(folder, cuts[:1], [("../x.wav", b"1"), ("../x.json", b"{}")])
    found = list(get_format("lhotse_shar").read(folder))
    assert [f.kind for f in faults(found)] == ["cut off"] and "outside" in faults(found)[0].reason
    packed = folder / "cuts.000000.jsonl.gz"
    shar(folder, cuts, members)
    data = gzip.compress(gzip.decompress(packed.read_bytes()), compresslevel=0)
    packed.write_bytes(data[: len(data) * 2 // 3])
    found = list(get_format("lhotse_shar").read(folder))
    assert [r.id for r in rows(found)] == ["x", "y"] and [f.kind for f in faults(found)] == ["cut off"]
