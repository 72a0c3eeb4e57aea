"""The loop that trains everything: documents, packed; an objective; gradients summed over micro-batches and ranks.

What an update learns is decided by its rows alone: micro-batches and ranks divide it up and change nothing but
rounding.
A run that is stopped (SIGTERM, Ctrl-C, kill -9, a full disk) goes on from its last good checkpoint, and ends with the
weights it would have had.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import DataError, TrainingError
from vivavoce.base.records import read_record, write_record
from vivavoce.data.reader.chance import seed_of
from vivavoce.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from vivavoce.training.config import TrainConfig
from vivavoce.training.loader import Loader, Update
from vivavoce.training.metrics_log import MetricsLog
from vivavoce.training.objectives import OBJECTIVES, Totals
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.packing import PackedBatch, blank, make_batch, pack
from vivavoce.training.parallel import finish_gradients
from vivavoce.training.schedules import build_schedule, set_learning_rate
from vivavoce.training.speed import flops_per_token, peak_flops
from vivavoce.training.trainable import train_mode
from vivavoce.training.window import Window
from vivavoce.training.world import World

MOST_BAD = 20  # updates in a row without a finite gradient


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


class Trainer:
    """A run on this rank.

    Args:
        config: Of the run.
        folder: Of the run; checkpoints and metrics go there.
        model: Parts that train require gradients; made ready for the world.
        processor: Of the model.
        loader: Training rows, without end.
        world: Of ranks.
        steps: Updates in all.
        measure: Called with the step now and then, and after the last; its numbers join the metrics.
        sample: Called with the step now and then.
        report: Told how far the run is.
        echo: Told where a run goes on.

    Attributes:
        step: Updates done.
        values: Numbers of the last line of metrics.
        stopped: Whether a stop was asked for before the end.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        model: Any,
        processor: Any,
        loader: Loader,
        world: World,
        steps: int,
        measure: Callable[[int], Mapping[str, Any]] | None = None,
        sample: Callable[[int], None] | None = None,
        report: Callable[[Progress], None] | None = None,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.folder, self.model, self.processor = config, folder, model, processor
        self.loader, self.world, self.steps = loader, world, steps
        self.measure, self.sample, self.report, self.echo = measure, sample, report, echo
        self.objective = build_objective(config, processor)
        settings = config.optimizer
        self.optimizer = build_optimizer(
            settings.type,
            model,
            lr=settings.lr,
            betas=tuple(settings.betas),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            **settings.options,
        )
        self.schedule = build_schedule(config.schedule, steps)
        self.checkpoints = folder / "checkpoints"
        self.step, self.stopped = 0, False
        self.counts = {"tokens": 0.0, "audio_s": 0.0, "documents": 0.0, "skipped_steps": 0.0}
        self.values: dict[str, Any] = {}
        self.window = Window()
        self._bad, self._saved = 0, 0

    def run(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop (``stopped`` tells); the last line of metrics.

        Raises:
            TrainingError: Gradients are not finite again and again.
            DataError: The rows are at an end.
        """
        self._resume()
        keep, log = self.config.keep, None
        if self.world.is_first:
            record = write_record(self.config)
            log = MetricsLog(self.folder, self.step, keep.trackers, self.config.name, record)
        updates = iter(self.loader)
        try:
            with self._signals():
                while self.step < self.steps and not self.world.any(self.stopped):
                    update = next(updates, None)
                    if update is None:
                        raise DataError(
                            "the rows are at an end before the run is; give it more rows, or fewer steps."
                        )
                    self._learn(update)
                    self._tell(log)
                    if self._due(keep.save_every) and self.step < self.steps:
                        self.save()
                self.stopped = self.step < self.steps
                if self.step > self._saved:
                    self.save()
        finally:
            updates.close()  # type: ignore[attr-defined]
            if log is not None:
                log.close()
        return self.values

    def _tell(self, log: MetricsLog | None) -> None:
        """Write a line where one is due, with the loss on held-out rows where that is."""
        keep, last = self.config.keep, self.step == self.steps
        measure = self.measure if last or self._due(keep.measure_every) else None
        if measure or last or self.step == 1 or self._due(keep.log_every):
            self.values = self._line() | dict(measure(self.step) if measure else {})
            if log is not None:
                log.write(self.step, self.values)
            if self.report is not None:
                self.report(Progress(self.step, self.steps, self.values))
            self.window = Window()
        if self.sample is not None and self._due(keep.sample_every) and not last:
            with self.window.paused():
                self.sample(self.step)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _learn(self, update: Update) -> None:
        """Make one update."""
        torch.manual_seed(
            seed_of(self.config.seed, self.step * self.world.size + self.world.rank) % (1 << 63)
        )
        factor = self.schedule.factor(self.step)
        set_learning_rate(self.optimizer, factor)
        batches = self._batches(update)
        own = self.objective.totals(batches)
        totals = Totals(**self.world.sum(dataclasses.asdict(own)))
        sums: dict[str, Any] = {}
        train_mode(self.model)
        for batch in self._even(batches):
            batch = batch.to(self.world.device)
            with autocast(self.config, self.world):
                loss, metrics = self.objective(self.model, batch, totals)
            if loss.requires_grad:  # not so where only ears learn, and nobody hears
                loss.backward()
            for name, pair in (metrics | {"loss": (loss.detach(), 0.0)}).items():
                before = sums.get(name)
                sums[name] = pair if before is None else (before[0] + pair[0], before[1] + pair[1])
        sums["loss"] = (sums["loss"][0], 1.0 / self.world.size)
        norm = finish_gradients(self.model, self.world, self.config.optimizer.max_grad_norm)
        self._step(norm)
        self.loader.done(update)
        self.step += 1
        tokens = float(sum(batch.num_tokens - batch.padding for batch in batches))
        sizes = {
            "tokens": tokens,
            "padding": float(sum(batch.padding for batch in batches)),
            "documents": float(len(update.documents)),
            "audio_s": sum(batch.audio_s for batch in batches),
        }
        told = self.world.sum({**{f"m/{k}": v for k, v in sums.items()}, **sizes})
        for name in self.counts.keys() & sizes.keys():
            self.counts[name] += told[name]
        metrics = {name: told[f"m/{name}"] for name in sums} if math.isfinite(norm) else {}
        self.window.add(metrics, told, norm)

    def _step(self, norm: float) -> None:
        """Step by the gradients, unless they are not finite."""
        if math.isfinite(norm):
            self._bad = 0
            self.optimizer.step()
        else:
            self._bad += 1
            self.counts["skipped_steps"] += 1
            if self._bad >= MOST_BAD:
                raise TrainingError(
                    f"the gradient was not finite in {self._bad} updates in a row, up to step {self.step}; lower the "
                    "learning rate, or look at the rows by: vivavoce data check."
                )
        self.optimizer.zero_grad(set_to_none=True)

    def _batches(self, update: Update) -> list[PackedBatch]:
        settings, documents = self.config.batch, update.documents
        groups = pack(documents, settings.max_tokens, settings.max_audio_s)
        return [
            make_batch([documents[i] for i in group], settings.chain, settings.pad_to, self.processor.pad_id)
            for group in groups
        ]

    def _even(self, batches: Sequence[PackedBatch]) -> Iterator[PackedBatch]:
        """As many as the rank with the most has, since sharded models meet in every pass."""
        more = self.world.most(len(batches)) - len(batches)  # asked before any pass, where processes meet too
        yield from batches
        yield from [blank(self.processor.pad_id, self.objective.rendering == "distill")] * more

    # what is told and kept

    def _line(self) -> dict[str, Any]:
        """Numbers of the updates since the last line."""
        window, sizes = self.window, self.window.sizes
        seconds, tokens = window.spent(), sizes["tokens"]
        made: dict[str, Any] = window.means()
        length = tokens / max(1.0, sizes["documents"])
        peak = peak_flops(self.world.device)
        if peak:
            done = flops_per_token(self.model, int(length)) * tokens / seconds
            made["mfu"] = done / (peak * self.world.size)
        return made | {
            "lr": self.optimizer.param_groups[0]["lr"],
            "grad_norm": window.norm,
            "padding": sizes["padding"] / max(1.0, tokens + sizes["padding"]),
            "tokens_per_s": tokens / seconds,
            "audio_s_per_s": sizes["audio_s"] / seconds,
            **self.counts,
        }

    def save(self) -> None:
        """Write a checkpoint of what is done.

        Raises:
            CheckpointError: It cannot be written; the last one stays.
        """
        save_checkpoint(
            self.checkpoints,
            self.step,
            self.model,
            self.optimizer,
            reader=self.loader.state_dict(),
            counters={
                "counts": self.counts,
                "bad": self._bad,
                "values": self.values,
                "window": self.window.record(),
            },
            world=self.world,
            keep_last=self.config.keep.keep_last,
        )
        self._saved = self.step

    def _resume(self) -> None:
        """Go on from the last good checkpoint, if there is one."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            path = latest_checkpoint(self.checkpoints, self.world)
        for warning in told:
            self.echo(f"warning: {warning.message}")
        if path is None:
            return
        found = load_checkpoint(path, self.model, self.optimizer, world=self.world)
        self.step = self._saved = found.step
        self.counts, self._bad = dict(found.counters["counts"]), found.counters["bad"]
        self.values, self.window = found.counters["values"], Window.from_record(found.counters["window"])
        self.loader.load_state_dict(found.readers)
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


def autocast(config: TrainConfig, world: World) -> Any:
    """Compute in bfloat16 where a run says so."""
    if not config.parallel.autocast:
        return nullcontext()
    return torch.autocast(world.device.type, torch.bfloat16)


def build_objective(config: TrainConfig, processor: Any) -> Any:
    """The objective of a run for a model with this processor.

    Raises:
        ConfigError: No such objective, or settings that it does not have.
    """
    record = dict(config.objective)
    cls = OBJECTIVES.get(str(record.pop("type")))
    settings = read_record(cls.config_class, record, "objective")
    vocabularies = (processor.vocabulary_in, processor.vocabulary_out)
    return cls(settings, max((v.flattening.period for v in vocabularies if v is not None), default=0))
