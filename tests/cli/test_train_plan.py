"""``vivavoce train --dry-run``: what is printed, what is refused, and that nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vivavoce.training import memory

SLOW = ("schedule.type=cosine", "schedule.warmup_steps=9")
RECIPE = """
model: {llm: {hidden_size: 32, num_layers: 1}, hears: {codec: nano, layout: interleaved}}
data: {sets: [{path: rows.jsonl}]}
batch: {rows: 2, max_tokens: 256}
steps: 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe beside four typed rows; one holds what a terminal or markup would obey."""
    asked = ["what is one", "[bold]two[/bold] \x1b[31m", "three", "four"]
    rows = [
        {
            "id": f"r{i}", "license": "cc0-1.0",
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "it is so"}],
        }
        for i, text in enumerate(asked)
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_a_plan_is_printed_and_nothing_is_trained(run: Any, recipe: Path, tmp_path: Path) -> None:
    done = run("train", recipe, "out=run", "--dry-run")
    assert done.code == 0, done
    for words in (
        "row r0", "«", "language_model", "trained", "3, 1.50 passes over the rows", "2.0 documents in each",
        "optimizer", "before training", "forwards and backwards", "ready to train",
    ):  # fmt: skip
        assert words in done.text, (words, done.text)
    assert "[bold]two[/bold]" in done.text and "\x1b" not in done.text
    assert "row r2" not in done.text
    assert not [
        p for p in (tmp_path / "run").rglob("*") if p.name in ("checkpoints", "metrics.jsonl", "model")
    ]
    again = run("train", recipe, "out=run")  # the run itself takes the same folder
    assert again.code == 0 and (tmp_path / "run" / "metrics.jsonl").is_file()


def test_a_plan_as_json(run: Any, recipe: Path) -> None:
    told = run("train", recipe, "out=run", "--dry-run", "--json").json
    assert set(told) == {
        "name", "ok", "device", "processes", "steps", "passes", "rows", "parts", "memory", "peak_bytes", "update",
        "pass_s", "seconds", "loss", "errors", "warnings", "findings", "preview",
    }  # fmt: skip
    assert (
        told["ok"] and told["steps"] == 3 and told["rows"] == {"rows.jsonl": 4} and told["peak_bytes"] is None
    )
    assert set(told["memory"]) == {
        "weights", "gradients", "optimizer", "activations", "logits", "available", "total", "fits",
    }  # fmt: skip
    parts = ("weights", "gradients", "optimizer", "activations", "logits")
    assert told["memory"]["total"] == sum(told["memory"][part] for part in parts)
    assert told["parts"]["language_model"]["frozen"] == 0
    assert [row["id"] for row in told["preview"]] == ["r0", "r1"] and told["preview"][0]["learned"] > 0


def test_what_speaks_against_a_run_is_told_and_is_exit_code_2(run: Any, recipe: Path) -> None:
    done = run("train", recipe, "out=run", *SLOW, "--dry-run")
    assert done.code == 2 and "not ready: 1 to put right" in done.text
    assert "error: the learning rate rises for 9 updates" in done.err
    done = run("train", recipe, "out=run", *SLOW, "--dry-run", "--json")
    assert done.code == 2 and not done.json["ok"] and len(done.json["errors"]) == 1


def test_too_little_memory_is_one_line(run: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda world: 1000)
    for more in (["--dry-run"], []):
        assert run("train", recipe, "out=run", *more).is_one_error(
            "of memory", "0.0 MiB left", "objective.chunk"
        )


def test_nothing_to_train_is_one_line(run: Any, recipe: Path) -> None:
    done = run("train", recipe, "out=run", "train.language_model=frozen", "--dry-run")
    assert done.is_one_error("nothing is left to train")
