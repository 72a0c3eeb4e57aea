"""The loop that trains everything: documents, packed; an objective; gradients summed over micro-batches and ranks.

What an update learns is decided by its rows alone: micro-batches and ranks divide it up and change nothing but
rounding.
A run that is stopped (SIGTERM, Ctrl-C, kill -9, a full disk) goes on from its last good checkpoint, and ends with the
weights it would have had.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import DataError, TrainingError
from vivavoce.base.records import read_record
from vivavoce.data.reader.chance import seed_of
from vivavoce.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from vivavoce.training.config import TrainConfig
from vivavoce.training.loader import Loader, Update
from vivavoce.training.metrics_log import MetricsLog
from vivavoce.training.objectives import OBJECTIVES, Totals
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.packing import PackedBatch, idle, make_batch, pack
from vivavoce.training.parallel import finish_gradients
from vivavoce.training.schedules import build_schedule, set_learning_rate
from vivavoce.training.speed import flops_per_token, peak_flops
from vivavoce.training.trainable import train_mode
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


@dataclass
class _Window:
    """What happened since the last line."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    updates: int = 0
    norm: float = 0.0
    tokens: float = 0.0
    padding: float = 0.0
    documents: float = 0.0
    audio_s: float = 0.0
    since: float = field(default_factory=time.perf_counter)


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
        measure: Called with the step now and then; its numbers join the metrics.
        report: Told how far the run is.
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
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self.config, self.folder, self.model, self.processor = config, folder, model, processor
        self.loader, self.world, self.steps = loader, world, steps
        self.measure, self.report = measure, report
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
        self._bad = 0

    def run(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop (``stopped`` tells); the last line of metrics.

        Raises:
            TrainingError: Gradients are not finite again and again.
            DataError: The rows are at an end.
        """
        self._resume()
        first = self.world.is_first
        log = (
            MetricsLog(self.folder, self.step, self.config.keep.trackers, self.config.name) if first else None
        )
        keep, window, values = self.config.keep, _Window(), dict[str, Any]()
        updates = iter(self.loader)
        try:
            with self._signals():
                while self.step < self.steps and not self.world.any(self.stopped):
                    update = next(updates, None)
                    if update is None:
                        raise DataError(
                            "the rows are at an end before the run is; give it more rows, or fewer steps."
                        )
                    self._learn(update, window)
                    if self.step % keep.log_every == 0 or self.step in (1, self.steps):
                        values, window = self._line(window), _Window()
                        if self.measure and self._due(keep.measure_every):
                            values |= self.measure(self.step)
                            window = _Window()
                        if log is not None:
                            log.write(self.step, values)
                        if self.report is not None:
                            self.report(Progress(self.step, self.steps, values))
                    if self._due(keep.save_every) and self.step < self.steps:
                        self.save()
        finally:
            updates.close()  # type: ignore[attr-defined]
            if log is not None:
                log.close()
        self.stopped = self.step < self.steps
        self.save()
        return values

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _learn(self, update: Update, window: _Window) -> None:
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
            with self._autocast():
                loss, metrics = self.objective(self.model, batch, totals)
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
        for name in sizes:
            setattr(window, name, getattr(window, name) + told[name])
            if name in self.counts:
                self.counts[name] += told[name]
        for name in sums:
            a, b = told[f"m/{name}"]
            before = window.sums.get(name, (0.0, 0.0))
            window.sums[name] = (before[0] + a, before[1] + b)
        window.updates += 1
        window.norm = norm

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
        yield from batches
        for _ in range(self.world.most(len(batches)) - len(batches)):
            yield idle(batches[0])

    def _autocast(self) -> Any:
        if not self.config.parallel.autocast:
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    # what is told and kept

    def _line(self, window: _Window) -> dict[str, Any]:
        """Numbers of the updates since the last line."""
        seconds = max(1e-9, time.perf_counter() - window.since)
        made: dict[str, Any] = {name: total / count for name, (total, count) in window.sums.items() if count}
        groups = self.optimizer.param_groups
        length = window.tokens / max(1.0, window.documents)
        peak = peak_flops(self.world.device)
        if peak:
            done = flops_per_token(self.model, int(length)) * window.tokens / seconds
            made["mfu"] = done / (peak * self.world.size)
        return made | {
            "lr": groups[0]["lr"],
            "grad_norm": window.norm,
            "padding": window.padding / max(1.0, window.tokens + window.padding),
            "tokens_per_s": window.tokens / seconds,
            "audio_s_per_s": window.audio_s / seconds,
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
            counters={"counts": self.counts, "bad": self._bad},
            world=self.world,
            keep_last=self.config.keep.keep_last,
        )

    def _resume(self) -> None:
        """Go on from the last good checkpoint, if there is one."""
        path = latest_checkpoint(self.checkpoints, self.world)
        if path is None:
            return
        found = load_checkpoint(path, self.model, self.optimizer, world=self.world)
        self.step = found.step
        self.counts, self._bad = dict(found.counters["counts"]), found.counters["bad"]
        self.loader.load_state_dict(found.readers)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the run after the update that is being made; a second Ctrl-C at once."""

        def stop(number: int, frame: Any) -> None:
            if self.stopped and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped = True

        try:
            before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread, where signals cannot be had
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


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
