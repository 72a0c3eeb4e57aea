"""What the gate is set on: speech that neither training nor tests have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_speech import write_shards
from sounds import NOISES
from speech_plans import HELD_OUT_VOICES, TUNE_VOICES, VARIANTS, plan_tune
from tune_gate import listen

from vivavoce.inference import turn
from vivavoce.inference.joint import Reading
from vivavoce.inference.reply import Transcript


def sounded(job: dict) -> tuple[dict, np.ndarray]:
    """Instead of a synthesizer."""
    return job, np.full(4000, 900, np.int16)


def test_its_voices_are_of_neither_training_nor_tests() -> None:
    rows = plan_tune()
    assert {row["voice"] for row in rows} <= set(TUNE_VOICES)
    assert not {voice.partition("+")[2] for voice in (*TUNE_VOICES, *HELD_OUT_VOICES)} & set(VARIANTS) - {""}
    assert not set(TUNE_VOICES) & set(HELD_OUT_VOICES)
    assert rows == plan_tune() and len(rows) == 480
    assert all((row["split"] == "tune") == bool(row["answer"]) for row in rows)


def test_what_was_read_and_how_surely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in reads the first clip surely, the second hardly, and nothing at all after."""
    write_shards(plan_tune(), sounded, tmp_path, 1)
    readings = [Reading((1,), -0.5, -0.1), Reading((2,), -0.5, -2.5)]

    class Model:
        def transcribe(self, source: tuple[np.ndarray, int]) -> Transcript:
            text = "yes" if readings and turn.read_jointly() else ""
            return Transcript(text, bool(text), 0.0)

    monkeypatch.setattr(turn, "read_jointly", lambda: readings.pop(0))
    heard = listen(Model(), tmp_path)
    assert [row[1:] for row in heard[:3]] == [("yes", -0.5), ("yes", -2.5), ("", -np.inf)]
    assert [wanted for wanted, *_ in heard[:480]] == [
        row["text"] if row["answer"] else "" for row in plan_tune()
    ]
    assert {wanted for wanted, *_ in heard[480:]} == {""} and len(heard) == 480 + 60 + 10 * len(NOISES)
