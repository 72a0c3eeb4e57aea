"""The loop that trains codecs: two players, codebooks that move by themselves, and a running mean of the weights.

Its updates are not those of language models: there is no document, no packing and no processor here, and an update has
two steps. What is around them is the same (``training/updates.py``). One AdamW holds the parameters of both
players; a parameter without a gradient stays as it is, so that each step moves one of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vivavoce.base.errors import TrainingError
from vivavoce.codecs.training.adversarial import discriminator_loss
from vivavoce.codecs.training.codebooks import from_first
from vivavoce.codecs.training.discriminators import Discriminators
from vivavoce.codecs.training.trained_codec import TrainedCodec
from vivavoce.data.reader.chance import seed_of
from vivavoce.training.checkpoints import Loaded
from vivavoce.training.codec.batches import Batch, Batches
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.codec.losses import Losses
from vivavoce.training.optimizers.adamw import FUSED_ON, decay_groups
from vivavoce.training.parallel import gradient_norm
from vivavoce.training.schedules import build_schedule, set_learning_rate
from vivavoce.training.updates import MOST_BAD, Loop, Measure, Progress
from vivavoce.training.world import World, sum_gradients


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


class CodecTrainer(Loop):
    """A run of a codec on this rank; see ``Loop`` for what is not told here.

    Args:
        config, folder, world, measure, sample, report, echo: See ``Loop``.
        players: On the device of the world.
        batches: Crops.
    """

    config: CodecTrainConfig

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
        self.players, self.batches, self.codec = players, batches, players.codec
        self.losses = Losses(config, self.codec.codec.spec.sample_rate).to(world.device)
        optimizer = build_players_optimizer(players, config)
        self.schedule = build_schedule(config.schedule, config.steps)
        super().__init__(
            config, folder, players, optimizer, world, config.steps, measure, sample, report, echo
        )
        self.sums: dict[str, tuple[float, float]] = {}  # name -> sum and count since the last line
        self.counts = {"audio_s": 0.0, "restarted": 0.0, "skipped_steps": 0.0}
        self._begun, self._timed_s = time.perf_counter(), 0.0

    def coming(self) -> Generator[Batch, None, None]:
        coming = self.batches.ahead(self.step)
        self._begun = time.perf_counter()
        return coming

    def begin(self) -> None:
        self.start_codebooks()

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

    def line(self) -> dict[str, Any]:
        self._timed_s += time.perf_counter() - self._begun
        sums = self.world.sum(self.sums)
        made: dict[str, Any] = {name: total / count for name, (total, count) in sums.items()}
        made |= self.codec.use.told()
        self.codec.use.clear()
        self.sums = {}
        made |= {"lr": float(self.optimizer.param_groups[0]["lr"]), **self.counts}
        return made | {"seconds": self._timed_s}

    def new_line(self) -> None:
        self._begun = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._begun += time.perf_counter() - before

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        sums = {name: list(pair) for name, pair in self.sums.items()}
        seconds = self._timed_s + time.perf_counter() - self._begun
        return sums, {"sums": sums, "seconds": seconds}

    def restore(self, found: Loaded) -> None:
        counters = found.counters
        own = found.readers[self.world.rank] if found.world_size == self.world.size else counters["sums"]
        self.sums = {name: (pair[0], pair[1]) for name, pair in own.items()}
        self._timed_s = counters["seconds"]


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
