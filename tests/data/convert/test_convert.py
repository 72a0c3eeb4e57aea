"""Converting as such: our own form, telling forms apart, counts that add up, files that are whole or not there."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.convert.cases import (
    asked,
    audio,
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

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import ConfigError, DataError, VivavoceError
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import FORMATS, convert, detect_format, get_format, list_formats, read_any
from vivavoce.data.convert.contract import Options
from vivavoce.data.convert.details import ALL, DETAILS
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.outputs import Clips, Stage

# our own form


@pytest.mark.parametrize("name", ["o.jsonl", "o.json", "o.jsonl.gz", "o.parquet", "out"])
@pytest.mark.parametrize("make", [chat, clip, spoken])
def test_our_own_form_keeps_everything(tmp_path: Path, name: str, make: Any) -> None:
    if not name.startswith("o.j"):
        pytest.importorskip("pyarrow")
    done = check_ours(get_format("vivavoce"), make(), tmp_path / name, make_clips(tmp_path))
    assert not done.dropped


@pytest.mark.parametrize("mode", ["keep", "copy", "embed"])
@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_recordings_go_where_they_should(tmp_path: Path, name: str, mode: str) -> None:
    pytest.importorskip("pyarrow")
    make_clips(tmp_path)
    (tmp_path / "to").mkdir()
    done = check_ours(get_format("vivavoce"), chat(), tmp_path / "to" / name, tmp_path, audio=mode)
    assert done.clips == {"keep": 1, "copy": 3, "embed": 0}[mode]
    [row] = rows(list(get_format("vivavoce").read(tmp_path / "to" / name)))
    named = [
        p["path"] if isinstance(p, dict) else p for p in row.audios or [p.audio for p in row.audio_parts()]
    ]
    if mode == "keep":
        assert named == ["../clips/c.wav", "o_audio/r1.flac", "../clips/d.flac"]
    if mode == "copy":
        assert named == ["o_audio/r1.wav", "o_audio/r1.flac", "o_audio/r1-2.flac"]


def test_jsonl_to_parquet_to_jsonl_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    make_clips(tmp_path)
    get_format("vivavoce").write([chat(), clip()], tmp_path / "a.jsonl", Options(audio_root=tmp_path))
    convert(tmp_path / "a.jsonl", tmp_path / "set")
    convert(tmp_path / "set", tmp_path / "b.jsonl")
    first, second = read_lines(tmp_path / "a.jsonl"), read_lines(tmp_path / "b.jsonl")
    for row in first + second:
        for message in row["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else ():
                part.pop("audio", None)
    assert first == second


@pytest.mark.parametrize(
    ("form", "name"), [("vivavoce", "o.jsonl"), ("vivavoce", "o"), ("webdataset", "o.tar")]
)
def test_token_files_come_along(tmp_path: Path, form: str, name: str) -> None:
    pytest.importorskip("pyarrow")
    np.save(tmp_path / "t.npy", np.arange(4))
    row = asked()
    tokens = {"codec": "encodec_24khz", "layout": "interleaved", "num_samples": 640}
    row.messages[0].parts = [Audio(None, tokens=tokens | {"path": "t.npy"})]
    get_format(form).write([row], tmp_path / "to" / name, Options(audio_root=tmp_path))
    [again] = rows(list(get_format(form).read(tmp_path / "to" / name)))
    assert again.messages[0].audios[0].tokens == tokens | {"ids": [0, 1, 2, 3]}
    row.messages[0].parts = [Audio(None, tokens=tokens | {"path": "none.npy"})]
    with pytest.raises(DataError, match=r"none\.npy"):
        get_format(form).write([row], tmp_path / "x" / name, Options(audio_root=tmp_path))


def test_bad_own_rows_are_faults(tmp_path: Path) -> None:
    make_clips(tmp_path)
    good = asked().row()
    bad: list[Any] = [
        good | {"messages": []},
        good | {"weight": -1},
        good | {"mesages": 1},
        good | {"audios": ["a.wav"]},
    ]
    source = write_lines(tmp_path / "in.jsonl", [*bad, good])
    found = list(get_format("vivavoce").read(source))
    assert [f.kind for f in faults(found)] == ["malformed"] * 3 + ["missing audio"] and len(rows(found)) == 1
    assert "messages" in faults(found)[2].reason, "the nearest name is told"


# paths


def test_absolute_paths_become_relative(tmp_path: Path) -> None:
    make_clips(tmp_path)
    path = str(tmp_path / "clips/a.wav")
    source = write_lines(
        tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "<audio>"}], "audios": [path]}]
    )
    convert(source, tmp_path / "deep/er/o.jsonl", from_="swift", to="nemo")
    [line] = read_lines(tmp_path / "deep/er/o.jsonl")
    assert line["audio_filepath"] == "../../clips/a.wav" and str(tmp_path) not in json.dumps(line)
    write_audio(tmp_path / "x.wav", tone(0.1, 300), 8000)
    for name, form in itertools.product(
        ("swift", "sharegpt", "lhotse", "nemo", "vivavoce"), ("keep", "copy")
    ):
        out = tmp_path / f"{name}-{form}.jsonl"
        get_format(name).write([asked()], out, Options(audio_root=tmp_path, audio=form))
        assert str(tmp_path) not in out.read_text()


def test_members_of_archives_become_files(tmp_path: Path) -> None:
    make_clips(tmp_path)
    get_format("webdataset").write(
        [clip(start_s=0.0, end_s=None)], tmp_path / "s.tar", Options(audio_root=tmp_path)
    )
    member = "s.tar::clip-0.0.wav"
    row = asked()
    row.messages[0].parts = [audio(member)]
    get_format("swift").write([row], tmp_path / "o.jsonl", Options(audio_root=tmp_path))
    assert read_lines(tmp_path / "o.jsonl")[0]["audios"] == ["o_audio/q1.wav"]
    assert (tmp_path / "o_audio/q1.wav").read_bytes() == (tmp_path / "clips/c.wav").read_bytes()


def test_files_of_odd_ids_stay_inside(tmp_path: Path) -> None:
    make_clips(tmp_path)
    names = ["../../up", "a/b", "A/b", "...", "", "x" * 300, "con\x00trol"]
    made = [asked(id=name) for name in names]
    get_format("swift").write(made, tmp_path / "o.jsonl", Options(audio_root=tmp_path, audio="copy"))
    paths = [r["audios"][0] for r in read_lines(tmp_path / "o.jsonl")]
    assert all((tmp_path / p).is_file() and p.startswith("o_audio/") and p.count("/") == 1 for p in paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "o.jsonl", "o_audio"]


# whole or not at all


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    make_clips(tmp_path)

    def breaks() -> Any:
        yield asked()
        raise RuntimeError("power cut")

    for name in ("swift", "lhotse_shar", "moshi", "webdataset", "vivavoce", "orpheus"):
        facts = next(f for f in list_formats() if f.name == name)
        with pytest.raises((RuntimeError, DataError)):
            get_format(name).write(
                breaks(), tmp_path / f"o{facts.suffixes[0]}", Options(audio_root=tmp_path, audio="copy")
            )
    assert [p.name for p in tmp_path.iterdir()] == ["clips"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    make_clips(tmp_path)
    out = tmp_path / "o.jsonl"
    options = Options(audio_root=tmp_path, audio="copy")
    get_format("swift").write([asked()], out, options)
    with pytest.raises(DataError, match="exists"):
        get_format("swift").write([asked()], out, options)
    get_format("swift").write(
        [asked(id="q2")], out, Options(audio_root=tmp_path, audio="copy", overwrite=True)
    )
    assert read_lines(out)[0]["audios"] == ["o_audio-2/q2.wav"], (
        "recordings that are there are never replaced"
    )
    assert (tmp_path / "o_audio/q1.wav").is_file()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        get_format("lhotse_shar").write(
            [asked()], tmp_path / "full", Options(audio_root=tmp_path, overwrite=True)
        )
    with pytest.raises(ConfigError, match="over itself"):
        convert(out, out, to="swift", options={"overwrite": True})


def test_rows_that_are_left_out_leave_no_recordings(tmp_path: Path) -> None:
    make_clips(tmp_path)
    broken = asked(id="broken")
    broken.messages[0].parts += [audio("clips/b.wav"), audio("clips/none.wav")]
    done = get_format("swift").write(
        [broken, asked()], tmp_path / "o.jsonl", Options(audio_root=tmp_path, audio="copy")
    )
    assert (done.rows, done.left_out, done.clips) == (1, {"a recording cannot be read": 1}, 1)
    assert [p.name for p in (tmp_path / "o_audio").iterdir()] == ["q1.wav"]


def test_the_same_recording_is_copied_once(tmp_path: Path) -> None:
    make_clips(tmp_path)
    done = get_format("vivavoce").write(
        [clip(0), clip(1)], tmp_path / "o.jsonl", Options(audio_root=tmp_path, audio="copy")
    )
    assert done.clips == 1, "spans are kept, so both rows name one file"
    with Stage(tmp_path / "x.jsonl") as stage:
        clips = Clips(stage, tmp_path, "copy")
        assert clips.path(clip().messages[0].audios[0], clip()) == "x_audio/clip-0.flac", (
            "a cut is a file of its own"
        )


# convert


def test_counts_add_up_and_reasons_are_given(tmp_path: Path) -> None:
    make_clips(tmp_path)
    lines: list[Any] = [
        asked(id="a").row(),
        {"messages": 3},
        clip().row(),
        asked(id="b").row() | {"audios": ["clips/none.wav"]},
        Conversation("t", [Message("user", [Text("hi")])]).row(),
    ]
    source = write_lines(tmp_path / "in.jsonl", lines)
    with source.open("a") as file:
        file.write('{"broken": \n')
    seen: list[str] = []
    counted: list[int] = []
    done = convert(
        source,
        tmp_path / "o.json",
        from_="vivavoce",
        to="salmonn",
        on_fault=lambda f: seen.append(str(f)),
        on_row=counted.append,
    )
    assert done.rows_read == 3 == done.written.rows + sum(done.written.left_out.values()) == counted[-1]
    assert done.faults == {"malformed": 1, "missing audio": 1, "json": 1} and done.num_faults == 3
    assert done.rows_read + done.num_faults == 6
    assert seen[0].startswith("line 2: ") and seen[2].startswith("line 6: ")
    assert "left out    1" in str(done) and "unreadable  1: json" in str(done)


def test_wrong_forms_are_told_at_once(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "in.jsonl", [asked().row()])
    with pytest.raises(ConfigError, match=re.escape("Did you mean 'swift'")):
        convert(source, tmp_path / "o.jsonl", to="swft")
    with pytest.raises(ConfigError, match="no name for moshi"):
        convert(source, tmp_path / "o.parquet", to="moshi")
    with pytest.raises(ConfigError, match="no variant 'x'"):
        convert(source, tmp_path / "o.jsonl", to="sharegpt", options={"variant": "x"})
    with pytest.raises(ConfigError, match="neither vivavoce nor swift"):
        convert(source, tmp_path / "o.jsonl", to="swift", options={"codec": "mimi"})
    with pytest.raises(ConfigError, match="did you mean 'overwrite'"):
        convert(source, tmp_path / "o.jsonl", options={"overwite": True})
    with pytest.raises(ConfigError, match="audio is 'x'"):
        convert(source, tmp_path / "o.jsonl", options={"audio": "x"})
    with pytest.raises(DataError, match="does not exist"):
        convert(tmp_path / "no.jsonl", tmp_path / "o.jsonl")
    with pytest.raises(DataError, match=r"no row of .* can be read as nemo"):
        convert(source, tmp_path / "o.jsonl", from_="nemo")
    assert not (tmp_path / "o.jsonl").exists()


def test_limits_sources_and_licenses(tmp_path: Path) -> None:
    make_clips(tmp_path)
    source = write_lines(tmp_path / "in.jsonl", [asked(id=str(i)).row() for i in range(5)])
    options = {"limit": 2, "license": "cc0-1.0", "source": "invented", "audio_root": str(tmp_path)}
    assert convert(source, tmp_path / "o.jsonl", options=options).rows_read == 2
    assert [(r["license"], r["source"]) for r in read_lines(tmp_path / "o.jsonl")] == [
        ("cc0-1.0", "invented")
    ] * 2
    assert len(list(read_any(source, options={"limit": 3}))) == 3
    missing = write_lines(tmp_path / "m.jsonl", [asked(id="x").row() | {"audios": []}])
    missing.write_text(missing.read_text().replace("a.wav", "none.wav"))
    assert convert(missing, tmp_path / "m2.jsonl", options={"check_audio": False}).rows_read == 1


def test_text_rows_are_ours(tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}]
    assert detect_format(write_lines(tmp_path / "t.jsonl", chats)) == "vivavoce"
    with pytest.raises(ConfigError, match="none of the known forms"):
        detect_format(write_lines(tmp_path / "n.jsonl", [{"a": 1}]))
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(ConfigError, match="none of the known forms"):
        detect_format(tmp_path / "e.jsonl")


@pytest.mark.parametrize("name", [f for f in FORMATS if f != "folder"])
def test_what_we_write_is_told_again(tmp_path: Path, name: str) -> None:
    """The form of every output is detected without being told, or refused with its name among the candidates."""
    pytest.importorskip("pyarrow")
    make_clips(tmp_path)
    form = get_format(name)
    made = [
        asked(),
        clip(),
        spoken(labels={"description": "A man."}),
        chat(),
        _trajectory(),
        _tokens(),
        _heard_tokens(),
        _duplex(),
    ]
    for suffix in form.suffixes:
        out = tmp_path / f"out{suffix}"
        done = form.write(made, out, Options(audio_root=tmp_path))
        assert done.rows + sum(done.left_out.values()) == len(made) and done.rows
        try:
            assert detect_format(out) == name
        except ConfigError as error:
            assert name in str(error) and "may be" in str(error) and name in ("ultravox", "orpheus")


def _trajectory() -> Conversation:
    turn = asked(task="trajectory", id="t1")
    turn.messages[0].audios[0].labels = {"emotion": "sad"}
    return turn


def _tokens() -> Conversation:
    tokens = {"codec": "snac_24khz", "layout": "orpheus", "num_samples": 2048}
    return spoken(9, audio=None, tokens=tokens | {"ids": [4096 * s for s in range(7)]})


def _heard_tokens() -> Conversation:
    tokens = {"codec": "encodec_24khz", "layout": "interleaved", "num_samples": 320, "ids": [1, 2]}
    row = asked(id="e1")
    row.messages[0].parts = [Audio(None, transcript="Hello there.", tokens=tokens)]
    return row


def _duplex() -> Conversation:
    row = asked(id="d1")
    row.messages[1].parts = [audio("clips/b.wav", words=[("rain", 0.0, 0.2)], transcript="rain")]
    return row


def test_the_table_is_complete() -> None:
    facts = list_formats()
    assert [f.name for f in facts] == sorted(FORMATS) and len(facts) == 17
    for form in facts:
        assert form.description and len(form.description) < 100
        assert set(form.holds) <= set(DETAILS) and form.can_write == bool(form.suffixes)
        assert set(form.settings) <= set(Options.__dataclass_fields__)
    assert next(f for f in facts if f.name == "vivavoce").holds == tuple(sorted(ALL))


def test_the_docs_have_the_table() -> None:
    text = (Path(__file__).parents[3] / "docs/data-formats.md").read_text(encoding="utf-8")
    for form in list_formats():
        assert f"| `{form.name}` |" in text, f"docs/data-formats.md lacks {form.name}"
        line = next(line for line in text.splitlines() if line.startswith(f"| `{form.name}` |"))
        for variant in form.variants:
            assert f"`{variant}`" in line, f"{form.name}: {variant}"
    kept = text.partition("## What survives")[2].partition("\n## ")[0]
    for form in list_formats():
        if form.can_write and form.name != "vivavoce":
            line = next(line for line in kept.splitlines() if line.startswith(f"| `{form.name}` |"))
            assert [c.strip() for c in line.split("|")[2].split(",")] == list(form.holds), form.name


# JSON files


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_files_in_every_dress(tmp_path: Path, suffix: str) -> None:
    values = [{"a": 1}, {"b": "é好"}, [3]]
    texts = {
        "lines": "\n".join(json.dumps(v, ensure_ascii=False) for v in values),
        "spaced": "\n\n".join(json.dumps(v) for v in values) + "\n\n",
        "windows": "\r\n".join(json.dumps(v) for v in values),
        "bom": "\ufeff" + "\n".join(json.dumps(v) for v in values),
        "list": json.dumps(values),
        "pretty": json.dumps(values, indent=2),
        "object": json.dumps({"x": 1, "rows": values}, indent=1),
        "short object": json.dumps({"rows": values}),
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}.json{suffix}"
        path.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
        assert [i.value for i in json_items(path, key="rows")] == values, name  # type: ignore[union-attr]
    wide = tmp_path / f"wide.jsonl{suffix}"
    data = texts["lines"].encode("utf-16")
    wide.write_bytes(gzip.compress(data) if suffix else data)
    assert [i.value for i in json_items(wide, "utf-16")] == values  # type: ignore[union-attr]
    with pytest.raises(DataError, match="UTF-16"):
        list(json_items(wide))
    with pytest.raises(DataError, match="no encoding"):
        list(json_items(wide, "utf-99"))


@pytest.mark.parametrize(
    ("data", "good", "kinds"),
    [
        (b'{"a": 1}\n{"a": \n{"a": 3}\n', 2, ["json"]),
        (b'{"a": \n{"a": 2}\n{"a": 3}\n', 2, ["json"]),
        (b'{"a": 1}\n{"a": "\xff"}\n{"a": 3}\n', 2, ["encoding"]),
        (b'{"a": "\\ud83d"}\n{"a": 2}\n', 1, ["encoding"]),
        (b'[{"a": 1}, {"a": 2}', 1, ["json"]),
        (b'[{"a": 1}, {"a" 2}, {"a": 3}]', 1, ["json"]),
        (b'[{"a": 1}] {"a": 2}', 1, ["json"]),
        (b'[{"a": "\xff"}, {"a": 2}]', 1, ["encoding"]),
        (b'[1]\n{"a": 2}\n', 2, []),
        (b"", 0, []),
        (b"\n \n", 0, []),
        (b"hello\n", 0, ["json"]),
    ],
)
def test_broken_json_gives_what_is_whole(tmp_path: Path, data: bytes, good: int, kinds: list[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    found = list(json_items(path))
    assert sum(isinstance(i, Item) for i in found) == good
    assert [i.kind for i in found if isinstance(i, BadItem)] == kinds


def test_cut_gz_gives_what_is_whole(tmp_path: Path) -> None:
    lines = b"".join(b'{"a": %d, "x": "%s"}\n' % (i, bytes([97 + i % 26]) * 50) for i in range(2000))
    for name, text in (
        ("x.jsonl.gz", lines),
        ("x.json.gz", b"[" + lines.strip().replace(b"\n", b",\n") + b"]"),
    ):
        packed = gzip.compress(text)
        path = tmp_path / name
        path.write_bytes(packed[: len(packed) // 2])
        found = list(json_items(path))
        assert 100 < sum(isinstance(i, Item) for i in found) < 2000
        assert [i.kind for i in found if isinstance(i, BadItem)] == ["cut off"]
        path.write_bytes(packed[:5])
        assert [i.kind for i in json_items(path) if isinstance(i, BadItem)] == ["cut off"]


# whatever stands in a file, reading does not crash

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99999) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SEEDS: dict[str, dict[str, Any]] = {
    "swift": {
        "messages": [{"role": "user", "content": "<audio>"}],
        "audios": ["a.wav"],
        "tools": "[]",
        "loss": 1,
    },
    "openai": {
        "messages": [
            {"role": "assistant", "content": None, "audio": {"id": "x", "data": "YQ=="}, "weight": 1}
        ]
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "hi", "type": "text"}],
        "speech": "a.wav",
        "chosen": {},
    },
    "ultravox": {"audio": "a.wav", "text": "hi", "continuation": "ho"},
    "salmonn": {"path": "a.wav", "text": "hi", "task": "asr", "Q": "", "expand_wav": []},
    "nemo": {"audio_filepath": "a.wav", "duration": 1.0, "offset": 0.5, "text": "hi", "answer": "x"},
    "lhotse": {
        "id": "c",
        "start": 0,
        "duration": 1.0,
        "channel": 0,
        "supervisions": [{"id": "s", "start": 0, "duration": 1.0, "alignment": {"word": [["a", 0, 1]]}}],
        "recording": {
            "id": "r",
            "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
            "sampling_rate": 8000,
            "num_samples": 8000,
            "duration": 1.0,
        },
    },
    "moshi": {"path": "a.wav", "duration": 1.0},
    "orpheus": {"text": "hi", "audio": "a.wav", "source": "tara"},
    "snac_columns": {"text": "hi", "codes": "# 1 2 3 4 5 6 7", "playtime_sec": 0.05},
    "instruction_speech": {
        "sound_convo": [{"role": "user", "content": "<|sound_start|><|sound_1|><|sound_2|><|sound_end|>"}]
    },
    "parler": {"text": "hi", "text_description": "x", "audio": "a.wav", "snr": 1.0},
    "vivavoce": {
        "id": "x",
        "messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav", "words": []}]}],
    },
}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """A good row of some form with one value, at any depth, replaced or taken away."""
    name = draw(st.sampled_from(sorted(SEEDS)))
    row = json.loads(json.dumps(SEEDS[name]))
    at: Any = row
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        deeper = isinstance(at[key], dict | list) and bool(at[key])
        if deeper and draw(st.booleans()):
            at = at[key]
            continue
        if isinstance(at, dict) and draw(st.booleans()):
            del at[key]
        else:
            at[key] = draw(JSON)
        return name, row


@given(mutated())
def test_odd_rows_never_crash(tmp_path_factory: pytest.TempPathFactory, case: tuple[str, Any]) -> None:
    name, row = case
    folder = tmp_path_factory.getbasetemp() / "odd"
    folder.mkdir(exist_ok=True)
    write_audio(folder / "a.wav", tone(1.0, 300), 8000)
    path = write_lines(folder / "x.jsonl", [row, row])
    for value in FORMATS:
        assert 0 <= get_format(value).detect(path) <= 1
    try:
        found = list(get_format(name).read(path))
    except VivavoceError:
        return
    assert len(found) >= 2 or name == "lhotse"
    for made in rows(found):
        assert made.messages and made.row()


def test_the_docs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    get_format("vivavoce").write(
        [asked(), chat()], make_clips(tmp_path) / "chats.jsonl", Options(audio_root=tmp_path)
    )
    text = (Path(__file__).parents[3] / "docs/data-formats.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "data-formats.md", "exec"), {})
    said = capsys.readouterr().out
    assert "read        2 rows of vivavoce" in said and "swift ['folder'" in said
