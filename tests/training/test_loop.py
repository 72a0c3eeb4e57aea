"""The trainer: what an update learns does not hang on cutting; a run that is stopped ends as if it never was."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file
from tests.training.run_cases import ADAPTERS, config_of, lines, mixed, stored, trained, trainer_of
from tests.training.trainer_ranks import CASES, one_run, run_process

from vivavoce.base.errors import CheckpointError, DataError, TrainingError
from vivavoce.training import checkpoints, loop
from vivavoce.training.held_out import HeldOut
from vivavoce.training.loop import Trainer
from vivavoce.training.sets import prepare_sets
from vivavoce.training.world import World


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("sets") / "mixed", mixed())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row, which is never learned."""
    return stored(tmp_path_factory.mktemp("sets") / "other", mixed(1, first=20))


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys() and a
    return max(float((a[name] - b[name]).abs().max()) for name in a)


class Counted:
    """An objective, and a list of its batches."""

    def __init__(self, objective: Any, made: list[Any]) -> None:
        self.objective, self.made = objective, made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def __call__(self, model: Any, batch: Any, totals: Any) -> Any:
        self.made.append(batch)
        return self.objective(model, batch, totals)


def test_cutting_changes_nothing(rows: Path, tmp_path: Path) -> None:
    found, batches = [], []
    for name, settings in (
        ("large", {}),
        ("small", {"batch__max_tokens": 120}),
        ("seconds", {"batch__max_audio_s": 0.1}),
        ("padded", {"batch__pad_to": 64}),
    ):
        trainer = trainer_of(config_of(rows, **settings), tmp_path / name)
        before = trained(trainer.model)
        made: list[Any] = []
        trainer.objective = Counted(trainer.objective, made)
        trainer.run()
        found.append(trained(trainer.model))
        batches.append(len(made))
        assert far(found[-1], before) > 1e-4
    assert batches[0] == 3 and min(batches[1], batches[2]) > 8, batches
    for one in found[1:]:
        assert far(found[0], one) < 1e-5
    assert lines(tmp_path / "large")[-1]["loss"] == pytest.approx(
        lines(tmp_path / "small")[-1]["loss"], rel=1e-5
    )


