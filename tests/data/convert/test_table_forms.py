"""Forms with columns: Ultravox, Orpheus, SNAC, Parler and instruction-speech, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.convert.cases import (
    asked,
    chat,
    check_ours,
    clip,
    faults,
    make_clips,
    read_lines,
    rows,
    spoken,
    tone,
    write_lines,
)

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.codecs.contract import Codes
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import convert, detect_format, get_format
from vivavoce.data.convert.codes import codec_spec, codes_of, tokens_of
from vivavoce.data.convert.contract import Options
from vivavoce.data.convert.tables import table_items
from vivavoce.data.recordings import read_waveform
from vivavoce.tokens.readers import to_separated

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

SNAC = codec_spec("snac_24khz")
SOUND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def snac_codes(frames: int, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randint(0, 4096, (1, frames * n), generator=generator) for n in (1, 2, 4)]
    return Codes(levels, [frames * SNAC.frame_samples])


def parquet(path: Path, table: list[dict[str, Any]]) -> Path:
    columns = {name for row in table for name in row}
    fields = [
        (n, SOUND) if n == "audio" else (n, pa.array([r.get(n) for r in table]).type) for n in sorted(columns)
    ]
    pq.write_table(pa.Table.from_pylist(table, schema=pa.schema(fields)), path)
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if v is not None} for row in pq.read_table(path).to_pylist()]


def wav(folder: Path, name: str) -> dict[str, Any]:
    return {"bytes": (folder / "clips" / name).read_bytes(), "path": name}


# Ultravox


def test_ultravox_parquet_comes_back_whole(tmp_path: Path) -> None:
    make_clips(tmp_path)
    theirs = [
        {
            "id": "u1",
            "audio": wav(tmp_path, "a.wav"),
            "sentence": "What is it?",
            "continuation": "Rain.",
            "up_votes": 2,
        },
        {"id": "u2", "audio": wav(tmp_path, "d.flac"), "sentence": "And now?", "up_votes": 0, "locale": "en"},
    ]
    source = parquet(tmp_path / "in.parquet", theirs)
    done = convert(
        source, tmp_path / "o.parquet", to="ultravox", options={"to_columns": {"text": "sentence"}}
    )
    assert done.source_format == "ultravox" and not done.written.dropped
    assert read_table(tmp_path / "o.parquet") == theirs
    first, second = rows(list(get_format("ultravox").read(source)))
    assert (first.task, second.task) == ("continue", "asr")
    assert first.messages[0].audios[0].transcript == "What is it?" and first.messages[1].text == "Rain."


def test_ultravox_jsonl_names_files(tmp_path: Path) -> None:
    theirs = [
        {"audio": "clips/a.wav", "text": "Hi.", "continuation": "Ho."},
        {"audio": "clips/d.flac", "text": "Bye."},
    ]
    source = write_lines(make_clips(tmp_path) / "in.jsonl", theirs)
    convert(source, tmp_path / "o.jsonl", to="ultravox")
    assert read_lines(tmp_path / "o.jsonl") == theirs


def test_ultravox_messages_come_back_whole(tmp_path: Path) -> None:
    theirs = [
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Repeat: <|audio|> please"},
                {"role": "assistant", "content": "one two"},
            ],
            "audio": "clips/a.wav",
        }
    ]
    source = write_lines(make_clips(tmp_path) / "in.jsonl", theirs)
    assert detect_format(source) == "ultravox"
    convert(source, tmp_path / "o.jsonl", to="ultravox", options={"variant": "messages"})
    assert read_lines(tmp_path / "o.jsonl") == theirs


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
@pytest.mark.parametrize("variant", ["columns", "messages"])
def test_ours_to_ultravox_and_back(tmp_path: Path, name: str, variant: str) -> None:
    make_clips(tmp_path)
    done = check_ours(get_format("ultravox"), asked(), tmp_path / name, tmp_path, variant=variant)
    assert ("user transcripts" in done.dropped) == (variant == "messages")
    assert {"language", "speaker"} <= set(done.dropped)


def test_chats_have_no_columns(tmp_path: Path) -> None:
    typed = Conversation("t", [Message("user", [Text("hi")])])
    done = get_format("ultravox").write(
        [chat(), asked(), typed], tmp_path / "o.jsonl", Options(audio_root=make_clips(tmp_path))
    )
    assert done.rows == 1 and done.left_out == {"several recordings in a row": 1, "no recording": 1}


def test_datasets_reads_what_we_write(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    make_clips(tmp_path)
    for name, row in (
        ("ultravox", asked()),
        ("orpheus", spoken()),
        ("parler", spoken(labels={"pitch": "high"})),
    ):
        get_format(name).write([row], tmp_path / f"{name}.parquet", Options(audio_root=tmp_path))
        found = datasets.Dataset.from_parquet(
            str(tmp_path / f"{name}.parquet"), cache_dir=str(tmp_path / "cache")
        )
        assert isinstance(found.features["audio"], datasets.Audio), name
        found = found.cast_column("audio", datasets.Audio(decode=False))
        assert found[0]["audio"]["bytes"][:4] == b"RIFF"


@pytest.mark.parametrize("name", ["ultravox", "orpheus", "parler", "instruction_speech"])
def test_decoded_samples_are_read(tmp_path: Path, name: str) -> None:
    sound = {"array": tone(0.1, 300).tolist(), "sampling_rate": 8000, "path": "x/a.mp3"}
    row = {"audio": sound, "text": "hi", "prompt": "hi", "answer": "ho", "text_description": "x"}
    bad = row | {"audio": {"array": [[[1]]], "sampling_rate": 8000}}
    found = list(
        get_format(name).read(write_lines(tmp_path / "in.jsonl", [row, bad, row | {"audio": {"array": [0]}}]))
    )
    part = next(rows(found)[0].audio_parts())
    np.testing.assert_array_equal(read_waveform(part, rows(found)[0])[0], tone(0.1, 300))
    assert part.audio["path"] == "a.flac"  # type: ignore[index, call-overload]
    assert [f.kind for f in faults(found)] == ["audio", "audio"]


# Orpheus


def test_orpheus_comes_back_whole(tmp_path: Path) -> None:
    make_clips(tmp_path)
    theirs = [
        {"audio": wav(tmp_path, "a.wav"), "source": "tara", "text": "Hey <laugh> there."},
        {"audio": wav(tmp_path, "b.wav"), "source": "leo", "text": "Good bye."},
    ]
    source = parquet(tmp_path / "in.parquet", theirs)
    done = convert(source, tmp_path / "o.parquet", to="orpheus")
    assert done.source_format == "orpheus" and not done.written.dropped
    assert read_table(tmp_path / "o.parquet") == theirs
    [first, _] = rows(list(get_format("orpheus").read(source)))
    assert first.task == "tts" and first.messages[0].text == "Hey <laugh> there."
    assert first.messages[1].audios[0].speaker == "tara"


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
def test_ours_to_orpheus_and_back(tmp_path: Path, name: str) -> None:
    done = check_ours(get_format("orpheus"), spoken(), tmp_path / name, make_clips(tmp_path), ids=False)
    assert set(done.dropped) == {"id"}


def test_orpheus_takes_every_recording_with_a_transcript(tmp_path: Path) -> None:
    done = get_format("orpheus").write(
        [chat()], tmp_path / "o.jsonl", Options(audio_root=make_clips(tmp_path))
    )
    assert (done.rows, done.entries) == (1, 3)
    assert {"roles", "typed text", "words"} <= set(done.dropped)
    assert [r["text"] for r in read_lines(tmp_path / "o.jsonl")] == ["what is it", "rain", "oh no"]


def test_text_and_audio_alone_are_ambiguous(tmp_path: Path) -> None:
    source = parquet(make_clips(tmp_path) / "in.parquet", [{"audio": wav(tmp_path, "a.wav"), "text": "Hi."}])
    with pytest.raises(ConfigError, match="orpheus or ultravox"):
        detect_format(source)
    renamed = {"text": "words", "audio": "sound"}
    convert(
        source,
        tmp_path / "o.jsonl",
        from_="orpheus",
        to="orpheus",
        options={"to_columns": renamed, "audio": "copy"},
    )
    assert read_lines(tmp_path / "o.jsonl") == [{"words": "Hi.", "sound": "o_audio/0.wav"}]


# SNAC columns


@pytest.mark.parametrize("form", ["hash_list", "separator_4097", "separator_50258"])
@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
def test_snac_comes_back_whole(tmp_path: Path, form: str, name: str) -> None:
    listed = [to_separated(snac_codes(n, seed=n), SNAC, form) for n in (3, 2)]
    codes = [json.dumps(c) for c in listed] if form == "hash_list" else listed
    theirs = [
        {"text": "One.", "description": "a deep voice", "codes": codes[0], "playtime_sec": 5000 / 24_000},
        {"text": "Two.", "description": "a high voice", "codes": codes[1], "playtime_sec": 4096 / 24_000},
    ]
    source = write_lines(tmp_path / "in.jsonl", theirs)
    assert detect_format(source) == "snac_columns"
    options = {"variant": form} | ({"form": form} if form == "separator_50258" else {})
    done = convert(source, tmp_path / name, to="snac_columns", options=options)
    assert not done.num_faults and not done.written.dropped
    again = read_lines(tmp_path / name) if name.endswith("jsonl") else read_table(tmp_path / name)
    assert again == theirs


def test_snac_codes_are_those_of_the_layout(tmp_path: Path) -> None:
    codes = snac_codes(2)
    text = " ".join(map(str, to_separated(codes, SNAC, "hash_list")))
    theirs = [{"speech": text, "caption": "a voice", "transcript": "Hi."}]
    source = write_lines(tmp_path / "in.jsonl", theirs)
    options = Options(columns={"codes": "speech"}, codec_hash="abc")
    [row] = rows(list(get_format("snac_columns").read(source, options)))
    part = row.messages[1].audios[0]
    assert part.tokens == tokens_of(codes, SNAC, 4096, "abc") and part.labels == {"description": "a voice"}
    assert row.task == "describe_tts"
    assert part.tokens["ids"][0] == int(codes.levels[0][0, 0]) and part.tokens["ids"][1] >= 4096


def test_ours_to_snac_columns_and_back(tmp_path: Path) -> None:
    tokens = tokens_of(snac_codes(2), SNAC, 4000, "")
    row = spoken(audio=None, tokens=tokens, labels={"description": "a voice"})
    row.task = "describe_tts"
    done = check_ours(get_format("snac_columns"), row, tmp_path / "o.csv", tmp_path)
    assert not done.dropped
    np.save(tmp_path / "t.npy", np.array(tokens["ids"]))
    by_file = dict(tokens, path="t.npy")
    by_file.pop("ids")
    get_format("snac_columns").write(
        [spoken(audio=None, tokens=by_file)], tmp_path / "f.jsonl", Options(audio_root=tmp_path)
    )
    [again] = rows(list(get_format("snac_columns").read(tmp_path / "f.jsonl")))
    assert again.messages[1].audios[0].tokens == tokens


def test_bad_codes_are_faults(tmp_path: Path) -> None:
    good = to_separated(snac_codes(2), SNAC, "hash_list")
    theirs = [
        {"text": "a", "codes": json.dumps(good)},
        {"text": "b", "codes": json.dumps(good[:-1])},
        {"text": "c", "codes": json.dumps(["#", 5000, *good[2:]])},
        {"text": "d", "codes": json.dumps(good), "playtime_sec": 9.0},
        {"codes": json.dumps(good)},
        {"text": "e"},
    ]
    source = write_lines(tmp_path / "in.jsonl", theirs)
    found = list(get_format("snac_columns").read(source))
    assert [r.messages[0].text for r in rows(found)] == ["a"]
    assert [f.kind for f in faults(found)] == ["malformed", "malformed", "length", "malformed", "no sound"]
    assert "position 15" in faults(found)[0].reason


def test_tokens_of_an_unknown_codec_are_left_out(tmp_path: Path) -> None:
    row = spoken(audio=None, tokens={"codec": "mystery", "layout": "orpheus", "ids": [1]})
    bad = spoken(1, audio=None, tokens={"codec": "snac_24khz", "layout": "orpheus", "ids": [1]})
    with pytest.raises(DataError, match="mystery"):
        get_format("snac_columns").write([row, bad], tmp_path / "o.jsonl")
    assert list(tmp_path.iterdir()) == [], "nothing half-written stays"


# Parler


def test_parler_comes_back_whole(tmp_path: Path) -> None:
    make_clips(tmp_path)
    theirs = [
        {
            "audio": wav(tmp_path, "a.wav"), "text": "Hello.", "text_description": "A calm woman.", "gender": "female",
            "pitch": "rather high", "snr": 41.5, "utterance_pitch_mean": 210.25, "speaker_id": "s7", "book_id": "b1",
        },
    ]  # fmt: skip
    source = parquet(tmp_path / "in.parquet", theirs)
    done = convert(source, tmp_path / "o.parquet", to="parler")
    assert done.source_format == "parler" and read_table(tmp_path / "o.parquet") == theirs
    [row] = rows(list(get_format("parler").read(source)))
    labels = row.messages[1].audios[0].labels
    assert labels["description"] == "A calm woman." and labels["snr"] == 41.5 and "book_id" not in labels
    assert row.task == "describe_tts" and row.meta == {"parler": {"book_id": "b1"}}


def test_parler_without_sound_is_text(tmp_path: Path) -> None:
    theirs = [
        {
            "original_path": "x/1",
            "transcript": "Hello.",
            "text_description": "A man.",
            "pitch": "low",
            "speaker_id": "4",
        }
    ]
    source = write_lines(tmp_path / "in.jsonl", theirs)
    [row] = rows(list(get_format("parler").read(source)))
    assert row.messages[0].text == "Hello." and not list(row.audio_parts())
    convert(source, tmp_path / "o.jsonl", to="parler", options={"to_columns": {"text": "transcript"}})
    assert read_lines(tmp_path / "o.jsonl") == theirs


def test_ours_to_parler_and_back(tmp_path: Path) -> None:
    row = spoken(labels={"description": "A man.", "pitch": "low", "snr": 30.0})
    row.task = "describe_tts"
    done = check_ours(get_format("parler"), row, tmp_path / "o.parquet", make_clips(tmp_path))
    assert not done.dropped


# instruction-speech


def sounds(codes: list[int], width: int) -> str:
    return "<|sound_start|>" + "".join(f"<|sound_{c:0{width}d}|>" for c in codes) + "<|sound_end|>"


@pytest.mark.parametrize("width", [0, 4])
def test_instruction_speech_comes_back_whole(tmp_path: Path, width: int) -> None:
    theirs = [
        {
            "prompt": "What is it?", "answer": "Rain.", "length": 11,
            "sound_convo": [
                {"role": "user", "content": sounds([1, 1023, 30, 4], width)},
                {"role": "assistant", "content": "Rain."},
                {"role": "user", "content": "Repeat " + sounds([7, 8], width) + " now"},
            ],
            "text_convo": [
                {"role": "user", "content": "What is it?"},
                {"role": "assistant", "content": "Rain."},
                {"role": "user", "content": "Repeat one now"},
            ],
        }
    ]  # fmt: skip
    source = write_lines(tmp_path / "in.jsonl", theirs)
    done = convert(source, tmp_path / "o.jsonl", to="instruction_speech")
    assert done.source_format == "instruction_speech" and read_lines(tmp_path / "o.jsonl") == theirs
    [row] = rows(list(get_format("instruction_speech").read(source)))
    parts = list(row.audio_parts())
    assert [p.transcript for p in parts] == ["What is it?", "one"]
    assert parts[0].tokens == {
        "codec": "encodec_24khz", "layout": "interleaved", "num_samples": 640, "ids": [1, 1023, 30, 4],
    }  # fmt: skip


def test_instruction_speech_columns_come_back_whole(tmp_path: Path) -> None:
    make_clips(tmp_path)
    theirs = [
        {"prompt": "What?", "answer": "Rain.", "length": 5, "tokens": [1, 2, 3, 4], "index": 7},
        {"prompt": "Now?", "answer": "Sun.", "length": 4, "audio": wav(tmp_path, "a.wav")},
    ]
    source = parquet(tmp_path / "in.parquet", theirs)
    convert(source, tmp_path / "o.parquet", to="instruction_speech", options={"variant": "columns"})
    assert read_table(tmp_path / "o.parquet") == theirs


def test_whispervq_rows_are_understood(tmp_path: Path) -> None:
    theirs = [
        {
            "index": 1,
            "tokens": [5, 512, 7],
            "text_prompt": "What?",
            "prompt": sounds([5, 512, 7], 4),
            "answer": "Rain.",
            "conversations": [
                {"role": "user", "content": sounds([5, 512, 7], 4)},
                {"role": "assistant", "content": "Rain."},
            ],
        }
    ]
    source = write_lines(tmp_path / "in.jsonl", theirs)
    [row] = rows(list(get_format("instruction_speech").read(source)))
    part = row.messages[0].audios[0]
    assert part.transcript == "What?" and part.tokens and part.tokens["codec"] == "whispervq"
    convert(source, tmp_path / "o.jsonl", from_="instruction_speech", to="instruction_speech")
    assert read_lines(tmp_path / "o.jsonl") == theirs


@pytest.mark.parametrize("variant", ["convo", "columns"])
def test_ours_to_instruction_speech_and_back(tmp_path: Path, variant: str) -> None:
    tokens = {"codec": "encodec_24khz", "layout": "interleaved", "num_samples": 640, "ids": [1, 2, 3, 4]}
    row = asked()
    row.task = "chat"
    row.messages[0].parts = [Audio(None, transcript="what", tokens=tokens)]
    done = check_ours(get_format("instruction_speech"), row, tmp_path / "o.jsonl", tmp_path, variant=variant)
    assert not done.dropped


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (sounds([1, 2, 3], 4), "ends inside"),
        (sounds([1, 2000], 4), "outside"),
        ("<|sound_start|><|sound_0001|>", "stands outside"),
        ("<|sound_start|><|sound_0001|><|duration_02|><|sound_end|>", "stands outside"),
        (sounds([], 4), "empty"),
    ],
)
def test_bad_sound_tokens_are_faults(tmp_path: Path, content: str, reason: str) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"sound_convo": [{"role": "user", "content": content}]}])
    found = list(get_format("instruction_speech").read(source))
    assert len(faults(found)) == 1 and reason in faults(found)[0].reason


# tables as such


def test_a_folder_of_parquet_and_arrow_files_is_one_table(tmp_path: Path) -> None:
    for i in range(2):
        parquet(tmp_path / f"train-{i}.parquet", [{"text": f"{i}{j}"} for j in range(2)])
    places = [(i.number, i.place, i.value["text"]) for i in table_items(tmp_path)]  # type: ignore[union-attr]
    assert [p[2] for p in places] == ["00", "01", "10", "11"] and places[3][0] == 3
    assert places[3][1] == "row 1 of train-1.parquet"
    folder = tmp_path / "arrow"
    folder.mkdir()
    table = pa.Table.from_pylist([{"text": "x"}, {"text": "y"}])
    with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert [i.value["text"] for i in table_items(folder)] == ["x", "y"]  # type: ignore[union-attr]


def test_a_late_column_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    make_clips(tmp_path)

    def many() -> Any:
        for i in range(300):
            row = asked()
            row.id, row.meta = f"r{i}", {"ultravox": {"late": 1}} if i == 299 else {}
            yield row

    with pytest.raises(DataError, match="late"):
        get_format("ultravox").write(many(), tmp_path / "o.parquet", Options(audio_root=tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips"]


def test_damaged_tables_are_told(tmp_path: Path) -> None:
    source = parquet(tmp_path / "in.parquet", [{"audio": None, "text": "x", "continuation": "y"}])
    data = source.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut off or damaged"):
        list(get_format("ultravox").read(tmp_path / "cut.parquet"))
    assert [f.kind for f in faults(list(get_format("ultravox").read(source)))] == ["no sound"]
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"text,codes\nHi,# 1 2 3 4 5 6 7\nHo\n\xff\xfe,x\n")
    found = list(get_format("snac_columns").read(bad))
    assert [f.kind for f in faults(found)] == ["malformed", "encoding"] and len(rows(found)) == 1


def test_codes_survive_other_layouts(tmp_path: Path) -> None:
    row = clip(
        audio=None, start_s=0.0, end_s=None, tokens=tokens_of(snac_codes(2), SNAC, 4096, "", "interleaved")
    )
    get_format("snac_columns").write([row], tmp_path / "o.jsonl")
    [again] = rows(list(get_format("snac_columns").read(tmp_path / "o.jsonl")))
    part = again.messages[1].audios[0]
    codes, _ = codes_of(part, tmp_path, "snac_24khz")
    assert all(torch.equal(a, b) for a, b in zip(codes.levels, snac_codes(2).levels, strict=True))


def test_tones_are_quiet() -> None:
    assert np.abs(tone(0.1, 400)).max() < 0.3
