"""Whole runs: killed and gone on with, bad input refused before work is done, rows left out are told."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tests.cli.running import process
from tests.data.check.bad_rows import clip
from tests.training.row_cases import heard, row
from tests.training.run_cases import ADAPTERS, config_of, lines, mixed, stored, write_recipe

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError, TrainingError
from vivavoce.data.conversation import Conversation
from vivavoce.training import run as room
from vivavoce.training.metrics_log import TRACKERS
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train
from vivavoce.training.world import World

CODEC = str(Path(__file__).parents[1] / "goldens" / "data" / "jan_llama3" / "encodec_tiny")
TOKENS = {"llm": {"hidden_size": 32}, "hears": {"codec": CODEC, "layout": "interleaved"}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("sets") / "mixed", mixed())


def numbered(*made: Conversation) -> list[Conversation]:
    for number, one in enumerate(made):
        one.id = f"n{number}"
    return list(made)


# killed

LONG = {
    "steps": 60, "batch__rows": 2, "keep__save_every": 3, "keep__log_every": 4, "keep__measure_every": 7,
    "train": ADAPTERS,
}  # fmt: skip


@pytest.fixture(scope="module")
def long_run(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe, and the folder of its run, which was never stopped."""
    folder = tmp_path_factory.mktemp("long")
    held_out = [{"path": str(stored(folder / "other", mixed(2, first=20)))}]
    recipe = write_recipe(folder / "recipe.yaml", rows, **LONG, data__held_out=held_out)
    train(load_recipe(recipe), folder / "run")
    return recipe, folder / "run"


def begun(recipe: Path, folder: Path, at: int) -> subprocess.Popen[bytes]:
    """A run as its own process that has written so many more lines of metrics."""
    path = folder / "metrics.jsonl"
    before = path.stat().st_mtime_ns if path.exists() else 0
    started = process("train", str(recipe), f"out={folder}")
    until = time.monotonic() + 400
    while time.monotonic() < until and started.poll() is None:
        if path.exists() and path.stat().st_mtime_ns != before and len(path.read_bytes().splitlines()) >= at:
            return started
        time.sleep(0.01)
    started.kill()
    raise AssertionError(started.communicate()[1].decode())


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        f"{p.name}/{n}": t
        for p in sorted((folder / "model").glob("*.safetensors"))
        for n, t in load_file(p).items()
    }


def same(folder: Path, whole: Path) -> None:
    assert lines(folder) == lines(whole)
    found, wanted = parameters(folder), parameters(whole)
    assert found.keys() == wanted.keys() and wanted
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_terminated_then_killed_is_never_stopped(long_run: Any, tmp_path: Path) -> None:
    recipe, whole = long_run
    first = begun(recipe, tmp_path, 2)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=200)
    assert first.returncode == 0, err
    assert "stopped after update" in err.decode() and "the same command goes on from there" in err.decode()
    assert "mixed: " in out.decode() and "rows learned" in out.decode()
    second = begun(recipe, tmp_path, 6)
    second.kill()
    second.communicate()
    assert not (tmp_path / "model").exists()
    told: list[str] = []
    train(load_recipe(recipe), tmp_path, echo=told.append)
    assert any(line.startswith("going on after update") for line in told)
    same(tmp_path, whole)


@pytest.mark.slow
def test_killed_at_any_moment_is_never_stopped(long_run: Any, tmp_path: Path) -> None:
    recipe, whole = long_run
    chance = random.Random()
    for number in range(5):
        started = begun(recipe, tmp_path, 1 + 3 * number)
        time.sleep(chance.uniform(0.0, 0.1))
        started.kill()
        started.communicate()
    train(load_recipe(recipe), tmp_path)
    same(tmp_path, whole)


# bad input


