"""trajectory_small: words tell no mood, no voice or sentence is on both sides, and its small form is evaluated."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from tests.data.build.stand_ins import needs

import vivavoce
from vivavoce.cli.main import main
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import load_pipeline
from vivavoce.data.build.run import build
from vivavoce.data.build.speech.moods import MOODS
from vivavoce.data.build.texts.trajectory import describe
from vivavoce.data.conversation import Audio, Conversation, Message, Text, read_conversation
from vivavoce.data.manifest import write_set
from vivavoce.data.recordings import encode_flac, read_waveform
from vivavoce.data.rows import RowFile
from vivavoce.models.loading import load_speech_lm
from vivavoce.tokens.trajectory import (
    EMOTIONS,
    QUESTIONS,
    format_trajectory,
    parse_trajectory,
    read_emotion,
)
from vivavoce.training.config import SetSettings, TrainConfig
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train
from vivavoce.training.world import World

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "trajectory_small"
SPLITS = ("learned", "held_out")
PITCHES = {"sad": 110.0, "happy": 260.0}  # Hz


def load(name: str) -> ModuleType:
    """A script of the recipe."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load("make_dialogues")


@pytest.fixture(scope="module")
def texts(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    maker.write(folder, repeats=1, held_out_repeats=1)
    return folder


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m["content"], m["emotion"]) for m in row["messages"] if m["role"] == "user"]


@pytest.mark.parametrize("name", SPLITS)
def test_every_sentence_stands_with_every_mood_equally_often(name: str, texts: Path) -> None:
    rows = read(texts, name)
    for place in range(3):
        seen = Counter(turns(row)[place] for row in rows)
        assert set(seen.values()) == {1}
        assert {mood for _, mood in seen} == set(EMOTIONS)
        assert len(seen) == 7 * len({text for text, _ in seen})
    assert all(len({text for text, _ in turns(row)}) == 3 for row in rows), "a sentence is said once"


def test_no_text_is_on_both_sides(texts: Path) -> None:
    said = [{m["content"] for row in read(texts, name) for m in row["messages"]} for name in SPLITS]
    assert said[0] and said[1] and not said[0] & said[1]


@pytest.mark.parametrize("name", SPLITS)
def test_typed_dialogues_are_the_same_without_the_moods(name: str, texts: Path) -> None:
    for row, typed in zip(read(texts, name), read(texts, f"{name}_typed"), strict=True):
        made = read_conversation(typed)
        assert parse_trajectory(made.messages[-1].text)[1] == tuple(mood for _, mood in turns(row))
        asked = made.messages[:-1]
        assert [m.words.split("\n")[0] for m in asked if m.role == "user"] == [t for t, _ in turns(row)]
        assert not any(m.more for m in asked) and [m.loss for m in asked] == [None, 0.0, None, 0.0, None]
        assert not any(word in m.words.split("\n")[0].lower() for m in asked for word in EMOTIONS)


def test_no_voice_is_on_both_sides() -> None:
    voices = [load_pipeline(FOLDER / f"{name}.yaml").stages[0]["voices"] for name in SPLITS]
    variants = [{voice.partition("+")[2] for voice in some} for some in voices]
    assert all("" not in some and len(some) >= 12 for some in variants) and not variants[0] & variants[1]
    first, second = (load_pipeline(FOLDER / f"{name}.yaml").stages for name in SPLITS)
    assert {**first[0], "voices": ()} == {**second[0], "voices": ()} and first[1:] == second[1:]


def test_the_documented_moods_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("### moods")[2]
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    found = {name: [float(cell.strip("x dBs")) for cell in cells] for name, *cells in lines}
    assert found == {
        name: [m.speed, m.pitch, m.level_db, m.pitch_range, m.word_gap_s] for name, m in MOODS.items()
    }


def test_told_dialogues_ask_and_answer_as_spoken_ones_do(maker: ModuleType, texts: Path) -> None:
    rows = [read_conversation(row) for row in read(texts, "told")]
    assert len(rows) == maker.TOLD
    drawn = Counter(parse_trajectory(row.messages[-1].text)[1] for row in rows)
    assert len(drawn) > 250 and max(drawn.values()) < 12, "of 343 sequences"
    for row in rows:
        asked = [m.text for m in row.messages if m.role == "user"]
        moods = [text.removeprefix("<Speech>").partition("</Speech>")[0] for text in asked]
        assert tuple(moods) == parse_trajectory(row.messages[-1].text)[1]
        assert [text.partition("</Speech>")[2] for text in asked] == ["", "", QUESTIONS["en"]]
        assert [m.loss for m in row.messages] == [None, 0.0, None, 0.0, None, maker.TOLD_LOSS]


def test_moods_are_found_in_answers_though_one_comes_twice() -> None:
    moods = ["sad", "anger", "sad"]
    asked = [Message("user", [Audio(i, labels={"emotion": mood})]) for i, mood in enumerate(moods)]
    answer = format_trajectory(describe(moods, "en"), moods, "en")
    row = Conversation("one", [*asked, Message("assistant", [Text(answer)])], ["0", "1", "2"])
    places = load("parts_of_loss").mood_letters(row)
    assert [answer[at] for at in places] == ["sad", "angry", "sad"]
    assert places[0].stop < places[1].start and places[1].stop < places[2].start


