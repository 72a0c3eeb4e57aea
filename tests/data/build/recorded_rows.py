"""Rows with recordings of made voices, for tests of builders that change recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio, write_audio
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.recordings import encode_flac

RATE = 16_000


def voice(seconds: float, pitch: float = 140.0, rate: int = RATE) -> np.ndarray:
    """Harmonics whose level goes up and down with pauses between; peak 0.3."""
    at = np.arange(max(1, round(seconds * rate))) / rate
    wave = sum(np.sin(2 * np.pi * pitch * k * at + 3 * np.sin(3 * at) + k) / k for k in range(1, 20))
    wave = wave * np.clip(np.sin(2 * np.pi * 2 * at + 0.5), 0, 1)
    return (0.3 * wave / max(1e-9, np.abs(wave).max())).astype(np.float32)


def recorded(
    number: int,
    wave: np.ndarray | None = None,
    answer: str | None = "Rain is likely.",
    rate: int = RATE,
    **more: Any,
) -> Conversation:
    """A spoken question with a typed answer.

    Args:
        number: In its id.
        wave: float32 [S]; None makes one.
        answer: Of the assistant; None for no such turn.
        rate: Hz.
        more: Of the audio part.
    """
    wave = voice(1.5, 100 + 7 * number % 120, rate) if wave is None else wave
    part = Audio(
        0, **{"transcript": f"is rain number {number} likely", "language": "en", "speaker": "a", **more}
    )
    messages = [Message("user", [part])]
    if answer is not None:
        messages.append(Message("assistant", [Text(answer)]))
    made = Conversation(
        f"row/{number}", messages, source="made up", license="cc0-1.0", meta={"number": number}
    )
    made.audios = [{"bytes": encode_flac(wave, rate)}]
    return made


def heard(row: Conversation, message: int = 0, part: int = 0) -> tuple[np.ndarray, Audio]:
    """What is in a recording of a row, whole, and its part."""
    found = row.messages[message].parts[part]
    assert isinstance(found, Audio) and isinstance(found.audio, int)
    assert found.start_s == 0 and found.end_s is None
    return read_audio(row.audios[found.audio]["bytes"])[0], found


def save_voices(folder: Path, count: int = 4, seconds: float = 2.0, rate: int = RATE) -> Path:
    """A folder with a voice a file."""
    (folder / "more").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        write_audio(folder / ("more" if i % 2 else "") / f"{i}.wav", voice(seconds, 90 + 37 * i, rate), rate)
    (folder / "readme.txt").write_text("no recording")
    return folder
