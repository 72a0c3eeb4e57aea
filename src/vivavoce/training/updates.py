"""What every training run does around its updates: lines of metrics, checkpoints, stopping and going on.

A run that is stopped (SIGTERM, Ctrl-C, kill -9, a full disk) goes on from its last good checkpoint, and ends with the
weights it would have had. What an update is, stands where it is made: ``loop.py`` for speech LMs, ``codec/loop.py`` for
codecs.
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import TrainingError
from vivavoce.base.records import write_record
from vivavoce.training.checkpoints import Loaded, latest_checkpoint, load_checkpoint, save_checkpoint
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.config import TrainConfig
from vivavoce.training.metrics_log import MetricsLog
from vivavoce.training.world import World

MOST_BAD = 20  # updates in a row without a finite gradient

Measure = Callable[[int], Mapping[str, Any]]


@dataclass
class Progress:
    """How far a run is, for people.

    Attributes:
        step: Updates done.
        steps: Updates in all.
        values: The line that was last logged.
    """

    step: int
    steps: int
    values: dict[str, Any]


class Loop(ABC):
    """A run on this rank.

    Args:
        config: Of the run.
        folder: Of the run; checkpoints and metrics go there.
        model: All that a checkpoint holds the weights of.
        optimizer: Of the model.
        world: Of ranks.
        steps: Updates in all.
        measure: Called with the step now and then, and after the last; its numbers join the metrics.
        sample: Called with the step now and then.
        report: Told how far the run is.
        echo: Told where a run goes on, and where it stopped.

    Attributes:
        step: Updates done.
        counts: Sums over the whole run.
        values: Numbers of the last line of metrics.
        stopped: Whether a stop was asked for before the end.
    """

    config: TrainConfig | CodecTrainConfig

    def __init__(
        self,
        config: TrainConfig | CodecTrainConfig,
        folder: Path,
        model: Any,
        optimizer: Any,
        world: World,
        steps: int,
        measure: Measure | None = None,
        sample: Callable[[int], None] | None = None,
        report: Callable[[Progress], None] | None = None,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.folder, self.model, self.optimizer = config, folder, model, optimizer
        self.world, self.steps = world, steps
        self.measure, self.sample, self.report, self.echo = measure, sample, report, echo
        self.checkpoints = folder / "checkpoints"
        self.step, self.stopped = 0, False
        self.counts: dict[str, float] = {}
        self.values: dict[str, Any] = {}
        self._bad, self._saved = 0, 0

    # what differs from one kind of training to the other

    @abstractmethod
    def coming(self) -> Generator[Any, None, None]:
        """What the updates learn from, without end, from the present step on."""

    @abstractmethod
    def learn(self, update: Any) -> None:
        """Make one update, and count it in ``step``."""

    @abstractmethod
    def line(self) -> dict[str, Any]:
        """Numbers of the updates since the last line."""

    @abstractmethod
    def new_line(self) -> None:
        """Begin to count for the next line."""

    @abstractmethod
    def paused(self) -> AbstractContextManager[None]:
        """Let time pass that no line counts."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint keeps beside ``counts`` and ``values``: of this rank, and of the run."""

    @abstractmethod
    def restore(self, found: Loaded) -> None:
        """Take back what `state` gave."""

    @abstractmethod
    def begin(self) -> None:
        """Do what comes before the first update of a run that has no checkpoint."""

    # what is the same

    def run(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop (``stopped`` tells); the last line of metrics.

        Raises:
            TrainingError: Gradients are not finite again and again.
            DataError: What is learned from is at an end, or cannot be used.
        """
        self._resume()
        keep, log = self.config.keep, None
        if self.world.is_first:
            record = write_record(self.config)
            log = MetricsLog(self.folder, self.step, keep.trackers, self.config.name, record)
        coming = self.coming()
        try:
            with self._signals():
                while self.step < self.steps and not self.world.any(self.stopped):
                    self.learn(next(coming))
                    self._tell(log)
                    if self._due(keep.save_every) and self.step < self.steps:
                        self.save()
                self.stopped = self.step < self.steps
                if self.step > self._saved:
                    self.save()
        finally:
            coming.close()
            if log is not None:
                log.close()
        if self.stopped:
            self.echo(
                f"stopped after update {self.step} of {self.steps}; the same command goes on from there."
            )
        return self.values

    def _tell(self, log: MetricsLog | None) -> None:
        """Write a line where one is due, with what is measured where that is."""
        keep, last = self.config.keep, self.step == self.steps
        measure = self.measure if last or self._due(keep.measure_every) else None
        if measure or self._logs(self.step):
            self.values = self.line() | dict(measure(self.step) if measure else {})
            if log is not None:
                log.write(self.step, self.values)
            if self.report is not None:
                self.report(Progress(self.step, self.steps, self.values))
            self.new_line()
        if self.sample is not None and self._due(keep.sample_every) and not last:
            with self.paused():
                self.sample(self.step)

    def _logs(self, step: int) -> bool:
        """Whether a line follows an update, even if nothing is measured."""
        return step == self.steps or step == 1 or step % self.config.keep.log_every == 0

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _autocast(self) -> Any:
        return autocast(self.config, self.world)

    def save(self) -> None:
        """Write a checkpoint of what is done.

        Raises:
            CheckpointError: It cannot be written; the last one stays.
        """
        own, shared = self.state()
        save_checkpoint(
            self.checkpoints,
            self.step,
            self.model,
            self.optimizer,
            reader=own,
            counters={"counts": self.counts, "bad": self._bad, "values": self.values, **shared},
            world=self.world,
            keep_last=self.config.keep.keep_last,
        )
        self._saved = self.step

    def _resume(self) -> None:
        """Go on from the last good checkpoint, or begin."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            path = latest_checkpoint(self.checkpoints, self.world)
        for warning in told:
            self.echo(f"warning: {warning.message}")
        if path is None:
            self.begin()
            return
        found = load_checkpoint(path, self.model, self.optimizer, world=self.world)
        self.step = self._saved = found.step
        self.counts, self._bad = dict(found.counters["counts"]), found.counters["bad"]
        self.values = found.counters["values"]
        self.restore(found)
        self.echo(f"going on after update {self.step} of {self.steps}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the run after the update that is being made; a second Ctrl-C at once."""

        def stop(number: int, frame: Any) -> None:
            if self.stopped and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped = True
            if (
                number == signal.SIGINT and self.world.is_first
            ):  # not by print, which may be what was interrupted
                os.write(2, b"\nstopping after this update; Ctrl-C again stops at once\n")

        try:
            before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread, where signals cannot be had
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def autocast(config: TrainConfig | CodecTrainConfig, world: World) -> Any:
    """Compute in bfloat16 where a run says so."""
    if not config.parallel.autocast:
        return nullcontext()
    return torch.autocast(world.device.type, torch.bfloat16)


def deciding(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe decides the weights; the rest may change from one start of a run to the next."""
    kept = {k: v for k, v in record.items() if k not in ("keep", "name", "description", "parallel")}
    loaded: dict[str, Any] = json.loads(json.dumps(kept))
    return loaded


@contextmanager
def writing_results(folder: Path) -> Iterator[None]:
    """Say what to do when there is no room for what was trained.

    Raises:
        TrainingError: The block could not write.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"training is done, but its results cannot be written to {folder} ({error}); make room, and run the "
            "same command again."
        ) from error
