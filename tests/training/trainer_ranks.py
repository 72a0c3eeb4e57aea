"""Runs on two processes; started by ``torch.multiprocessing.spawn``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from safetensors.torch import save_file
from tests.training.parallel_ranks import whole
from tests.training.run_cases import config_of, trainer_of

from vivavoce.training.held_out import HeldOut
from vivavoce.training.loader import Loader, Update
from vivavoce.training.sets import prepare_sets
from vivavoce.training.world import World

# what is changed in the recipe; by "one_sided" one process has all rows
CASES: dict[str, dict[str, Any]] = {
    "replicate, many batches": {"parallel__mode": "replicate", "batch__max_tokens": 130},
    "fsdp, many batches": {"parallel__mode": "fsdp", "batch__max_tokens": 130},
    "fsdp, one_sided": {"parallel__mode": "fsdp", "batch__max_tokens": 130},
    "fsdp, one_sided, distill": {
        "parallel__mode": "fsdp",
        "objective": {"type": "distill"},
        "train": {"language_model": "lora", "lora": {"language_model": {"rank": 2}}},
    },
}


class OneSided:
    """A loader whose updates have all their rows on rank 1; rank 0 has none."""

    def __init__(self, loader: Loader, rows: Loader, rank: int) -> None:
        self.loader, self.rows, self.rank = loader, rows, rank

    def __iter__(self) -> Iterator[Update]:
        for update in self.rows:
            yield update if self.rank else Update([], [], [])

    def done(self, update: Update) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()


def one_run(case: str, sets: Path, held_out: Path, folder: Path, world: World) -> dict[str, Any]:
    """Train a case; parameters and metrics."""
    config = config_of(sets, **CASES[case], data__held_out=[{"path": str(held_out)}])
    prepared = prepare_sets(config.data.sets, folder, world)

    def one_sided(loader: Loader) -> Any:
        if "one_sided" not in case or world.size == 1:
            return loader
        rows = Loader(prepared, config.data, config.batch, loader.processor, loader.objective, config.seed)
        return OneSided(loader, rows, world.rank)

    trainer = trainer_of(config, folder, world, one_sided)
    trainer.run()
    held = HeldOut(config, prepare_sets(config.data.held_out, folder, world), trainer.processor, world)
    measured = held.measure(trainer.model)
    return {"parameters": {n: whole(p) for n, p in trainer.model.named_parameters()}, "measured": measured}


def run_process(rank: int, folder: Path, sets: Path, held_out: Path) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    world, facts = World(rank, 2, rank, 2), {}
    for case in CASES:
        found = one_run(case, sets, held_out, folder / case, world)
        facts[case] = found["measured"]
        if rank == 0:
            save_file(found["parameters"], folder / f"{case}.safetensors")
    (folder / f"facts-{rank}.json").write_text(json.dumps(facts))
    torch.distributed.destroy_process_group()
