"""Invented recordings and rows for the tests of data formats, and how rows are compared."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import write_audio
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert.contract import Format, Options, RowFault, Written
from vivavoce.data.recordings import encode_flac, read_waveform

RATE = 8000


def tone(seconds: float, hz: float, rate: int = RATE) -> np.ndarray:
    """A quiet tone of 16-bit values, so that WAV and FLAC keep it exactly; float32 [S]."""
    time = np.arange(round(seconds * rate)) / rate
    return (np.round(8000 * np.sin(2 * np.pi * hz * time)) / 32768).astype(np.float32)


def make_clips(folder: Path) -> Path:
    """Recordings ``clips/{a,b,c}.wav`` and ``clips/d.flac`` of 0.5, 0.25, 0.75 and 0.5 s."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    for name, seconds, hz in (
        ("a.wav", 0.5, 300),
        ("b.wav", 0.25, 500),
        ("c.wav", 0.75, 700),
        ("d.flac", 0.5, 900),
    ):
        write_audio(clips / name, tone(seconds, hz), RATE)
    return folder


def write_lines(path: Path, rows: list[Any]) -> Path:
    """JSON lines, gzipped if the name says so."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def read_lines(path: Path) -> list[Any]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def audio(name: str = "clips/a.wav", **known: Any) -> Audio:
    return Audio(name, **known)


def chat(**known: Any) -> Conversation:
    """A conversation with every detail that a row can have."""
    user = Audio(
        "clips/c.wav",
        0.25,
        0.5,
        transcript="what is it",
        language="en",
        speaker="s1",
        words=[("what", 0.0, 0.1), ("is", 0.1, 0.15), ("it", 0.15, 0.25)],
        labels={"emotion": "happy", "gender": "female"},
    )
    reply = Audio(
        {"bytes": encode_flac(tone(0.25, 440), RATE), "path": "r.flac"}, transcript="rain", speaker="v1", language="en",
        words=[("rain", 0.05, 0.2)],
    )  # fmt: skip
    call = {"type": "function", "function": {"name": "sky", "arguments": {"city": "Hanoi"}}}
    messages = [
        Message("system", [Text("You are kind.")]),
        Message("user", [Text("Listen: "), user]),
        Message("assistant", [], 0.0, {"tool_calls": [call]}),
        Message("tool", [Text('{"sky": "rain"}')]),
        Message("assistant", [Text("Rain is likely."), reply], {"text": 1.0, "audio": 0.5}),
        Message("user", [Audio("clips/d.flac", transcript="oh no")], None, {"name": "ann"}),
        Message("assistant", [Text("Take a coat.")], 0.5),
    ]
    tool = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}}
    row = Conversation(
        "r1",
        messages,
        tools=[tool],
        source="invented",
        license="cc0-1.0",
        weight=2.0,
        meta={"topic": "weather"},
    )
    for name, value in known.items():
        setattr(row, name, value)
    return row


def asked(**known: Any) -> Conversation:
    """One spoken question and one typed answer."""
    part = Audio("clips/a.wav", transcript="what is it", language="en", speaker="s1")
    row = Conversation(
        "q1", [Message("user", [part]), Message("assistant", [Text("It rains.")])], task="continue"
    )
    for name, value in known.items():
        setattr(row, name, value)
    return row


def clip(number: int = 0, **known: Any) -> Conversation:
    """One recording of which everything is known."""
    part = Audio(
        "clips/c.wav", 0.25, 0.75, transcript="one two", language="en", speaker="s1",
        words=[("one", 0.05, 0.2), ("two", 0.25, 0.4)], labels={"gender": "female", "snr": 21.5},
    )  # fmt: skip
    for name, value in known.items():
        setattr(part, name, value)
    return Conversation(f"clip-{number}", [Message("user", [part])], task="asr")


def spoken(number: int = 0, **known: Any) -> Conversation:
    """A text and its recording by the assistant."""
    part = Audio("clips/b.wav", transcript="Hello there.", speaker="tara")
    for name, value in known.items():
        setattr(part, name, value)
    messages = [Message("user", [Text("Hello there.")]), Message("assistant", [part])]
    return Conversation(f"say-{number}", messages, task="tts")


def there_and_back(
    form: Format, rows: list[Conversation], path: Path, root: Path, **options: Any
) -> tuple[list[Any], Written]:
    """Write rows and read them again."""
    written = form.write(rows, path, Options(audio_root=root, **options))
    options.pop("overwrite", None)
    return list(form.read(path, Options(**options))), written


def plain_row(row: Conversation) -> dict[str, Any]:
    """A row without its recordings, neighbouring texts joined."""
    made = row.row()
    made.pop("audios", None)
    for message in made["messages"]:
        if isinstance(message["content"], list):
            parts: list[dict[str, Any]] = []
            for part in message["content"]:
                part.pop("audio", None)
                if parts and part["type"] == parts[-1]["type"] == "text":
                    parts[-1]["text"] += part["text"]
                else:
                    parts.append(part)
            message["content"] = parts
    return made


def check_ours(
    form: Format, row: Conversation, path: Path, root: Path, ids: bool = True, **options: Any
) -> Written:
    """Prove that a row comes back but for what the format says is lost, and that this is counted."""
    before = row.content_hash()
    read, written = there_and_back(form, [row], path, root, **options)
    assert row.content_hash() == before, "writing must not change rows"
    assert written.rows == 1 and not written.left_out
    expected = form.survivor(row, Options(**options))
    heard = [read_waveform(p, row, None, root) for p in row.audio_parts() if p.audio is not None]
    assert len(read) == 1 and isinstance(read[0], Conversation), read
    base = path if path.is_dir() else path.parent
    again = [read_waveform(p, read[0], None, base) for p in read[0].audio_parts() if p.audio is not None]
    kept = [p.audio is not None for p in expected.audio_parts()]
    if all(kept):
        assert len(heard) == len(again)
        for (wave, rate), (other, other_rate) in zip(heard, again, strict=True):
            assert rate == other_rate
            np.testing.assert_array_equal(wave, other)
    first, second = plain_row(read[0]), plain_row(expected)
    if not ids:
        first["id"] = second["id"]
    assert first == second
    changed = {name for name, value in plain_row(row).items() if value != second.get(name)}
    assert bool(changed) <= bool(written.dropped), f"{changed} changed, and nothing was said to be dropped"
    return written


def faults(found: list[Any]) -> list[RowFault]:
    return [f for f in found if isinstance(f, RowFault)]


def rows(found: list[Any]) -> list[Conversation]:
    return [r for r in found if isinstance(r, Conversation)]
