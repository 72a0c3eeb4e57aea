"""Numbers of a run as it goes: a line of JSON for each, and other places that want them.

The file of a run that was stopped and goes on has every step once, as if it had never been stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.base.registry import Registry

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
    """Another place for metrics; a row of ``TRACKERS`` is called with the run's name, folder and record."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step."""

    def close(self) -> None:
        """No more will come."""


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
        part = self.path.with_suffix(".part")
        part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        part.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self.trackers: list[Tracker] = [TRACKERS.get(t)(name, folder, record or {}) for t in trackers]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Add the numbers of a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        for tracker in self.trackers:
            tracker.log(step, numbers)

    def close(self) -> None:
        """Write all that is held back."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
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

    def __init__(self, name: str, folder: Path, record: Any) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tracker tensorboard needs: pip install tensorboard.") from error
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
        import importlib

        try:
            self._module: Any = importlib.import_module(self.module)
        except ImportError as error:
            raise MissingExtraError(f"tracker {self.module} needs: pip install {self.module}.") from error
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
