"""Numbers of a run as it goes: a line of JSON for each, and other places that want them.

The file of a run that was stopped and goes on has every step once, as if it had never been stopped.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from vivavoce.base.errors import DataError, MissingExtraError, TrainingError
from vivavoce.base.registry import Registry
from vivavoce.base.whole_files import write_whole

TRACKERS = Registry(
    "tracker",
    {
        "tensorboard": "vivavoce.training.metrics_log:TensorBoard",
        "wandb": "vivavoce.training.metrics_log:WandB",
        "trackio": "vivavoce.training.metrics_log:Trackio",
    },
    group="vivavoce.trackers",
)


class Tracker(Protocol):
    """Another place for metrics; a row of ``TRACKERS`` is called with the run's name, folder and record.

    A row may name the package that it needs as ``module``.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step."""

    def close(self) -> None:
        """No more will come."""


def check_trackers(names: Sequence[str]) -> None:
    """Look whether trackers can be used, before anything is trained.

    Raises:
        ConfigError: No such tracker.
        MissingExtraError: Its package is not installed.
    """
    for name in names:
        module = getattr(TRACKERS.get(name), "module", None)
        if module is not None and find_spec(module) is None:
            raise MissingExtraError(f"tracker {name} needs: pip install {module}.")


class MetricsLog:
    """``metrics.jsonl`` of a run folder, and the trackers.

    Args:
        folder: Of the run.
        step: Updates that are done; lines of later ones, which a stopped run left, are dropped.
        trackers: Names in ``TRACKERS``.
        name: Of the run.
        record: Its settings.

    Raises:
        MissingExtraError: A tracker is not installed.
    """

    def __init__(
        self, folder: Path, step: int = 0, trackers: Sequence[str] = (), name: str = "run", record: Any = None
    ) -> None:
        self.path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [line for line in read_metrics(folder) if line["step"] <= step] if self.path.exists() else []
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = self.path.open("a", encoding="utf-8")
        self.trackers: list[Tracker] = [TRACKERS.get(t)(name, folder, record or {}) for t in trackers]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Add the numbers of a step; those that are not finite are null in the file and not told to trackers.

        Raises:
            TrainingError: The file cannot be written.
        """
        line = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in {"step": step, **values}.items()
        }
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"{self.path} cannot be written ({error}); make room, and run the same command again to go on from "
                "the last checkpoint."
            ) from error
        numbers = {k: float(v) for k, v in line.items() if isinstance(v, int | float) and k != "step"}
        for tracker in self.trackers:
            tracker.log(step, numbers)

    def close(self) -> None:
        """Write all that is held back."""
        with suppress(OSError):  # a full disk was told of by write
            os.fsync(self._file.fileno())
        with suppress(OSError):
            self._file.close()
        for tracker in self.trackers:
            tracker.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, in order; a line that was cut off by a kill is left out.

    Raises:
        DataError: There is no such file, or a line within it is damaged.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{folder} has no metrics.jsonl; wanted the folder of a training run.") from error
    found = []
    for number, line in enumerate(lines):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines) - 1:
                raise DataError(f"line {number + 1} of {path} is damaged: {line[:80]!r}.") from error
    return found


class TensorBoard:
    """Event files under ``tensorboard/``."""

    module = "tensorboard"

    def __init__(self, name: str, folder: Path, record: Any) -> None:
        check_trackers(["tensorboard"])
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _Service:
    """What wandb and trackio share."""

    module = ""

    def __init__(self, name: str, folder: Path, record: Any) -> None:
        check_trackers([self.module])
        self._module: Any = importlib.import_module(self.module)
        self._module.init(project="vivavoce", name=name, config=record, **self.options(folder))

    def options(self, folder: Path) -> dict[str, Any]:
        return {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._module.log(dict(values), step=step)

    def close(self) -> None:
        self._module.finish()


class WandB(_Service):
    """Weights & Biases."""

    module = "wandb"

    def options(self, folder: Path) -> dict[str, Any]:
        return {"dir": str(folder), "resume": "allow"}


class Trackio(_Service):
    """Trackio."""

    module = "trackio"
