"""The loop that trains codecs: two players, codebooks that move by themselves, and a running mean of the weights.

It is not the loop of language models: there is no document, no packing and no processor here, and an update has two
steps. Checkpoints, metrics, schedules and the world of processes are the same. One AdamW holds the parameters of both
players; a parameter without a gradient stays as it is, so that each step moves one of them.
"""

from __future__ import annotations

import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vivavoce.base.errors import TrainingError
from vivavoce.base.records import write_record
from vivavoce.codecs.training.adversarial import discriminator_loss
from vivavoce.codecs.training.codebooks import from_first
from vivavoce.codecs.training.discriminators import Discriminators
from vivavoce.codecs.training.trained_codec import TrainedCodec
from vivavoce.data.reader.chance import seed_of
from vivavoce.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from vivavoce.training.codec.batches import Batch, Batches
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.codec.losses import Losses
from vivavoce.training.loop import MOST_BAD, Progress
from vivavoce.training.metrics_log import MetricsLog
from vivavoce.training.optimizers.adamw import FUSED_ON, decay_groups
from vivavoce.training.parallel import gradient_norm
from vivavoce.training.schedules import build_schedule, set_learning_rate
from vivavoce.training.world import World, sum_gradients

Measure = Callable[[int], Mapping[str, Any]]


class Players(nn.Module):
    """Everything that a checkpoint holds: codec, discriminators, and the running mean of the codec's weights."""

    average: AveragedModel | None

    def __init__(self, codec: TrainedCodec, config: CodecTrainConfig) -> None:
        super().__init__()
        self.codec = codec
        settings = config.discriminators
        self.discriminators = None
        if settings is not None:
            self.discriminators = Discriminators(
                settings.periods, settings.windows, settings.period_channels, settings.band_channels
            )
        self.average = None
        if config.model.average is not None:
            mean = get_ema_multi_avg_fn(config.model.average)
            self.average = AveragedModel(codec.codec, multi_avg_fn=mean)
            self.average.requires_grad_(False)


