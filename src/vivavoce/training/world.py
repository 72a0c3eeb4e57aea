"""The processes of a run, and what they tell each other: sums, agreements, small records.

One process without torch.distributed is a world of its own, so that code need not ask. Every method is called by all
processes together. Records travel as JSON, so nothing is unpickled, and through the CPU, so no GPU waits for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from vivavoce.base.errors import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """Where this process stands among those of the run.

    Attributes:
        rank: Of this process, 0 to ``size - 1``.
        size: Number of processes.
        local_rank: Of this process on its machine.
        local_size: Number of processes on each machine.
        device: Where its model goes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def from_environment(cls, device: str | None = None, timeout_s: float = 1800.0) -> World:
        """Join the processes that ``torchrun`` started, or be alone where it did not.

        Args:
            device: "cpu" or "cuda"; by default CUDA where there is any. Each process takes the GPU of its local rank.
            timeout_s: Seconds that a process waits for others before it gives up.

        Raises:
            ConfigError: Half of torchrun's variables, or fewer GPUs than processes.
        """
        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if "WORLD_SIZE" not in os.environ and "RANK" not in os.environ:
            return cls(device=torch.device(kind))
        missing = [name for name in VARIABLES if not os.environ.get(name)]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)} are not set, but others of torchrun's are; start the run with torchrun."
            )
        rank, size, local_rank = (int(os.environ[name]) for name in VARIABLES[:3])
        place = torch.device(kind)
        if place.type == "cuda" and place.index is None:
            if local_rank >= torch.cuda.device_count():
                raise ConfigError(
                    f"local rank {local_rank} has no GPU, there are {torch.cuda.device_count()}; start as many "
                    "processes as there are GPUs (torchrun --nproc-per-node)."
                )
            place = torch.device("cuda", local_rank)
        if place.type == "cuda":
            torch.cuda.set_device(place)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo",
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=timeout_s),
            )
        return cls(rank, size, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", size)), place)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes what is written once."""
        return self.rank == 0

    def close(self) -> None:
        """Leave the others."""
        if self.size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def gather(self, value: Any) -> list[Any]:
        """What every process gives, by rank; JSON."""
        if self.size == 1:
            return [value]
        sent = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        torch.distributed.all_gather(sizes, torch.tensor([len(sent)]))
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(sent)] = sent
        found = [torch.zeros_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(found, padded)
        return [json.loads(t[: int(n)].numpy().tobytes()) for t, n in zip(found, sizes, strict=True)]

    def barrier(self) -> None:
        """Wait for all."""
        self.gather(None)

    def any(self, flag: bool) -> bool:
        """Whether any process says yes; all get the same answer."""
        return any(self.gather(bool(flag)))

    def most(self, number: int) -> int:
        """The largest number of any process, such as of micro-batches, which all must run alike."""
        return int(max(self.gather(int(number))))

    def sum(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add up numbers by name over all processes, in float64 and in order of rank, the same for all.

        Args:
            values: Name -> number or tensor of one value, or a tuple of these; processes may have different names.
        """
        found: dict[str, Any] = {}
        for record in self.gather({name: _plain(value) for name, value in values.items()}):
            for name, value in record.items():
                if isinstance(value, list):
                    before = found.get(name, (0.0,) * len(value))
                    found[name] = tuple(a + b for a, b in zip(before, value, strict=True))
                else:
                    found[name] = found.get(name, 0.0) + value
        return found


def sum_gradients(parameters: Iterable[Tensor], world: World, bucket_bytes: int = 64 * 2**20) -> None:
    """Add up gradients over all processes in flat buckets, in float32 or wider.

    A process that lacks a gradient (its rows had no audio) counts as zero. A parameter without a gradient anywhere
    keeps none, so that an optimizer passes it over as in one process.

    Args:
        parameters: The same in the same order on every process.
        world: The processes.
        bucket_bytes: Size of a bucket.
    """
    trained = [p for p in parameters if p.requires_grad]
    if world.size == 1 or not trained:
        return
    held = torch.tensor([p.grad is not None for p in trained], dtype=torch.uint8)
    torch.distributed.all_reduce(held, torch.distributed.ReduceOp.MAX)
    bucket: list[Tensor] = []
    for parameter in [p for p, some in zip(trained, held.tolist(), strict=True) if some]:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        if sum(4 * g.numel() for g in bucket) >= bucket_bytes:
            _sum_bucket(bucket)
            bucket = []
    if bucket:
        _sum_bucket(bucket)


def _sum_bucket(gradients: list[Tensor]) -> None:
    wide = torch.float64 if any(g.dtype == torch.float64 for g in gradients) else torch.float32
    flat = torch.cat([g.reshape(-1).to(wide) for g in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [float(v) for v in value]
    return float(value)