@pytest.fixture(scope="module")
def pair(rows: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    torch.multiprocessing.spawn(run_process, (folder, rows, other), nprocs=2)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one(case: str, pair: Path, rows: Path, other: Path, tmp_path: Path) -> None:
    alone = one_run(case, rows, other, tmp_path / "run", World())
    assert far(load_file(pair / f"{case}.safetensors"), alone["parameters"]) < 1e-5
    numbers = [{k: v for k, v in line.items() if k != "padding"} for line in lines(pair / case)]
    for told, wanted in zip(numbers, lines(tmp_path / "run"), strict=True):
        for key, value in told.items():
            assert value == pytest.approx(wanted[key], rel=1e-4, abs=1e-6), key
    for rank in range(2):  # one held-out row for two processes
        facts = json.loads((pair / f"facts-{rank}.json").read_text())[case]
        assert facts == pytest.approx(alone["measured"], rel=1e-4)


# stopped and gone on with

SETTINGS: dict[str, dict[str, Any]] = {
    "adapters": {"train": ADAPTERS, "optimizer__weight_decay": 0.1},
    "adam_mini": {"optimizer__type": "adam_mini"},
}
MORE = {"steps": 6, "batch__rows": 4, "keep__log_every": 4, "keep__measure_every": 3}


def start(config: Any, folder: Path, **more: Any) -> Trainer:
    trainer = trainer_of(config, folder)
    held = HeldOut(config, prepare_sets(config.data.held_out, folder, World()), trainer.processor, World())
    trainer.measure = lambda step: held.measure(trainer.model)
    return trainer


def stopped_at(trainer: Trainer, *steps: int) -> Trainer:
    """Ask it to stop after these updates."""
    learn = trainer.learn

    def learn_until(update: Any) -> None:
        learn(update)
        trainer.stopped = trainer.step in steps

    trainer.learn = learn_until  # type: ignore[method-assign]
    return trainer


@pytest.fixture(scope="module", params=SETTINGS)
def whole(request: Any, rows: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that was never stopped: its settings, folder and parameters."""
    folder = tmp_path_factory.mktemp("whole")
    config = config_of(rows, **SETTINGS[request.param], **MORE, data__held_out=[{"path": str(other)}])
    trainer = start(config, folder)
    trainer.run()
    assert [line["step"] for line in lines(folder)] == [1, 3, 4, 6]
    assert all("held_out/loss" in line for line in lines(folder) if line["step"] in (3, 6))
    return config, folder, trained(trainer.model)


def same(whole: Any, folder: Path, trainer: Trainer) -> None:
    assert lines(folder) == lines(whole[1])
    found = trained(trainer.model)
    assert found.keys() == whole[2].keys()
    assert all(torch.equal(found[name], whole[2][name]) for name in found)


def test_stopped_anywhere_is_never_stopped(whole: Any, tmp_path: Path) -> None:
    for step in range(1, 6):
        folder = tmp_path / str(step)
        first = stopped_at(start(whole[0], folder), step)
        first.run()
        assert first.stopped and first.step == step
        torch.manual_seed(step)  # whatever was drawn before
        last = start(whole[0], folder)
        last.run()
        assert not last.stopped
        same(whole, folder, last)


def test_stopped_after_every_update(whole: Any, tmp_path: Path) -> None:
    for _ in range(5):
        stopped_at(start(whole[0], tmp_path), 1, 2, 3, 4, 5).run()
    last = start(whole[0], tmp_path)
    last.run()
    same(whole, tmp_path, last)
    again = start(whole[0], tmp_path)  # at the end there is nothing left to do
    assert again.run() == last.values and again.step == 6
    same(whole, tmp_path, again)


def test_after_a_torn_checkpoint_the_one_before_is_used(whole: Any, tmp_path: Path) -> None:
    stopped_at(start(whole[0], tmp_path), 2).run()
    stopped_at(start(whole[0], tmp_path), 3).run()
    torn = next((tmp_path / "checkpoints" / "step-000003").glob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-7])
    last, told = start(whole[0], tmp_path), []
    last.echo = told.append
    last.run()
    same(whole, tmp_path, last)
    assert (
        "step-000003" in told[0]
        and "using step-000002" in told[0]
        and told[1].startswith("going on after update 2")
    )


def test_without_room_the_last_checkpoint_stays(whole: Any, tmp_path: Path, monkeypatch: Any) -> None:
    stopped_at(start(whole[0], tmp_path), 2).run()

    def full(path: Path, data: bytes) -> dict[str, Any]:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", full)
        with pytest.raises(CheckpointError, match=r"No space left.*the last one is still step-000002"):
            start(whole[0], tmp_path).run()
    last = start(whole[0], tmp_path)
    last.run()
    same(whole, tmp_path, last)


# what is not finite


def test_updates_without_a_finite_gradient_are_left_out(rows: Path, tmp_path: Path, monkeypatch: Any) -> None:
    real, spoil = loop.finish_gradients, {1}

    def finish(model: Any, world: World, most: float | None) -> float:
        if trainer.step in spoil:
            next(p for p in model.parameters() if p.grad is not None).grad.view(-1)[0] = math.nan
        return real(model, world, most)

    monkeypatch.setattr(loop, "finish_gradients", finish)
    trainer = trainer_of(config_of(rows, schedule__type="constant", keep__log_every=1), tmp_path / "one")
    seen: list[dict[str, torch.Tensor]] = [trained(trainer.model)]
    trainer.report = lambda progress: seen.append(trained(trainer.model))
    trainer.run()
    moved = [far(a, b) > 0 for a, b in pairwise(seen)]
    assert moved == [True, False, True]
    assert all(bool(p.isfinite().all()) for p in seen[-1].values())
    told = lines(tmp_path / "one")
    assert [line["skipped_steps"] for line in told] == [0, 1, 1]
    assert told[1]["grad_norm"] is None and "loss" not in told[1] and told[2]["loss"] > 0

    spoil |= set(range(1, 40))
    trainer = trainer_of(config_of(rows, steps=40, batch__rows=1), tmp_path / "many")
    with pytest.raises(TrainingError, match=r"not finite in 20 updates in a row, up to step 20; lower the"):
        trainer.run()
    assert trainer.counts["skipped_steps"] == 20


def test_rows_at_an_end_are_an_error(rows: Path, tmp_path: Path) -> None:
    def one_pass(loader: Any) -> Any:
        data, sets = config.data, config.data.sets
        made = type(loader)(sets, data, config.batch, loader.processor, "sft", 0, passes=1)
        return made

    config = config_of(rows)
    with pytest.raises(DataError, match="the rows are at an end before the run is"):
        trainer_of(config, tmp_path, loader=one_pass).run()
