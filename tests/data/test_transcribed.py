"""Recordings with transcripts: rows or sound files with a .txt beside each; nothing else is a set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import DataError
from vivavoce.data.transcribed import find_recordings

RATE = 24_000


def write_rows(folder: Path, transcript: str | None) -> Path:
    """One row of one second."""
    write_audio(folder / "0.wav", np.full(RATE, 0.1, np.float32), RATE)
    part = {"type": "audio", "audio": "0.wav"} | ({"transcript": transcript} if transcript else {})
    row = {"id": "first", "task": "tts", "messages": [{"role": "assistant", "content": [part]}]}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "rows.jsonl"


def test_rows_are_a_set(tmp_path: Path) -> None:
    (found,) = find_recordings(write_rows(tmp_path, "Good morning."))
    assert (found.name, found.transcript, found.start_s, found.end_s) == ("first", "Good morning.", 0.0, None)


def test_sets_without_transcripts_or_without_anything_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 recordings and no transcript"):
        find_recordings(write_rows(tmp_path, None))
    with pytest.raises(DataError, match="does not exist"):
        find_recordings(tmp_path / "nothing")


def test_sound_files_with_texts_beside_them_are_a_set(tmp_path: Path) -> None:
    for name in ("b", "a", "without"):
        write_audio(tmp_path / f"{name}.wav", np.full(RATE, 0.1, np.float32), RATE)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("Grüß Gott.\n", encoding="utf-8")
    found = find_recordings(tmp_path)
    assert [recording.name for recording in found] == ["a.wav", "b.wav"]
    assert found[0].transcript.strip() == "Grüß Gott."
