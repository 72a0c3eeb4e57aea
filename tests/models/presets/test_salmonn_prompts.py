"""Prompt files: what is kept, what is drawn, what becomes an instruction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.goldens.salmonn_parts import STORED_WHOLE, make_parts

from vivavoce.base.errors import ConfigError
from vivavoce.models.presets.salmonn.preset import SALMONN
from vivavoce.models.presets.salmonn.prompts import (
    INSTRUCTIONS,
    default_prompts,
    instruction,
    published_prompt,
    read_prompts,
)

FILE = {
    "asr": ["<Speech><SpeechHere></Speech> What is said?", "<Speech><SpeechHere></Speech> Write it down."],
    "QA": "<Speech><SpeechHere></Speech> {}",
    "story": ["Tell a story.", "<Speech><SpeechHere></Speech> Tell one."],
    "text_only": ["What is new?"],
    "before": "Hear this: <Speech><SpeechHere></Speech> Well?",
}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "prompts.json", FILE)


def test_entries_without_a_place_for_a_clip_are_dropped_and_counted(file: Path) -> None:
    prompts = read_prompts(file)
    assert prompts.dropped == 2 and "text_only" not in prompts.tasks
    assert prompts.tasks["story"] == ("<Speech><SpeechHere></Speech> Tell one.",)
    assert len(prompts.tasks["asr"]) == 2


def test_the_seed_draws(file: Path) -> None:
    prompts = read_prompts(file)
    drawn = [prompts.draw("asr", seed) for seed in range(40)]
    assert drawn == [prompts.draw("asr", seed) for seed in range(40)]
    assert set(drawn) == set(FILE["asr"])


def test_the_question_goes_into_the_braces(file: Path) -> None:
    prompts = read_prompts(file)
    assert prompts.draw("QA", 0, "Is it {loud}?") == "<Speech><SpeechHere></Speech> Is it {loud}?"
    assert prompts.draw("asr", 0, "unused") in FILE["asr"]


def test_an_unknown_task_is_refused_with_the_known_ones(file: Path) -> None:
    with pytest.raises(ConfigError, match="'sing'; there are prompts for: QA, asr, before, story"):
        read_prompts(file).draw("sing", 0)


def test_instructions_are_what_follows_the_clip(file: Path) -> None:
    assert read_prompts(file).instructions() == {"asr": "What is said?", "QA": "{}", "story": "Tell one."}
    assert instruction("<SpeechHere>") == ""
    assert instruction("<SpeechHere><SpeechHere> both") is None


def test_our_own_instructions_survive_the_published_form() -> None:
    assert default_prompts().instructions() == INSTRUCTIONS
    assert all(instruction(published_prompt(text)) == text for text in INSTRUCTIONS.values())
    assert {"asr", "QA", "audiocaption", "task1_emotional_trajectory"} <= INSTRUCTIONS.keys()


@pytest.mark.parametrize(
    ("content", "words"), [(["a"], "a list"), ({"asr": 3}, "'asr'"), ({"asr": [None]}, "'asr'")]
)
def test_other_files_are_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_prompts(write(tmp_path / "prompts.json", content))
    (tmp_path / "prompts.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prompts(tmp_path / "prompts.json")


def test_prompts_come_into_the_config(file: Path, tmp_path: Path) -> None:
    parts = make_parts(STORED_WHOLE, tmp_path / "parts")
    folder = parts.checkpoint("checkpoint_layout.pth", tmp_path / "it")
    plain = SALMONN.read(folder, parts.sources, with_parts=False)
    assert plain.model.config.audio_in.prompts == INSTRUCTIONS
    assert plain.model.config.audio_in.transcribe_prompt == INSTRUCTIONS["asr"]
    found = SALMONN.read(folder, replace(parts.sources, prompts=str(file)), with_parts=False)
    ears = found.model.config.audio_in
    assert ears.prompts == {**INSTRUCTIONS, "asr": "What is said?", "QA": "{}", "story": "Tell one."}
    assert ears.transcribe_prompt == "What is said?"
    notes = " ".join(found.notes)
    assert "2 prompts without <SpeechHere>" in notes and "before the clip were left out: before" in notes
