"""SNAC scaled down: its sentences, how a run is held against the stored curve, and the curve itself."""

from __future__ import annotations

import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from tests.data.build.stand_ins import needs
from tests.recipes.smoke_runs import train_until

from vivavoce.training.kinds import load_any

RECIPES = Path(__file__).parents[2] / "recipes"
FOLDER = RECIPES / "codec_snac_small"
BEGIN = 180  # updates of the slow test: the warm-up and the first thirty with codes


def script(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", RECIPES / folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


curve = script("codec_snac_small", "curve")


def test_sentences() -> None:
    """Held-out sentences are new, made of words that are learned, and within the grammar."""
    made = script("codec_snac_small", "sentences")
    learned, held_out = made.sentences()
    assert learned == (FOLDER / "texts.txt").read_text("utf-8").splitlines()
    assert not set(learned) & set(held_out) and len(held_out) == made.HELD_OUT
    assert {w for text in held_out for w in text.split()} <= {w for text in learned for w in text.split()}
    assert all(word in made.grammar() for word in held_out[0].split())
    voices = load_any(FOLDER / "train.yaml").data.spoken.voices  # type: ignore[union-attr]
    assert set(made.VOICES) <= set(voices) and not set(made.UNKNOWN) & set(voices)


def test_a_run_is_held_against_the_stored_curve() -> None:
    stored = json.loads((FOLDER / "curve.json").read_text("utf-8"))["updates"]
    assert not curve.drifts(stored, stored)
    steps = sorted(stored, key=int)
    for name, factor in (("mel", 1.3), ("entropy_bits/level_0", 0.5)):
        other = copy.deepcopy(stored)
        other[steps[-1]][name] *= factor
        assert [line for line in curve.drifts(other, stored) if name in line and steps[-1] in line]


def test_stored_codebooks_are_used() -> None:
    """Of the run in the repo: no level collapses, and the distance of a held-out voice falls."""
    stored = json.loads((FOLDER / "curve.json").read_text("utf-8"))["updates"]
    steps = sorted(map(int, stored))
    last = stored[str(steps[-1])]
    assert min(last[f"entropy_bits/level_{level}"] for level in range(3)) > 7.0
    held = [stored[str(step)]["held_out/mel"] for step in steps if "held_out/mel" in stored[str(step)]]
    assert held and held[-1] == min(held) < 4.0


def test_parts_of_a_comparison() -> None:
    made = script("codec_nano", "compare")
    assert made.group("012_test_voice-000041") == "test_voice"


def test_questions_that_a_codec_is_measured_on() -> None:
    """Held-out questions by flite alone, no text twice, the same in every call."""
    made = script("nano", "codec_speech")
    texts = ["what comes after two", "what comes after six", "what comes after two", "say the red bird"]
    rows = [
        {"split": split, "voice": voice, "text": text}
        for split in ("train", "test_sentence", "test_voice")
        for voice in ("flite:rms", "espeak:en-us")
        for text in texts
    ]
    found = made.questions(rows, 2)
    assert [row["split"] for row in found] == ["test_sentence"] * 2 + ["test_voice"] * 2
    assert {row["text"] for row in found} == set(texts[:2]) and {row["voice"] for row in found} == {
        "flite:rms"
    }
    assert found == made.questions(rows, 2) and len(made.questions(rows, 1)) == 2
    assert made.drawn(rows, None) == rows and len(made.drawn(rows, 5)) == 5


@pytest.mark.slow
def test_the_run_begins_as_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("espeak", "flite")
    monkeypatch.chdir(RECIPES.parent)
    config = load_any(FOLDER / "train.yaml")
    config = replace(config, keep=replace(config.keep, save_every=0, sample_every=-1))

    train_until(config, tmp_path, BEGIN)
    stored = json.loads(curve.CURVE.read_text(encoding="utf-8"))["updates"]
    found = curve.curve(tmp_path)
    assert len(found) >= 4 and not curve.drifts(found, stored)
