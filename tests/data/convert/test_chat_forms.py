"""Chat forms: swift, openai and ShareGPT, both ways, and what each loses."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.convert.cases import (
    asked,
    chat,
    check_ours,
    faults,
    make_clips,
    read_lines,
    rows,
    write_lines,
)

from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import convert, get_format
from vivavoce.data.convert.contract import Options

SWIFT: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "You are kind."},
            {"role": "user", "content": "<audio>What did she say? <audio>"},
            {"role": "assistant", "content": "Hello.", "loss": False},
            {"role": "user", "content": "And <audio>now?"},
            {"role": "assistant", "content": "Good bye.", "loss_scale": 0.3},
        ],
        "audios": ["clips/a.wav", "clips/b.wav", "clips/d.flac"],
        "rejected_response": "I do not know.",
        "channel": "general",
        "solution": ["bye", 3],
    },
    {
        "id": "text",
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": "2", "loss": True},
        ],
    },
    {
        "tools": '[{"type": "function", "function": {"name": "sky"}}]',
        "messages": [
            {"role": "user", "content": "<audio>"},
            {"role": "tool_call", "content": '{"name": "sky", "arguments": {"city": "Hà Nội"}}'},
            {"role": "tool_call", "content": '{"name": "sky", "arguments": {"city": "Huế"}}'},
            {"role": "tool_response", "content": '{"sky": "rain"}'},
            {"role": "assistant", "content": "Rain."},
        ],
        "audios": ["clips/c.wav"],
    },
]


def test_swift_comes_back_whole(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "in.jsonl", SWIFT)
    done = convert(source, tmp_path / "out.jsonl", to="swift")
    assert read_lines(tmp_path / "out.jsonl") == SWIFT
    assert (done.source_format, done.rows_read, done.written.rows, done.num_faults) == ("swift", 3, 3, 0)
    assert not done.written.dropped and not done.written.left_out


def test_swift_is_understood(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "in.jsonl", SWIFT)
    first, second, third = rows(list(get_format("swift").read(source)))
    assert [type(p).__name__ for p in first.messages[1].parts] == ["Audio", "Text", "Audio"]
    assert [m.loss for m in first.messages] == [None, None, 0.0, None, 0.3]
    off = {"messages": [{"role": "assistant", "content": "x", "loss": False, "loss_scale": 0.3}]}
    [unlearned] = rows(list(get_format("swift").read(write_lines(tmp_path / "off.jsonl", [off]))))
    assert unlearned.messages[0].loss == 0.0
    assert first.meta == {
        "rejected_response": "I do not know.",
        "swift": {"channel": "general", "solution": ["bye", 3]},
    }
    assert (first.id, second.id) == ("0", "text")
    assert third.tools[0]["function"]["name"] == "sky"
    assert third.messages[1].more["tool_calls"][0]["function"]["arguments"] == {"city": "Hà Nội"}
    assert third.messages[3].role == "tool"


def test_ours_to_swift_and_back(tmp_path: Path) -> None:
    make_clips(tmp_path)
    done = check_ours(get_format("swift"), chat(), tmp_path / "out.jsonl", tmp_path)
    assert set(done.dropped) == {
        "user transcripts", "reply transcripts", "language", "speaker", "words", "labels", "spans", "loss by kind",
        "source", "license", "weight", "meta",
    }  # fmt: skip
    assert done.clips == 2, "the cut and the recording in memory are files now, the third stays where it is"
    entry = read_lines(tmp_path / "out.jsonl")[0]
    assert entry["audios"] == ["out_audio/r1.flac", "out_audio/r1-2.flac", "clips/d.flac"]


def test_a_literal_mark_is_not_mistaken_for_a_recording(tmp_path: Path) -> None:
    row = Conversation("x", [Message("user", [Text("what is <audio> in HTML?")])])
    done = get_format("swift").write(
        [row, asked()], tmp_path / "o.jsonl", Options(audio_root=make_clips(tmp_path))
    )
    assert done.left_out == {"a text has '<audio>' in it": 1} and done.rows == 1


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (
            {"messages": [{"role": "user", "content": "<audio><audio>"}], "audios": ["clips/a.wav"]},
            "placeholders",
        ),
        ({"messages": [{"role": "user", "content": "hi"}], "audios": ["clips/a.wav"]}, "placeholders"),
        (
            {"messages": [{"role": "user", "content": "<audio>"}], "audios": ["clips/none.wav"]},
            "missing audio",
        ),
        (
            {"messages": [{"role": "user", "content": "<audio>"}], "audios": ["https://x.org/a.wav"]},
            "network address",
        ),
        ({"messages": [{"role": "user", "content": "<image>"}], "images": ["a.png"]}, "other media"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "malformed"),
        ({"messages": [{"role": "tool_call", "content": "sky()"}]}, "malformed"),
        ({"messages": "hello"}, "malformed"),
        ({"messages": [{"role": "user", "content": 3}]}, "malformed"),
        ({"messages": [{"role": "user", "content": "<audio>"}], "audios": [3]}, "malformed"),
        (["a list"], "malformed"),
        (None, "malformed"),
    ],
)
def test_bad_swift_rows_are_faults(tmp_path: Path, row: Any, kind: str) -> None:
    make_clips(tmp_path)
    source = write_lines(tmp_path / "in.jsonl", [row, SWIFT[1]])
    found = list(get_format("swift").read(source))
    assert [f.kind for f in faults(found)] == [kind]
    assert faults(found)[0].row == 0 and faults(found)[0].place == "line 1"
    assert [r.id for r in rows(found)] == ["text"]


def wav(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def openai_rows(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "system", "content": "You are kind."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Listen."},
                        {
                            "type": "input_audio",
                            "input_audio": {"data": wav(folder / "clips/a.wav"), "format": "wav"},
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "audio": {
                        "id": "audio_abc",
                        "expires_at": 1729018505,
                        "data": wav(folder / "clips/b.wav"),
                        "transcript": "Hi.",
                    },
                    "weight": 0,
                },
                {"role": "user", "content": "And now?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
                {"role": "assistant", "content": "It is 42.", "weight": 1},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "parallel_tool_calls": False,
        }
    ]


def test_openai_comes_back_whole(tmp_path: Path) -> None:
    theirs = openai_rows(make_clips(tmp_path))
    source = write_lines(tmp_path / "in.jsonl", theirs)
    done = convert(source, tmp_path / "out.jsonl", to="openai")
    assert done.source_format == "openai"
    assert read_lines(tmp_path / "out.jsonl") == theirs


def test_openai_audio_url_is_read(tmp_path: Path) -> None:
    data = wav(make_clips(tmp_path) / "clips/a.wav")
    part = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
    source = write_lines(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": [part]}]}])
    convert(source, tmp_path / "out.jsonl", from_="openai", to="openai")
    written = read_lines(tmp_path / "out.jsonl")[0]["messages"][0]["content"]
    assert written == [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]


def test_ours_to_openai_and_back(tmp_path: Path) -> None:
    make_clips(tmp_path)
    done = check_ours(get_format("openai"), chat(), tmp_path / "out.jsonl", tmp_path)
    assert done.clips == 0
    assert {"user transcripts", "spans", "loss numbers", "loss by kind", "meta"} <= set(done.dropped)
    assert "reply transcripts" not in done.dropped
    assert '"format": "wav"' in (tmp_path / "out.jsonl").read_text(), (
        "FLAC is written as WAV, which all services take"
    )


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"role": "assistant", "audio": {"id": "audio_1"}}, "no sound"),
        ({"role": "assistant", "audio": {"id": "audio_1", "data": "?!"}}, "malformed"),
        (
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}],
            },
            "no sound",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "malformed"),
        (
            {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "http://x/a.wav"}}]},
            "network address",
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "malformed"),
    ],
)
def test_bad_openai_rows_are_faults(tmp_path: Path, message: Any, kind: str) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"messages": [message]}])
    assert [f.kind for f in faults(list(get_format("openai").read(source)))] == [kind]


LLAMA_FACTORY = [
    {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "<audio>What is it?"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
            {"from": "observation", "value": "42"},
            {"from": "gpt", "value": "It is 42."},
            {"from": "human", "value": "<audio>"},
        ],
        "audios": ["clips/a.wav", "clips/b.wav"],
        "chosen": {"from": "gpt", "value": "Fine."},
        "rejected": {"from": "gpt", "value": "No."},
        "tools": '[{"name": "f"}]',
        "category": "x",
    }
]
LLAVA = [
    {
        "id": "l1",
        "speech": "clips/a.wav",
        "conversations": [
            {"from": "human", "value": "<speech>\nPlease answer."},
            {"from": "gpt", "value": "Yes."},
        ],
    },
    {"id": "l2", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
]
SOUND = [
    {
        "id": "s1",
        "sound": "clips/d.flac",
        "conversations": [
            {"from": "human", "value": "<sound>What is it?"},
            {"from": "gpt", "value": "A tone."},
        ],
        "ori_sound": "x.wav",
    }
]
NEMO_TURNS = [
    {
        "id": "convo_1",
        "conversations": [
            {"value": "Summarize the following.", "from": "User", "type": "text"},
            {"value": "clips/a.wav", "from": "User", "type": "audio", "duration": 0.5},
            {"value": "I am glad to.", "from": "Assistant", "type": "text"},
            {
                "value": "clips/c.wav",
                "from": "User",
                "type": "audio",
                "duration": 0.25,
                "offset": 0.25,
                "text": "and",
            },
            {"value": "clips/b.wav", "from": "Assistant", "type": "audio", "duration": 0.25},
            {"value": "One.", "from": "User", "type": "text"},
            {"value": "Two.", "from": "User", "type": "text"},
        ],
        "custom": {"_skipme": False},
    }
]


@pytest.mark.parametrize(
    ("variant", "theirs"),
    [("audios", LLAMA_FACTORY), ("speech", LLAVA), ("sound", SOUND), ("nemo", NEMO_TURNS)],
)
def test_sharegpt_comes_back_whole(tmp_path: Path, variant: str, theirs: list[Any]) -> None:
    source = write_lines(make_clips(tmp_path) / "in.jsonl", theirs)
    done = convert(source, tmp_path / "out.jsonl", to="sharegpt", options={"variant": variant})
    assert done.source_format == "sharegpt" and done.num_faults == 0
    assert read_lines(tmp_path / "out.jsonl") == theirs
    convert(source, tmp_path / "out.json", to="sharegpt", options={"variant": variant})
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == theirs


def test_sharegpt_names_and_system_are_understood(tmp_path: Path) -> None:
    theirs = [
        {
            "system": "Be kind.",
            "conversations": [{"from": "user", "value": "hi"}, {"from": "assistant", "value": "ho"}],
        }
    ]
    source = write_lines(tmp_path / "in.jsonl", theirs)
    convert(source, tmp_path / "out.jsonl", to="sharegpt")
    turns = read_lines(tmp_path / "out.jsonl")[0]["conversations"]
    assert [t["from"] for t in turns] == ["system", "human", "gpt"]


def test_nemo_turns_keep_texts_apart_and_spans(tmp_path: Path) -> None:
    source = write_lines(make_clips(tmp_path) / "in.jsonl", NEMO_TURNS)
    [row] = rows(list(get_format("sharegpt").read(source)))
    assert [m.role for m in row.messages] == ["user", "assistant", "user", "assistant", "user", "user"]
    assert [(p.start_s, p.end_s, p.transcript) for p in row.messages[2].audios] == [(0.25, 0.5, "and")]


@pytest.mark.parametrize("variant", ["audios", "nemo"])
def test_ours_to_sharegpt_and_back(tmp_path: Path, variant: str) -> None:
    make_clips(tmp_path)
    row = chat()
    if variant == "nemo":
        row.messages = [m for m in row.messages if m.role != "tool" and not m.more.get("tool_calls")]
    done = check_ours(get_format("sharegpt"), row, tmp_path / "out.jsonl", tmp_path, variant=variant)
    assert ("spans" in done.dropped) == (variant == "audios")
    assert ("user transcripts" in done.dropped) == (variant == "audios")


def test_sharegpt_of_one_recording_leaves_others_out(tmp_path: Path) -> None:
    make_clips(tmp_path)
    two = Conversation("two", [Message("user", [Audio("clips/a.wav"), Audio("clips/b.wav")])])
    written = get_format("sharegpt").write(
        [two, asked()], tmp_path / "o.jsonl", Options(audio_root=tmp_path, variant="speech")
    )
    assert written.left_out == {"several recordings in a row of the variant speech": 1}
    assert written.rows == 1 and "two" in written.examples[0]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"conversations": [{"from": "human", "value": "<speech> hi"}]}, "placeholders"),
        ({"conversations": [{"from": "martian", "value": "hi"}]}, "malformed"),
        ({"conversations": [{"from": "human"}]}, "malformed"),
        ({"conversations": [{"from": "User", "type": "video", "value": "x"}]}, "malformed"),
        ({"conversations": [{"from": "User", "type": "audio", "value": "a.wav", "offset": -1}]}, "malformed"),
        ({"conversations": []}, "malformed"),
        ({"conversations": [{"from": "human", "value": "hi"}], "tools": "{"}, "malformed"),
    ],
)
def test_bad_sharegpt_rows_are_faults(tmp_path: Path, row: Any, kind: str) -> None:
    source = write_lines(tmp_path / "in.jsonl", [row])
    assert [f.kind for f in faults(list(get_format("sharegpt").read(source)))] == [kind]
