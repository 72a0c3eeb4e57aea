"""The file of metrics: every step once, also after a kill; and other places that want the numbers."""

from __future__ import annotations

import errno
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError, TrainingError
from vivavoce.training.metrics_log import MetricsLog, check_trackers, read_metrics


def written(folder: Path, *steps: int, done: int = 0) -> None:
    log = MetricsLog(folder, done)
    for step in steps:
        log.write(step, {"loss": 1.0 / step})
    log.close()


def test_every_step_is_there_once(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3, 4)
    written(tmp_path, 3, 4, 5, done=2)  # it went on after the checkpoint of step 2
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    written(tmp_path, 1, done=0)
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines()[0]) + 2, len(whole) - 2):
        path.write_bytes(whole[:cut])
        assert [line["step"] for line in read_metrics(tmp_path)] == [1]
    path.write_bytes(whole[:-5])
    written(tmp_path, 2, done=1)
    assert path.read_bytes() == whole
    path.write_bytes(b'{"step": 1, "lo\n' + whole)
    with pytest.raises(DataError, match=r"line 1 of .* is damaged"):
        read_metrics(tmp_path)
    with pytest.raises(DataError, match=r"has no metrics.jsonl; wanted the folder of a training run"):
        read_metrics(tmp_path / "none")


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write(1, {"loss": math.nan, "norm": math.inf, "lr": 0.5})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "loss": None, "norm": None, "lr": 0.5}


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write(1, {"loss": 1.0})
    file = log._file

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    log._file = Full()  # type: ignore[assignment]
    with pytest.raises(
        TrainingError, match=r"cannot be written .*No space left.*make room, and run the same"
    ):
        log.write(2, {"loss": 1.0})
    log.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]


def test_trackers_that_are_not_installed_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vivavoce.training.metrics_log.find_spec", lambda _: None)
    for name in ("tensorboard", "wandb", "trackio"):
        with pytest.raises(MissingExtraError, match=f"tracker {name} needs: pip install {name}"):
            check_trackers([name])
        with pytest.raises(MissingExtraError):
            MetricsLog(tmp_path, trackers=[name])
    with pytest.raises(ConfigError, match=r"unknown tracker 'wandbb'.*Did you mean 'wandb'"):
        check_trackers(["wandbb"])


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_services_get_numbers(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[Any] = []
    module = ModuleType(name)
    module.init = lambda **settings: told.append(settings)  # type: ignore[attr-defined]
    module.log = lambda values, step: told.append((step, values))  # type: ignore[attr-defined]
    module.finish = lambda: told.append("finish")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("vivavoce.training.metrics_log.find_spec", lambda _: True)
    log = MetricsLog(tmp_path, 0, [name], "mine", {"seed": 3})
    log.write(7, {"loss": 2, "norm": math.inf, "word": "no"})
    log.close()
    assert told[0]["name"] == "mine" and told[0]["config"] == {"seed": 3} and told[0]["project"] == "vivavoce"
    assert told[1:] == [(7, {"loss": 2.0}), "finish"]
