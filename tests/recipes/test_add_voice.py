"""A new voice: only voices change, old ones can stay as they were, a stopped run ends the same, faults are named."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import add_voice
import numpy as np
import pytest
import torch
from aligning import PhoneAligner
from safetensors.torch import load_file
from voice_rows import prepare, trim
from voice_training import Lesson, Settings, draw_alike, lay_out, replayed

import vivavoce
from vivavoce.audio.files import read_audio, write_audio
from vivavoce.base.errors import ConfigError, DataError, TrainingError
from vivavoce.inference.aligned import AlignedSpeaker
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.voice.tables import with_voice
from vivavoce.models.voice.teaching import Teacher

BUNDLE = Path(vivavoce.__file__).parent / "bundle" / "nano"
SETTINGS = Settings(steps=4, batch=2, replay=1, evaluate_every=2)
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """What the bundle says, as if somebody else had said it."""
    model, processor = load_speech_lm("nano", device="cpu")
    speaker = AlignedSpeaker(model, processor.tokenizer, processor.codec_out)
    return replayed(speaker, ["good morning", "seven"], 4, seed=0)


def make_lesson(
    rows: list[dict[str, Any]], folder: Path, settings: Settings = SETTINGS
) -> tuple[Lesson, Any]:
    folder.mkdir(exist_ok=True)
    model, processor = load_speech_lm("nano", device="cpu")
    voice = with_voice(model.voice, "new")
    processor = add_voice.add_to_config(model, processor, voice)
    laid = [lay_out(Teacher(voice, processor.tokenizer), row, len(voice.config.voices) - 1) for row in rows]
    old = [replace(laid[0], voice=0)]
    return Lesson(model, processor.tokenizer, laid[1:], laid[:1], old, settings, folder), processor


def test_what_hears_and_answers_stays_bit_equal(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    lesson, processor = make_lesson(rows, tmp_path)
    lesson.run()
    lesson.model.half().save_pretrained(tmp_path / "bundle")
    processor.save_pretrained(tmp_path / "bundle")
    before, after = (load_file(folder / "model.safetensors") for folder in (BUNDLE, tmp_path / "bundle"))
    assert all(torch.equal(after[key], before[key]) for key in before if not key.startswith("voice."))
    assert set(after) == set(before)
    assert not torch.equal(after["voice.depth_in.weight"], before["voice.depth_in.weight"])
    made = vivavoce.load(tmp_path / "bundle")
    assert made.voices == ("default", "awb", "german", "new")
    assert made.say("good morning", voice="new").audio.size > 0
    assert made.chat("what is two plus two").text == vivavoce.load("nano").chat("what is two plus two").text
    with pytest.raises(ConfigError, match="default, awb, german, new"):
        made.say("good morning", voice="newer")


def test_rows_alone_leave_the_old_voices_bit_equal(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    lesson, _ = make_lesson(rows, tmp_path, replace(SETTINGS, learns="row"))
    old = {key: value.clone() for key, value in lesson.voice.state_dict().items()}
    lesson.run()
    for key, value in lesson.voice.state_dict().items():
        if key in ("voice_embedding.weight", "durations.voice.weight"):
            assert torch.equal(value[:-1], old[key][:-1]) and not torch.equal(value[-1], old[key][-1])
        else:
            assert torch.equal(value, old[key]), key


def test_a_stopped_run_ends_as_one_that_never_stopped(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    whole, _ = make_lesson(rows, tmp_path / "whole")
    whole.run()
    make_lesson(rows, tmp_path / "parts")[0].run(stop_at=2)
    again, _ = make_lesson(rows, tmp_path / "parts")
    again.run()
    for key, value in whole.voice.state_dict().items():
        assert torch.equal(again.voice.state_dict()[key], value), key
    with pytest.raises(TrainingError, match="seed"):
        make_lesson(rows, tmp_path / "parts", replace(SETTINGS, seed=1))[0].run()


def test_teaching_stops_after_two_falls_and_keeps_the_best(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, steps=50, batch=1, evaluate_every=1, patience=2)
    lesson, _ = make_lesson(rows, tmp_path, settings)
    before = (
        len(lesson.voice.config.voices) + 1
    )  # each old voice and their mean as a start, then the one chosen
    losses = iter([*[5.0] * before, 3.0, 3.5, 3.4, 3.3, 3.2])
    kept: list[torch.Tensor] = []

    def held_out(rows: Any = None) -> float:
        kept.append(lesson.voice.depth_in.weight.detach().clone())
        return next(losses)

    monkeypatch.setattr(lesson, "held_out", held_out)
    lesson.run()
    assert lesson.step == 5 and lesson.done
    assert torch.equal(lesson.voice.depth_in.weight, kept[before])  # the weights that got 3.0


def test_rows_of_like_length_are_drawn_and_each_can_be() -> None:
    rows: Any = [SimpleNamespace(tokens=torch.zeros(n)) for n in range(10, 90)]
    rng, seen = random.Random(0), set()
    for _ in range(400):
        lengths = [len(row.tokens) for row in draw_alike(rng, rows, 3, rng.random())]
        assert len(lengths) == 3 and max(lengths) - min(lengths) < 10
        seen.update(lengths)
    assert seen == set(range(10, 90))
    assert draw_alike(rng, [], 3, 0.5) == [] and len(draw_alike(rng, rows[:1], 3, 0.9)) == 3


def write_set(folder: Path, items: list[tuple[np.ndarray, int, str | None]]) -> Path:
    lines = []
    for number, (wave, rate, transcript) in enumerate(items):
        write_audio(folder / f"{number}.wav", wave, rate)
        part = {"type": "audio", "audio": f"{number}.wav"} | (
            {"transcript": transcript} if transcript else {}
        )
        row = {"id": str(number), "task": "tts", "messages": [{"role": "assistant", "content": [part]}]}
        lines.append(json.dumps(row) + "\n")
    path = folder / "rows.jsonl"
    path.write_text("".join(lines))
    return path


def tone(seconds: float, rate: int) -> np.ndarray:
    return (0.1 * np.sin(np.arange(round(seconds * rate)) * 0.1)).astype(np.float32)


def test_why_recordings_are_put_aside_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    path = write_set(
        tmp_path,
        [
            (tone(1.0, 8000), 8000, "telephone"),
            (tone(21.0, 16_000), 16_000, "very long"),
            (tone(1.0, 24_000), 24_000, "привет"),
            (tone(1.0, 24_000), 24_000, "..."),
            (tone(0.2, 24_000), 24_000, "far too many words for so little sound as this"),
        ],
    )
    codec = vivavoce.load("nano").processor.codec_out
    with pytest.raises(DataError) as caught:
        prepare(path, codec, (0, 1, 2, 2, 1, 2, 2), None, seed=0)
    for reason in (
        "0 s of usable",
        "below 16000 Hz",
        "longer than 20",
        "without phones",
        "no words",
        "do not fit",
    ):
        assert reason in str(caught.value)


def test_names_that_urls_garble_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="small letters"):
        add_voice.teach(argparse.Namespace(name="My Voice", out=tmp_path))


def test_silence_around_is_cut_to_a_fifth_of_a_second() -> None:
    wave, timed = trim(np.arange(300.0), 100, [("pau", 1.0), ("ah", 1.5), ("pau", 3.0)])
    assert timed == [("pau", pytest.approx(0.2)), ("ah", pytest.approx(0.7)), ("pau", pytest.approx(0.9))]
    assert wave[0] == 80 and len(wave) == 90


@flite
def test_phones_are_found_where_the_synthesizer_put_them(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    text, path = "please show me the frozen river", tmp_path / "a.wav"
    command = ["flite", "-voice", "rms", "-psdur", "-t", text, "-o", str(path)]
    timed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    aligner = PhoneAligner(text.split())
    found = aligner.align(text.split(), *read_audio(path))
    assert found is not None
    right = {p: float(t) for p, _, t in (item.partition(":") for item in timed)}
    for phone in ("sh", "iy", "f", "r", "v"):  # the last of each
        end = [t for p, t in found if p == phone][-1]
        assert abs(end - right[phone]) < 0.06, phone
    assert aligner.align(text.split(), *read_audio(path)) == found  # nothing is left of the first time


def test_voices_of_other_languages_are_replayed_in_their_own_words() -> None:
    model, processor = load_speech_lm("nano", device="cpu")
    lexicons = processor.lexicons
    speaker = AlignedSpeaker(model, processor.tokenizer, processor.codec_out, lexicons=lexicons)
    said = replayed(speaker, ["good morning"], 12, seed=0)
    german = [row["text"].split() for row in said if row["voice"] == "german"]
    assert len(german) == 4 and all(
        word in lexicons["german"].own_words() for words in german for word in words
    )
    assert {row["voice"] for row in said} == set(model.voice.config.voices)
