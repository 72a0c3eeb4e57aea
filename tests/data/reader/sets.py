"""Small sets in every form that the reader takes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.manifest import write_set

RATE = 8000


def waveform(number: int, num_samples: int = 400) -> np.ndarray:
    """Noise that tells the row; multiples of 2**-15, so that 16 bits hold it."""
    rng = np.random.default_rng(number)
    return (rng.integers(-3000, 3000, num_samples) / 32768.0).astype(np.float32)


def flac(number: int, num_samples: int = 400) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform(number, num_samples), RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def row(number: int, prefix: str = "r", **more: Any) -> Conversation:
    """A question by voice and its answer."""
    part = Audio(0, transcript=f"question {number}", speaker=f"s{number % 7}")
    messages = [Message("user", [part]), Message("assistant", [Text(f"answer {number}")])]
    return Conversation(
        f"{prefix}{number}", messages, [{"bytes": flac(number), "path": f"{number}.flac"}], **more
    )


def text_row(number: int, prefix: str = "t", **more: Any) -> Conversation:
    messages = [Message("user", [Text(f"q{number}")]), Message("assistant", [Text(f"a{number}")])]
    return Conversation(f"{prefix}{number}", messages, **more)


def text_set(folder: Path, count: int, shard_rows: int = 10, prefix: str = "t", **more: Any) -> Path:
    """A finished set of text rows; made fast."""
    write_set(folder, [text_row(i, prefix, **more) for i in range(count)], shard_rows=shard_rows)
    return folder


def sound_set(folder: Path, count: int, shard_rows: int = 10, prefix: str = "r") -> Path:
    write_set(folder, [row(i, prefix) for i in range(count)], shard_rows=shard_rows)
    return folder


def lines(path: Path, rows: list[Conversation]) -> Path:
    path.write_text("".join(json.dumps(r.row()) + "\n" for r in rows), encoding="utf-8")
    return path