class CodecTrainer:
    """A run on this rank.

    Args:
        config: Of the run.
        folder: Of the run; checkpoints and metrics go there.
        players: On the device of the world.
        batches: Crops.
        world: Of ranks.
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
        config: CodecTrainConfig,
        folder: Path,
        players: Players,
        batches: Batches,
        world: World,
        measure: Measure | None = None,
        sample: Callable[[int], None] | None = None,
        report: Callable[[Progress], None] | None = None,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.folder, self.players, self.batches = config, folder, players, batches
        self.codec, self.world, self.steps = players.codec, world, config.steps
        self.measure, self.sample, self.report, self.echo = measure, sample, report, echo
        self.losses = Losses(config, self.codec.codec.spec.sample_rate).to(world.device)
        self.optimizer = build_players_optimizer(players, config)
        self.schedule = build_schedule(config.schedule, config.steps)
        self.checkpoints = folder / "checkpoints"
        self.step, self.stopped = 0, False
        self.values: dict[str, Any] = {}
        self.sums: dict[str, tuple[float, float]] = {}  # name -> sum and count since the last line
        self.counts = {"audio_s": 0.0, "restarted": 0.0, "skipped_steps": 0.0}
        self._bad, self._saved, self._begun = 0, 0, time.perf_counter()
        self._timed_s = 0.0

    def run(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop (``stopped`` tells); the last line of metrics.

        Raises:
            TrainingError: Gradients are not finite again and again.
            DataError: Recordings that cannot be used.
        """
        keep, log = self.config.keep, None
        self._resume()
        if self.world.is_first:
            log = MetricsLog(
                self.folder, self.step, keep.trackers, self.config.name, write_record(self.config)
            )
        coming = self.batches.ahead(self.step)
        self._begun = time.perf_counter()
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
            coming.close()  # type: ignore[attr-defined]
            if log is not None:
                log.close()
        return self.values

    def start_codebooks(self) -> None:
        """Cluster latents of batches that are drawn for this alone, when it is time; the processes agree then."""
        settings = self.config.codebooks
        self._seed("codebooks")
        if self._fresh and self.step == settings.from_step:
            if self.players.average is not None:
                self.players.average.n_averaged.zero_()  # the mean begins anew with what starts here
            drawn = [self.batches.draw(-1 - n).to(self.world.device) for n in range(settings.start_batches)]
            with torch.no_grad(), self._autocast():
                self.codec.start_codebooks([batch.waveform for batch in drawn])
        if self.world.size > 1:
            for tensor in (*self.players.parameters(), *self.players.buffers()):
                from_first(tensor.data)

    def learn(self, batch: Batch) -> None:
        """Make one update: discriminators first, then the codec against them as they are now."""
        self._seed("update")
        self.players.train()
        batch, config = batch.to(self.world.device), self.config
        self.codec.quantizes = not self._fresh or self.step >= config.codebooks.from_step
        if self._fresh and 0 < self.step == config.codebooks.from_step:
            self.start_codebooks()
            self._seed("update")
        set_learning_rate(self.optimizer, self.schedule.factor(self.step))
        with self._autocast():
            made = self.codec(batch.waveform) if batch.levels is None else self.codec.from_codes(batch.levels)
        told: dict[str, float] = {}
        judges = self.players.discriminators
        plays = judges is not None and self.step >= config.discriminators.from_step  # type: ignore[union-attr]
        if judges is not None and plays:
            told |= self._teach(judges, batch.waveform, made.waveform)
        found = self.losses(made, batch.waveform)
        if judges is not None and plays:
            judges.requires_grad_(False)
            with self._autocast():
                with torch.no_grad():
                    real = judges(batch.waveform)
                judged = judges(made.waveform)
            found |= self.losses.played(judged, real)
        if self._logs(self.step + 1):
            told |= self.losses.balance(found, made.waveform)
        loss = self.losses.total(found)
        (loss / self.world.size).backward()
        if judges is not None:
            judges.requires_grad_(True)
        norm = self._move(self.codec, "codec")
        self.step += 1
        fixed = config.model.train != "all"
        if math.isfinite(norm):
            self.counts["restarted"] += self.codec.follow(made, self.step, fixed)
            if self.players.average is not None:
                self.players.average.update_parameters(self.codec.codec)
        told |= {name: float(value.detach()) for name, value in found.items()} | {
            "loss": float(loss.detach())
        }
        told |= {"grad_norm": norm, "crop_s": batch.waveform.shape[-1] / self.codec.codec.spec.sample_rate}
        self._add(told)
        seconds = batch.waveform.shape[0] * batch.waveform.shape[-1] / self.codec.codec.spec.sample_rate
        self.counts["audio_s"] += seconds * self.world.size

    def _teach(self, judges: Discriminators, real: Tensor, made: Tensor) -> dict[str, float]:
        """Step the discriminators."""
        with self._autocast():
            judged_real, judged = judges(real), judges(made.detach())
        assert self.config.discriminators is not None
        loss = discriminator_loss(judged_real, judged, self.config.discriminators.game)
        (loss / self.world.size).backward()
        norm = self._move(judges, "discriminators")
        middle = 0.0 if self.config.discriminators.game == "hinge" else 0.5
        right = [
            ((a[-1] > middle).float().mean() + (b[-1] < middle).float().mean()) / 2
            for a, b in zip(judged_real, judged, strict=True)
        ]
        return {
            "discriminator": float(loss.detach()),
            "discriminator_norm": norm,
            "discriminators_right": float(torch.stack(right).mean()),
        }

    def _move(self, player: nn.Module, name: str) -> float:
        """Sum gradients over processes, clip, and step one player; returns the norm before."""
        trained = [p for p in player.parameters() if p.requires_grad]
        sum_gradients(trained, self.world)
        norm = gradient_norm(trained)
        most = self.config.optimizer.max_grad_norm
        if math.isfinite(norm):
            if most is not None and norm > most:
                for parameter in trained:
                    if parameter.grad is not None:
                        parameter.grad.mul_(most / norm)
            self.optimizer.step()
            self._bad = 0 if name == "codec" else self._bad
        else:
            self._bad += 1
            self.counts["skipped_steps"] += 1
            if self._bad >= MOST_BAD:
                raise TrainingError(
                    f"the gradient of the {name} was not finite in {self._bad} steps in a row, up to update "
                    f"{self.step}; lower the learning rate, or listen to the recordings."
                )
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _seed(self, what: str) -> None:
        torch.manual_seed(seed_of(self.config.seed, what, self.step, self.world.rank) % (1 << 63))

    def _autocast(self) -> Any:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.config.parallel.autocast)

    @property
    def _fresh(self) -> bool:
        """Whether codebooks start from data: of a codec from scratch."""
        model = self.config.model
        return self.config.codebooks.start == "data" and model.train == "all" and model.start is None

    # what is told and kept

    def _add(self, told: Mapping[str, float]) -> None:
        for name, value in told.items():
            total, count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (total + value, count + 1.0)

    def _logs(self, step: int) -> bool:
        return step == self.steps or step == 1 or step % self.config.keep.log_every == 0

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _tell(self, log: MetricsLog | None) -> None:
        """Write a line where one is due."""
        keep, last = self.config.keep, self.step == self.steps
        measured = self._due(keep.measure_every) or last
        if self._logs(self.step) or measured:
            self._timed_s += time.perf_counter() - self._begun
            self.values = self._line()
            if measured and self.measure is not None:
                self.values |= self.measure(self.step)
            if log is not None:
                log.write(self.step, self.values)
            if self.report is not None:
                self.report(Progress(self.step, self.steps, self.values))
            self._begun = time.perf_counter()
        if self.sample is not None and self._due(keep.sample_every) and not last:
            before = time.perf_counter()
            self.sample(self.step)
            self._begun += time.perf_counter() - before

    def _line(self) -> dict[str, Any]:
        """Means of the updates since the last line."""
        sums = self.world.sum(self.sums)
        made: dict[str, Any] = {name: total / count for name, (total, count) in sums.items()}
        made |= self.codec.use.told()
        self.codec.use.clear()
        self.sums = {}
        made |= {"lr": float(self.optimizer.param_groups[0]["lr"]), **self.counts}
        return made | {"seconds": self._timed_s}

    def save(self) -> None:
        """Write a checkpoint of what is done.

        Raises:
            CheckpointError: It cannot be written; the last one stays.
        """
        sums = {name: list(pair) for name, pair in self.sums.items()}
        seconds = self._timed_s + time.perf_counter() - self._begun
        counters = {"sums": sums, "counts": self.counts, "values": self.values, "bad": self._bad}
        save_checkpoint(
            self.checkpoints,
            self.step,
            self.players,
            self.optimizer,
            reader=sums,
            counters=counters | {"seconds": seconds},
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
            self.start_codebooks()
            return
        found = load_checkpoint(path, self.players, self.optimizer, world=self.world)
        self.step = self._saved = found.step
        counters = found.counters
        own = found.readers[self.world.rank] if found.world_size == self.world.size else counters["sums"]
        self.sums = {name: (pair[0], pair[1]) for name, pair in own.items()}
        self.counts, self.values = dict(counters["counts"]), counters["values"]
        self._bad, self._timed_s = counters["bad"], counters["seconds"]
        self.echo(f"going on after update {self.step} of {self.steps}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the run after the update that is being made; a second Ctrl-C at once."""

        def stop(number: int, frame: Any) -> None:
            if self.stopped and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped = True
            if number == signal.SIGINT and self.world.is_first:
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


def build_players_optimizer(players: Players, config: CodecTrainConfig) -> AdamW:
    """One AdamW over both players, each with a rate of its own.

    Raises:
        ConfigError: No parameter needs a gradient.
    """
    settings = config.optimizer
    groups = [{**group, "lr": settings.lr} for group in decay_groups(players.codec, settings.weight_decay)]
    if players.discriminators is not None:
        assert config.discriminators is not None
        rate = config.discriminators.lr or settings.lr
        groups += [{**g, "lr": rate} for g in decay_groups(players.discriminators, settings.weight_decay)]
    low, high = settings.betas
    fused = all(p.device.type in FUSED_ON for p in players.parameters())
    return AdamW(groups, lr=settings.lr, betas=(low, high), eps=settings.eps, fused=fused)


def kept_codec(players: Players) -> Any:
    """The codec that is kept: of mean weights where they are made."""
    return players.codec.codec if players.average is None else players.average.module
