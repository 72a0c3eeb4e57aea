"""Runs of a sweep: killed and resumed is never stopped, done is not touched, and failures are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.scaling.sweep_cases import write_sweep

from vivavoce.base.errors import DataError, TrainingError
from vivavoce.evaluation.scaling.collect import collect, mean_losses, read_results
from vivavoce.evaluation.scaling.one_run import train_one
from vivavoce.evaluation.scaling.plan import make_plan
from vivavoce.evaluation.scaling.run import RunSettings, environment, run_sweep
from vivavoce.evaluation.scaling.sweep import load_sweep, read_cells

SOURCE = Path(__file__).parents[3] / "src"
BY_HAND = (
    "import sys; from pathlib import Path; from vivavoce.evaluation.scaling.run import run_sweep; "
    "run_sweep(Path(sys.argv[1]))"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A sweep that was never stopped: its file, and its points."""
    folder = tmp_path_factory.mktemp("sweep")
    path = write_sweep(folder)
    make_plan(*load_sweep(path), folder / "whole")
    for cell in read_cells(folder / "whole"):  # in this process, which is faster
        train_one(folder / "whole" / "runs" / cell.id)
    return path, collect(folder / "whole")


def link_done(whole: Path, place: Path, ids: list[str]) -> None:
    """Put runs that are done into the sweep at ``place / "s"``, to save their time."""
    for name in ids:
        (place / "s" / "runs" / name).rename(place / name)
        (place / "s" / "runs" / name).symlink_to(whole / "runs" / name)


def test_what_is_collected(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    path, lines = whole
    cells = {c.id: c for c in read_cells(path.parent / "whole")}
    assert [line["id"] for line in lines] == list(cells)
    for line in lines:
        cell = cells[line["id"]]
        assert (
            line["step"] == line["steps"] == cell.steps and line["annealed"] and line["schedule"] == "cosine"
        )
        assert line["tokens"] == pytest.approx(cell.tokens, rel=0.05)
        assert line["audio_h"] * 3600 == pytest.approx(cell.audio_s, rel=1e-6)
        slots = [line["losses"][f"slot_{i}"] for i in range(7)]
        assert line["bits_per_s"] == pytest.approx(82.03125 * sum(slots) / 7 / 0.693147, rel=1e-4)
        assert {"text", "audio"} < line["losses"].keys() and 0 < line["loss"] < 8
    assert read_results(path.parent / "whole") == lines
    assert not (path.parent / "whole" / "runs" / lines[0]["id"] / "checkpoints").exists()


def test_killed_and_resumed_is_never_stopped(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lines = whole
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the whole sweep: two threads round sums otherwise
    make_plan(*load_sweep(path), tmp_path / "s")
    *others, last_one = read_cells(tmp_path / "s")
    link_done(path.parent / "whole", tmp_path, [cell.id for cell in others])
    last = tmp_path / "s" / "runs" / last_one.id
    started = subprocess.Popen(
        [sys.executable, "-c", BY_HAND, str(tmp_path / "s")],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not list((last / "checkpoints").glob("step-*")):
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert list((last / "checkpoints").glob("step-*")) and not (last / "done.json").exists()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "s" / "runs").glob("*/done.json")}
    assert len(before) == 3
    assert run_sweep(tmp_path / "s") == lines
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert run_sweep(tmp_path / "s") == lines  # nothing left to do


def test_a_run_that_fails_is_told_and_the_others_are_made(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    path, lines = whole
    make_plan(*load_sweep(path), tmp_path / "s")
    cells = read_cells(tmp_path / "s")
    link_done(path.parent / "whole", tmp_path, [cell.id for cell in cells[2:]])
    broken = tmp_path / "s" / "runs" / cells[0].id / "recipe.yaml"
    broken.write_text(broken.read_text(encoding="utf-8").replace("lr: 0.01", "lr: -1.0"), encoding="utf-8")
    with pytest.raises(TrainingError, match=rf"1 of 4 runs are not done, {cells[0].id} first: .*lr is -1"):
        run_sweep(tmp_path / "s", RunSettings(jobs=2))
    assert read_results(tmp_path / "s") == lines[1:]


def test_points_of_the_stable_part(tmp_path: Path) -> None:
    path = write_sweep(
        tmp_path,
        sizes={"widths": [16], "head_size": 8},
        tokens=[2400],
        points="stable",
        points_per_run=3,
        change={"schedule": {"type": "wsd", "warmup_steps": 2, "decay_ratio": 0.25}},
    )
    (cell,) = make_plan(*load_sweep(path), tmp_path / "s")
    train_one(tmp_path / "s" / "runs" / cell.id)
    lines = collect(tmp_path / "s")
    assert len(lines) >= 3 and not any(line["annealed"] for line in lines)
    assert all(2 < line["step"] <= 0.75 * cell.steps + 1 for line in lines)
    tokens = [line["tokens"] for line in lines]
    assert tokens == sorted(tokens) and tokens[0] < tokens[-1] / 2


def test_mean_losses() -> None:
    line = {"held_out/a/loss/text": 1.0, "held_out/b/loss/text": 3.0, "held_out/a/loss": 9.0, "held_out/loss": 9.0,
            "loss/text": 7.0, "held_out/a/accuracy/text": 0.5}  # fmt: skip
    assert mean_losses(line) == {"text": 2.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no points yet"), ('{"n": 1}\n', "wanted an object with n, tokens and loss"),
     (json.dumps({"n": 1, "tokens": 2, "loss": -1}), "wanted numbers above 0")],
)  # fmt: skip
def test_results_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "results.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_results(tmp_path)


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert environment(4)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environment(4)["OMP_NUM_THREADS"] == "5"


@pytest.mark.slow
def test_ray_gives_the_same(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path, lines = whole
    make_plan(*load_sweep(path), tmp_path / "s")
    assert run_sweep(tmp_path / "s", RunSettings(jobs=1, engine="ray")) == lines