def small(name: str, steps: int, rows: int, **sets: Path) -> TrainConfig:
    """A recipe of the folder with fewer and smaller updates, on other rows."""
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    learned = tuple(SetSettings(path=str(path), name=one) for one, path in sets.items())
    keep = replace(recipe.keep, save_every=0, measure_every=0, log_every=steps)
    return replace(
        recipe,
        steps=steps,
        data=replace(recipe.data, sets=learned, held_out=()),
        batch=replace(recipe.batch, rows=rows),
        keep=keep,
    )


@pytest.mark.slow
def test_the_tiny_form_is_trained_and_evaluated(maker: ModuleType, texts: Path, tmp_path: Path) -> None:
    """Every step of the README on a few dialogues, two updates: a report with all three scores comes out."""
    needs("espeak")
    for name in SPLITS:
        pipeline = load_pipeline(
            FOLDER / f"{name}.yaml", {"rows": 3, "source.path": str(texts / f"{name}.jsonl")}
        )
        assert build(pipeline, tmp_path / name, Context(), workers=0).manifest.rows == 3
    splitter = load("split_turns")
    singles = [turn for row in RowFile(tmp_path / "learned") for turn in splitter.split(row)]
    spoken = [part.labels["emotion"] for row in RowFile(tmp_path / "learned") for part in row.audio_parts()]
    assert [read_emotion(row.messages[-1].text) for row in singles] == spoken and len(spoken) == 9
    write_set(tmp_path / "turns", singles)
    world, turns = World.from_environment("cpu"), tmp_path / "turns"
    first = train(small("first", 2, 8, turns=turns, told=texts / "told.jsonl"), tmp_path / "first", world)
    assert first["step"] == 2 and first["skipped_steps"] == 0
    recipe = small("train", 2, 4, learned=tmp_path / "learned", turns=turns)
    start = replace(recipe.model, start=str(tmp_path / "first" / "model"))
    found = train(replace(recipe, model=start), tmp_path / "run", world)
    assert found["step"] == 2 and found["skipped_steps"] == 0
    loaded = load_speech_lm(tmp_path / "run" / "model")[:2]
    held_out = list(RowFile(tmp_path / "held_out"))
    nats, hits, rest = load("parts_of_loss").measure(*loaded, held_out, tmp_path / "held_out")
    assert nats.shape == hits.shape == (3, 3) and rest.shape == (3,) and bool((nats > 0).all())
    plan = yaml.safe_load((FOLDER / "eval.yaml").read_text(encoding="utf-8"))
    plan["tasks"][0]["data"] = str(tmp_path / "held_out")
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump({**plan, "max_new_tokens": 8}), encoding="utf-8")
    asked = ["--config", str(tmp_path / "eval.yaml"), "--out", str(tmp_path / "eval")]
    assert main(["eval", str(tmp_path / "run" / "model"), *asked]) == 0
    scores = json.loads((tmp_path / "eval" / "report.json").read_text(encoding="utf-8"))["tasks"][
        "trajectory_held_out"
    ]
    for system in ("speech", "silent", "swapped"):
        assert scores[system]["trajectory_exact"]["n"] == 3, system
        assert {"trajectory_turns", "trajectory_edits"} <= set(scores[system])


def voiced(hertz: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A second of a buzz with a wandering pitch; its level, its timbre and its noise tell nothing."""
    seconds, rate = rng.uniform(1.0, 1.3), 16_000
    when = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(2, 4) * when))) / rate
    slope = rng.uniform(0.5, 1.5)
    wave = sum(np.sin(k * phase + rng.uniform(0, 6.3)) * k**-slope for k in range(1, 1 + int(3500 / hertz)))
    wave = wave / np.abs(wave).max() + rng.normal(0, 0.01, len(when))
    return np.asarray(rng.uniform(0.05, 0.4) * wave, dtype=np.float32)


def tones(count: int, seed: int) -> list[Conversation]:
    """Rows of one buzz each whose mood is its pitch."""
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        mood = list(PITCHES)[number % len(PITCHES)]
        wave = voiced(PITCHES[mood] * rng.uniform(0.9, 1.1), rng)
        asked = Message("user", [Audio(0)])
        answer = Message("assistant", [Text(mood)])
        data = {"path": f"{number}.flac", "bytes": encode_flac(wave, 16_000)}
        made.append(Conversation(f"tone-{seed}-{number}", [asked, answer], [data], license="cc0-1.0"))
    return made


@pytest.mark.slow
def test_pitch_alone_is_heard(tmp_path: Path) -> None:
    """The first lesson on two minutes of buzzes: new ones are named by their pitch, and not without ears."""
    write_set(tmp_path / "tones", tones(96, 0))
    recipe = small("first", 120, 16, tones=tmp_path / "tones")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(recipe, tmp_path / "run", World.from_environment("cpu"))
        assistant = vivavoce.load(tmp_path / "run" / "model")
        told = {"heard": 0, "deaf": 0}
        for row in tones(24, 1):
            wave, rate = read_waveform(next(iter(row.audio_parts())), row)
            for name, sound in (("heard", wave), ("deaf", 0 * wave)):
                part = {"type": "audio", "audio": {"path": "tone.flac", "bytes": encode_flac(sound, rate)}}
                answer = assistant.chat([{"role": "user", "content": [part]}], max_new_tokens=12)
                told[name] += answer.text == row.messages[-1].text
    finally:
        torch.set_num_threads(threads)
    assert told["heard"] >= 20 and told["deaf"] <= 12, told
