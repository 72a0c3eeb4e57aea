"""What the gate is set on: speech that neither training nor tests have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tune_gate
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


def test_each_language_has_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two folders: the first all read surely and rightly but one, the second as the other language and hardly."""
    heard = {
        "a": [("one", "one", -0.1), ("two", "ten", -0.1), ("", "", -np.inf), ("", "one", -2.7)],
        "b": [("eins", "eins", -1.5), ("", "", -np.inf)],
    }
    asked: list[tuple[str, bool]] = []

    def listened(model: object, folder: Path, sounds: bool) -> list[tuple[str, str, float]]:
        asked.append((folder.name, sounds))
        return heard[folder.name]

    processor = SimpleNamespace(voice_for=lambda text: "german" if text == "eins" else None)
    monkeypatch.setattr(tune_gate, "listen", listened)
    monkeypatch.setattr(tune_gate.vivavoce, "load", lambda name: SimpleNamespace(processor=processor))
    monkeypatch.setattr("sys.argv", ["tune_gate.py", "--model", "nano", "--speech", "a", "b"])
    tune_gate.main()
    said = capsys.readouterr().out
    assert asked == [("a", True), ("b", False)]  # sounds are the same in both
    assert said.startswith(
        "nothing read: 0 questions, 2 others\nread as the first language: 2 questions, 1 others"
    )
    first, german = said.split("read as german: 1 questions, 0 others")
    assert "floor -3: 1 right, 1 wrong, 0 refused; 0 others refused, 1 not" in first
    assert "floor -1.2: 1 right, 1 wrong, 0 refused; 1 others refused, 0 not" in first
    assert (
        "floor -1.7: 1 right, 0 wrong, 0 refused" in german
        and "floor -1.4: 0 right, 0 wrong, 1 refused" in german
    )


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
