"""The loss on rows that are never learned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from vivavoce.base.errors import DataError
from vivavoce.training.config import BatchSettings, SetSettings, TrainConfig
from vivavoce.training.loader import Loader
from vivavoce.training.loop import build_objective
from vivavoce.training.objectives import Totals
from vivavoce.training.packing import PackedBatch, blank, make_batch, pack
from vivavoce.training.trainable import train_mode
from vivavoce.training.updates import autocast
from vivavoce.training.world import World


class HeldOut:
    """Documents of held-out sets, read once and kept.

    Args:
        config: Of the run.
        sets: With paths.
        processor: Of the model.
        world: Each process measures its share of the rows.

    Raises:
        DataError: A set has no row that can be measured.
    """

    def __init__(
        self, config: TrainConfig, sets: Sequence[SetSettings], processor: Any, world: World
    ) -> None:
        self.config, self.world, self.pad_id = config, world, processor.pad_id
        self.objective = build_objective(config, processor)
        self.batches: dict[str, list[PackedBatch]] = {}
        batch = BatchSettings(
            rows=world.size,
            max_tokens=config.batch.max_tokens,
            max_audio_s=config.batch.max_audio_s,
            too_long="skip",
        )
        for one in sets:
            loader = Loader(
                [one],
                config.data,
                batch,
                processor,
                self.objective.rendering,
                config.seed,
                world.rank,
                world.size,
                1,
            )
            rows = -(-config.keep.measure_rows // world.size)
            documents = []
            for update in islice(loader, rows):
                documents += update.documents
                loader.done(update)
            if not world.most(len(documents)):
                raise DataError(
                    f"the held-out set {one.name!r} has no row that can be measured. {loader.told()}"
                )
            groups = pack(documents, batch.max_tokens, batch.max_audio_s) if documents else []
            self.batches[str(one.name)] = [make_batch([documents[i] for i in group]) for group in groups]

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """Metrics of every set, named ``held_out/SET/METRIC``, and ``held_out/loss`` over all."""
        model.eval()
        made: dict[str, float] = {}
        losses = []
        for name, batches in self.batches.items():
            own = self.objective.totals(batches)
            totals = Totals(**self.world.sum(vars(own)))
            sums: dict[str, Any] = {}
            more = self.world.most(len(batches)) - len(batches)
            for batch in [*batches, *[blank(self.pad_id, self.objective.rendering == "distill")] * more]:
                with autocast(self.config, self.world):
                    loss, metrics = self.objective(model, batch.to(self.world.device), totals)
                for key, pair in (metrics | {"loss": (loss, 0.0)}).items():
                    before = sums.get(key, (0.0, 0.0))
                    sums[key] = (before[0] + pair[0], before[1] + pair[1])
            sums["loss"] = (sums.get("loss", (0.0,))[0], 1.0 / self.world.size)
            for key, (total, count) in self.world.sum(sums).items():
                if count:
                    made[f"held_out/{name}/{key}"] = total / count
            losses.append(made[f"held_out/{name}/loss"])
        train_mode(model)
        return made | ({"held_out/loss": sum(losses) / len(losses)} if losses else {})
