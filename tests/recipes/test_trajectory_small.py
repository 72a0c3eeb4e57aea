"""trajectory_small: words tell nothing of moods, no voice or sentence is on both sides, and its small form is evaluated."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.data.build.stand_ins import needs

from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import load_pipeline
from vivavoce.data.build.run import build
from vivavoce.data.build.speech.moods import MOODS
from vivavoce.data.conversation import read_conversation
from vivavoce.data.rows import RowFile
from vivavoce.tokens.trajectory import EMOTIONS, parse_trajectory
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train
from vivavoce.training.world import World

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "trajectory_small"
SPLITS = ("learned", "held_out")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dialogues", FOLDER / "make_dialogues.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
