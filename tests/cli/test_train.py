"""``vivavoce train`` as people use it: what it prints, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.row_cases import row
from tests.training.run_cases import mixed, stored, write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    mute = row()
    mute.messages.pop()
    mute.id = "mute"
    return write_recipe(tmp_path / "small.yaml", stored(tmp_path / "rows", [*mixed(7), mute]))


def test_a_run_says_what_it_did(run: Any, recipe: Path, tmp_path: Path) -> None:
    done = run("train", recipe, "out=made", "keep.sample_every=0")
    assert done.code == 0, done.err
    said = done.text.splitlines()
    assert said[0].startswith("made  update 3 of 3, loss ")
    assert said[1].startswith(
        "rows: 24 rows learned, 3 left out (3 not rendered), counted anew in every pass."
    )
    assert said[2].startswith("left out: row 'mute' of rows: ")
    assert "answers right to the last token: " in done.text and said[-1] == "report   made/report.html"
    assert "update 3 of 3  loss " in done.err
    page = (tmp_path / "made" / "report.html").read_text(encoding="utf-8")
    assert "24 rows learned" in page and "&#x27;mute&#x27;" in page
    assert (tmp_path / "made" / "model" / "config.json").is_file()
    again = run("train", recipe, "out=made", "keep.sample_every=0", "--json")
    assert again.code == 0 and "going on after update 3 of 3" in again.err
    assert again.json["step"] == 3 and again.json["rows"] == said[1:3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], ["out is missing; wanted out=DIR"]),
        (["out=made", "optimiser.lr=1"], ["optimiser is unknown", "did you mean 'optimizer'"]),
        (["out=made", "batch.rows=none"], ["batch.rows is 'none', wanted int"]),
        (["out=made", "data.sets.0.path=nowhere"], ["the set nowhere does not exist"]),
        (["out=made", "objective.type=distil"], ["unknown objective 'distil'", "Did you mean 'distill'"]),
        (["out=made", "keep.trackers=[tensorboard]"], ["pip install tensorboard"]),
        (["out=small.yaml"], ["is a file; wanted a folder"]),
    ],
)
def test_mistakes_are_one_line(
    settings: list[str], words: list[str], run: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivavoce.training.metrics_log.find_spec", lambda _: None)
    assert run("train", recipe, *settings).is_one_error(*words)
    assert not Path("made/checkpoints").exists()


def test_recipes_that_cannot_be_read(run: Any, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    assert run("train", "list.yaml", "out=made").is_one_error(
        "holds no settings; wanted at least model and data"
    )
    (tmp_path / "torn.yaml").write_text("model: {llm: ")
    assert run("train", "torn.yaml", "out=made").is_one_error("torn.yaml cannot be read")
    assert run("train", "none.yaml", "out=made").is_one_error("none.yaml cannot be read")


def test_many_passes_are_told(run: Any, recipe: Path) -> None:
    done = run("train", recipe, "out=made", "steps=12", "keep.log_every=100")
    assert "warning: the rows are seen 12 times: 12 updates of 8, and 8 rows" in done.err
    settings = json.loads(Path("made/config.json").read_text())
    assert settings["steps"] == 12
