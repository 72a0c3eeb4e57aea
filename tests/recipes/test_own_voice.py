"""Recordings in the place of a person's: what is tested is not among them, and the ears can learn them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import check_recordings
import numpy as np
import pytest
from domain import DIGITS, all_items, held_out_facts, held_out_questions
from hearing import read_recordings
from make_tokenizer import build
from record_synthetic import main, texts
from safetensors.torch import load_file

import vivavoce
from vivavoce.audio.files import write_audio

ROOT = Path(__file__).parents[2]


def test_texts_are_digits_and_questions_that_nobody_is_tested_on() -> None:
    said, items = texts(200), all_items()
    never = {i.question for i in items if i.fact in held_out_facts(items)} | held_out_questions(items)
    assert said[:10] == DIGITS and len(set(said)) == 210 and said == texts(200)
    assert not set(said) & never and set(said[10:]) <= {i.question for i in items}


@pytest.mark.skipif(not shutil.which("flite"), reason="needs flite")
def test_what_is_recorded_can_be_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--voice", "flite:rms", "--sentences", "2", "--out", str(tmp_path)])
    main()
    rows = read_recordings(tmp_path, set(build().get_vocab()))
    assert [text for _, text in rows] == texts(2) and all(len(wave) > 3000 for wave, _ in rows)


def test_recordings_are_checked_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(vivavoce.__file__).parent / "bundle" / "nano"
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path), "--tokenizer", str(bundle)])
    for name, text in (("a", "seven"), ("b", "What is 1 plus 1?")):
        write_audio(tmp_path / f"{name}.wav", np.full(8000, 0.1, np.float32), 16_000)
        (tmp_path / f"{name}.txt").write_text(text)
    check_recordings.main()
    said = capsys.readouterr().out
    assert said.startswith("2 recordings, 1 s") and "no zero, one, two" in said and "seven" not in said
    (tmp_path / "b.txt").write_text("blancmange")
    with pytest.raises(SystemExit, match=r"b\.wav: 'blancmange'.*leave the recording out"):
        check_recordings.main()


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng"
)
def test_ears_learn_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, out = tmp_path / "recordings", tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv", ["x", "--voice", "flite:rms", "--sentences", "2", "--out", str(recordings)]
    )
    main()
    about = {"PY": sys.executable, "STEPS": "2", "SCALE": "0.01", "PYTHONPATH": str(ROOT / "src")}
    script = ROOT / "recipes/own_voice/teach.sh"
    subprocess.run([script, recordings, out], env=os.environ | about, check=True, cwd=tmp_path)
    bundle = Path(vivavoce.__file__).parent / "bundle" / "nano"
    before, after = (load_file(folder / "model.safetensors") for folder in (bundle, out / "bundle"))
    assert before.keys() == after.keys()
    moved = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
    assert moved == {"audio_encoder", "connector"}
    model = vivavoce.load(str(out / "bundle"))
    assert model.voices == vivavoce.load("nano").voices and model.transcribe(bundle / "question.wav").text
