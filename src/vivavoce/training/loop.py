"""The loop that trains speech LMs: documents, packed; an objective; gradients summed over micro-batches and ranks.

What an update learns is decided by its rows alone: micro-batches and ranks divide it up and change nothing but
rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import DataError, TrainingError
from vivavoce.base.records import read_record
from vivavoce.data.reader.chance import seed_of
from vivavoce.training.checkpoints import Loaded
from vivavoce.training.config import TrainConfig
from vivavoce.training.loader import Loader, Update
from vivavoce.training.objectives import OBJECTIVES, Totals
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.packing import PackedBatch, blank, make_batch, pack
from vivavoce.training.parallel import finish_gradients
from vivavoce.training.schedules import build_schedule, set_learning_rate
from vivavoce.training.speed import flops_per_token, peak_flops
from vivavoce.training.trainable import train_mode
from vivavoce.training.updates import MOST_BAD, Loop, Measure, Progress
from vivavoce.training.window import Window
from vivavoce.training.world import World


class Trainer(Loop):
    """A run of a speech LM on this rank; see ``Loop`` for what is not told here.

    Args:
        config, folder, world, steps, measure, sample, report, echo: See ``Loop``.
        model: Parts that train require gradients; made ready for the world.
        processor: Of the model.
        loader: Training rows, without end.
    """

    config: TrainConfig

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        model: Any,
        processor: Any,
        loader: Loader,
        world: World,
        steps: int,
        measure: Measure | None = None,
        sample: Callable[[int], None] | None = None,
        report: Callable[[Progress], None] | None = None,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.processor, self.loader = processor, loader
        self.objective = build_objective(config, processor)
        settings = config.optimizer
        optimizer = build_optimizer(
            settings.type,
            model,
            lr=settings.lr,
            betas=tuple(settings.betas),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            **settings.options,
        )
        self.schedule = build_schedule(config.schedule, steps)
        super().__init__(config, folder, model, optimizer, world, steps, measure, sample, report, echo)
        self.counts = {"tokens": 0.0, "audio_s": 0.0, "documents": 0.0, "skipped_steps": 0.0}
        self.window = Window()

    def begin(self) -> None:
        """Nothing comes before the first update."""

    def coming(self) -> Generator[Update, None, None]:
        yield from self.loader
        raise DataError("the rows are at an end before the run is; give it more rows, or fewer steps.")

    def learn(self, update: Update) -> None:
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

    def line(self) -> dict[str, Any]:
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

    def new_line(self) -> None:
        self.window = Window()

    def paused(self) -> AbstractContextManager[None]:
        return self.window.paused()

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.loader.state_dict(), {"window": self.window.record()}

    def restore(self, found: Loaded) -> None:
        self.window = Window.from_record(found.counters["window"])
        self.loader.load_state_dict(found.readers)


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