def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model would be built."""

    def build(*_: Any) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(room, "build_model", build)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizr": {}}, "optimizr is unknown, did you mean 'optimizer'"),
        ({"batch__row": 2}, r"batch\.row is unknown, did you mean 'rows'"),
        ({"train__languagemodel": "full"}, "did you mean 'language_model'"),
        ({"objective__type": "stf"}, "unknown objective 'stf'"),
        ({"objective": {"type": "sft", "text_wight": 2}}, "did you mean 'text_weight'"),
        ({"optimizer__type": "adamv"}, r"unknown optimizer 'adamv'.* Did you mean 'adamw'"),
        ({"schedule": {"type": "cosine", "num_steps": 9}}, "a schedule is always as long as the run"),
        ({"schedule__type": "cosin"}, "Did you mean 'cosine'"),
        (
            {"objective": {"type": "distill"}, "model": TOKENS},
            "the model hears by codec tokens; give model.hears",
        ),
        ({"objective": {"type": "distill"}, "model": {"llm": {}}}, "the model does not hear"),
        ({"model__speaks": {"layout": "orpheus"}}, r"speaks has the keys \['layout'\], wanted codec"),
        ({"model__speaks": {"encoder": "x"}}, "speaks wants a codec"),
        ({"data__sets": []}, "sets is empty"),
        ({"data__sets": [{"path": "/no/such/set"}]}, "the set /no/such/set does not exist"),
        ({"data__held_out": [{"path": "/no/such/set"}]}, "the set /no/such/set does not exist"),
        ({"data__sets": [{"pipeline": "/no/such.yaml"}]}, r"the pipeline /no/such.yaml does not exist"),
        ({"keep__trackers": ["tensorbord"]}, "unknown tracker 'tensorbord'"),
        ({"keep__log_every": 0}, "log_every is 0, wanted 1 or more"),
        ({"batch__max_tokens": 1}, "max_tokens is 1, wanted 2 or more"),
    ],
)
def test_wrong_settings(
    changes: dict[str, Any], message: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        train(config_of(rows, **changes), tmp_path / "run")


def test_settings_that_do_not_go_with_the_world_or_the_start(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched(monkeypatch)
    with pytest.raises(ConfigError, match=r"batch.rows is 8 for 3 ranks; wanted a multiple, such as 9"):
        room.check_settings(config_of(rows), World(0, 3))
    distill = config_of(rows, objective={"type": "distill"}, model={"start": "somewhere"})
    for ears, what in ((None, "somewhere does not hear"), (object(), "somewhere hears by codec tokens")):
        monkeypatch.setattr(room, "load_processor", lambda _, e=ears: type("Processor", (), {"ears": e}))
        with pytest.raises(ConfigError, match=what):
            train(distill, tmp_path)
    monkeypatch.setattr("vivavoce.training.metrics_log.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="tracker tensorboard needs: pip install tensorboard"):
        train(config_of(rows, keep__trackers=["tensorboard"]), tmp_path)


def test_empty_sets_and_folders_of_others(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_of(rows, steps=1), tmp_path / "run")
    untouched(monkeypatch)
    with pytest.raises(ConfigError, match=r"holds another run \(.*lr.*\); choose another folder"):
        train(config_of(rows, steps=1, optimizer__lr=0.5), tmp_path / "run")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty.jsonl"):
        train(config_of(tmp_path / "empty.jsonl"), tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; wanted a folder"):
        train(config_of(rows), tmp_path / "file")


def codes(hash_: str) -> Conversation:
    """A heard row with codes of a codec."""
    tokens = {"codec": "other", "codec_hash": hash_, "layout": "interleaved", "ids": [0, 1024] * 30}
    return row({"type": "audio", "transcript": "what", "tokens": tokens, **heard()})


@pytest.mark.parametrize(
    ("made", "model", "message"),
    [
        (lambda: numbered(*(codes("beef") for _ in range(3))), TOKENS, "codes are of codec 'other' beef"),
        (lambda: numbered(*(row(heard()) for _ in range(3))), {"llm": {}}, "does not hear"),
        (
            lambda: numbered(row("so " * 600), row("no " * 700)),
            {"llm": {}},
            "rows can be learned: too many tokens",
        ),
        (lambda: numbered(row({**heard(), "audio": {"path": "none.wav"}})), {"llm": {}}, r"none\.wav"),
    ],
)
def test_sets_of_which_no_row_can_be_learned(made: Any, model: Any, message: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "set", made()) if "none" not in message else tmp_path / "set.jsonl"
    if folder.suffix:
        import json

        folder.write_text(json.dumps(made()[0].row()) + "\n")
    config = config_of(folder, model=model, train={"language_model": "full"}, batch__rows=2)
    before = time.monotonic()
    with pytest.raises(DataError, match=message):
        train(config, tmp_path / "run")
    assert time.monotonic() - before < 20
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_rows_left_out_are_told(tmp_path: Path) -> None:
    broken = np.zeros(16_000, dtype=np.float32)
    broken[800] = np.nan
    odd = row({**heard(), "audio": clip(broken, 16_000, "FLOAT")})
    mute = row()
    mute.messages.pop()
    made = numbered(odd, mute, row("so " * 600), *mixed(5))
    for number, one in enumerate(made[3:]):
        one.id = f"good{number}"
    folder = stored(tmp_path / "odd<set>", made)
    config = config_of(folder, steps=2, batch__rows=5)
    found = train(config, tmp_path / "run")
    told = found["rows"]
    assert told[0] == (
        "odd<set>: 10 rows learned, 6 left out (2 not rendered, 2 too many tokens, 2 unreadable recording), counted "
        "anew in every pass."
    )
    assert any("n0" in line or "NaN" in line for line in told[1:]) and any(
        "'n1'" in line for line in told[1:]
    )
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "odd&lt;set&gt;: 10 rows learned" in page and "holds NaN or infinite samples" in page


def test_no_held_out_row_is_said(rows: Path, tmp_path: Path) -> None:
    mute = numbered(row("so " * 600))
    held = [{"path": str(stored(tmp_path / "held", mute))}]
    with pytest.raises(
        DataError, match=r"held-out set 'held' has no row that can be measured.*too many tokens"
    ):
        train(config_of(rows, data__held_out=held), tmp_path / "run")


# how long


def test_epochs_are_steps(rows: Path, tmp_path: Path) -> None:
    for epochs, steps in ((1.0, 4), (2.5, 9), (0.01, 1)):
        config = config_of(rows, steps=None, epochs=epochs, batch__rows=4)
        made = room.prepare(config, tmp_path / str(steps), World())
        assert made.steps == steps and not made.trained.findings  # 13 rows
    made = room.prepare(config_of(rows, steps=30), tmp_path / "many", World())
    assert "the rows are seen 18 times: 30 updates of 8, and 13 rows" in made.trained.findings[-1]


# elsewhere


class Kept:
    """A tracker that keeps what it is told."""

    told: ClassVar[list[Any]] = []

    def __init__(self, name: str, folder: Path, record: Any) -> None:
        Kept.told = [(name, record["steps"])]

    def log(self, step: int, values: Any) -> None:
        Kept.told.append((step, values))

    def close(self) -> None:
        Kept.told.append("closed")


def test_trackers_get_numbers(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        TRACKERS, "_outside", {"kept": type("Entry", (), {"load": staticmethod(lambda: Kept)})}
    )
    train(config_of(rows, keep__trackers=["kept"], name="mine"), tmp_path)
    assert Kept.told[0] == ("mine", 3) and Kept.told[-1] == "closed"
    assert [step for step, _ in Kept.told[1:-1]] == [1, 2, 3]
    for (_, values), line in zip(Kept.told[1:-1], lines(tmp_path), strict=True):
        assert values["loss"] == line["loss"] and "step" not in values


def test_without_room_for_the_model_training_is_kept(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(room, "save_model", full)
        with pytest.raises(TrainingError, match=r"training is done, but .*No space left.*make room"):
            train(config_of(rows), tmp_path)
    told: list[str] = []
    found = train(config_of(rows), tmp_path, echo=told.append)
    assert "going on after update 3 of 3" in told and found["loss"] == lines(tmp_path)[-1]["loss"]
    assert (tmp_path / "model" / "config.json").is_file()


def test_answers_on_the_way(rows: Path, tmp_path: Path) -> None:
    train(config_of(rows, keep__sample_every=2, keep__sample_rows=2), tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a" / "samples").iterdir()) == ["step-000002", "step-000003"]
    train(config_of(rows), tmp_path / "b")
    same(tmp_path / "a", tmp_path / "b")  # asking changes nothing
