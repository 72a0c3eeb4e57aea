"""What each process does in tests of checkpoints; started by ``torch.multiprocessing.spawn``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed
from safetensors.torch import save_file
from tests.training.sharded_llama import SETTINGS, push, shard, tiny_llama, whole
from torch import Tensor, nn

from vivavoce.base.errors import CheckpointError
from vivavoce.training import checkpoints
from vivavoce.training.checkpoints import load_checkpoint, save_checkpoint
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.world import World

OPTIMIZERS = ("adamw", "adam_mini")


def everything(model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    """Parameters, buffers and all tensors of the optimizer's state, whole."""
    found = {name: whole(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}:{key}"] = whole(value)
    return found


def resave(rank: int, folder: Path) -> None:
    """Load in two processes what one saved, train on, save; then fail to save on one rank only."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    world = World(rank, 2)
    for name in OPTIMIZERS:
        model = shard(tiny_llama(), (2,))
        optimizer = build_optimizer(name, model, **SETTINGS)
        loaded = load_checkpoint(folder / name / "step-000003", model, optimizer, world=world)
        assert (loaded.step, loaded.world_size, loaded.same_random) == (3, 1, False)
        first = everything(model, optimizer)
        push(model, optimizer, 2)
        torch.manual_seed(rank)
        save_checkpoint(folder / name, 5, model, optimizer, reader={"rank": rank}, world=world)
        drawn = torch.rand(3)
        path = checkpoints.latest_checkpoint(folder / name, world)
        assert path == folder / name / "step-000005"
        loaded = load_checkpoint(path, model, optimizer, world=world)
        assert loaded.readers == [{"rank": 0}, {"rank": 1}] and loaded.same_random
        assert torch.equal(torch.rand(3), drawn)  # each rank has its own random state again
        second = everything(model, optimizer)
        if rank == 0:
            save_file(first, folder / f"{name}-loaded.safetensors")
            save_file(second, folder / f"{name}-trained.safetensors")
        write = checkpoints._write
        if rank == 1:
            checkpoints._write = _no_space
        try:
            save_checkpoint(folder / name, 6, model, optimizer, world=world)
            raise AssertionError("saved without space")
        except CheckpointError as error:
            assert "rank 1: [Errno 28]" in str(error) and "still step-000005" in str(error), error
        checkpoints._write = write
        assert not (folder / name / "step-000006.part").exists()
    torch.distributed.destroy_process_group()


def _no_space(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data[: len(data) // 2])
    raise OSError(28, "No space left on device")
