"""``vivavoce scale`` as people use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.scaling.law_cases import records, seen
from tests.evaluation.scaling.sweep_cases import recipe, write_sweep

from vivavoce.evaluation.scaling.law import CHINCHILLA


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.jsonl"
    path.write_text(
        "".join(json.dumps(line) + "\n" for line in records(seen(CHINCHILLA, 2, 0.003))), encoding="utf-8"
    )
    return path


def test_plan_run_and_too_few_to_fit(run: Any, tmp_path: Path) -> None:
    path = write_sweep(tmp_path, sizes={"widths": [16], "head_size": 8}, tokens=[600])
    dry = run("scale", "plan", path, "--dry")
    assert dry.code == 0 and "w16-d600-s0" in dry.text and not (tmp_path / "s").exists()
    done = run("scale", "plan", path, "out=s", "--rate", "1e9")
    assert done.code == 0 and "1 recipes in s/runs; next: vivavoce scale run s" in done.text
    said = run("scale", "run", "s", "--json")
    assert said.code == 0 and said.json[0]["losses"]["slot_6"] > 0 and "w16-d600-s0: loss " in said.err
    assert "bits/s" in run("scale", "run", "s").text
    run("scale", "fit", "s").is_one_error("1 points of 1 sizes", "wanted 6 points or more")


def test_a_training_recipe_as_a_sweep(run: Any, tmp_path: Path) -> None:
    import yaml

    write_sweep(tmp_path)
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(recipe(tmp_path)), encoding="utf-8")
    settings = ("sizes.widths=[16]", "sizes.head_size=8", "tokens=[1200]", "change.optimizer.lr=0.002")
    found = run("scale", "plan", path, *settings, "--dry", "--json")
    assert found.code == 0, found.err
    assert found.json[0]["lr"] == 0.002 and found.json[0]["n"] < found.json[0]["n_total"]


def test_fit_and_predict(run: Any, points: Path) -> None:
    done = run(
        "scale", "fit", points, "--out", "law", "--gpu-price", "2", "--flops", "1e20", "--refits", "200"
    )
    assert done.code == 0, done.err
    assert "N* grows as C^0.4" in done.text and "largest run" in done.text
    assert Path("law/fit.json").is_file() and Path("law/fit.html").is_file()
    found = run("scale", "predict", "law", "--params", "1e9", "--tokens", "2e10", "--json").json
    assert found["interval"][0] < CHINCHILLA.loss(1e9, 2e10) < found["interval"][1]
    assert "90% interval of one run" in run("scale", "predict", "law", "--flops", "1e20").text
    run("scale", "predict", "law", "--flops", "1e26").is_one_error("times the grid's most", "--beyond")
    assert "stretched" in run("scale", "predict", "law", "--flops", "1e26", "--beyond").text
    plain = run("scale", "fit", points, "--out", "law", "--refits", "200", "--json").json
    assert (
        plain["law"]["a"]["interval"][0] < 0.34 < plain["law"]["a"]["interval"][1] and "refits" not in plain
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "nowhere.yaml", "--dry"], ["nowhere.yaml cannot be read"]),
        (["plan", "nowhere.yaml"], ["out is missing"]),
        (["run", "nowhere"], ["no plan.json"]),
        (["run", "nowhere", "--engine", "slurm"], ["wanted local or ray"]),
        (["fit", "nowhere"], ["nowhere cannot be read", "vivavoce scale run"]),
        (["fit", "points.jsonl", "--refits", "3"], ["wanted 200 refits or more"]),
        (["fit", "points.jsonl", "--count", "all"], ["wanted n or n_total"]),
        (["predict", "nowhere", "--flops", "1"], ["vivavoce scale fit"]),
    ],
)
def test_mistakes_are_one_line(run: Any, points: Path, arguments: list[str], words: list[str]) -> None:
    run("scale", *arguments).is_one_error(*words)
