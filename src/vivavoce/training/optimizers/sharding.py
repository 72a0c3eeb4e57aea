"""Where the rows of a parameter stand that FSDP2 has spread over processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from vivavoce.base.errors import ConfigError
from vivavoce.training.optimizers.partition import num_rows


class Rows(NamedTuple):
    """The rows that this process holds.

    Attributes:
        start: First row.
        held: How many; may be 0.
        group: Process group of those that hold the others, None if all are here.
    """

    start: int
    held: int
    group: Any = None


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, at least one dimension, sharing memory."""
    here = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return here if here.dim() else here.view(1)


def rows_here(name: str, parameter: Tensor) -> Rows:
    """Find which rows of a parameter are on this process.

    Raises:
        ConfigError: The parameter is spread otherwise than by whole rows, as ``fully_shard`` does.
    """
    total = num_rows(parameter)
    if not isinstance(parameter, DTensor):
        return Rows(0, total)
    split = [(at, p) for at, p in enumerate(parameter.placements) if type(p) is not Replicate]
    if not split:
        return Rows(0, total)
    at, placement = split[0]
    if len(split) > 1 or type(placement) is not Shard or placement.dim != 0:
        raise ConfigError(
            f"{name} is placed as {list(parameter.placements)}; Adam-mini wants rows on one dimension of the mesh, "
            "Shard(0) and else Replicate. Use fully_shard without tensor parallelism."
        )
    mesh = parameter.device_mesh
    size = -(-total // mesh.size(at))  # as torch.chunk cuts
    start = min(mesh.get_local_rank(at) * size, total)
    count = min(size, total - start)
    if parameter.to_local().shape[0] != count:
        raise ConfigError(
            f"{name}: this process holds {parameter.to_local().shape[0]} of {total} rows, wanted {count}; "
            "Adam-mini knows rows in equal pieces, the last ones shorter."
        )
    return Rows(start, count, mesh.get_group(at))


def per_row(parameter: Tensor) -> Tensor:
    """Zeros float32 [R], spread over processes like the rows of ``parameter``."""
    zeros = torch.zeros(local(parameter).shape[0], dtype=torch.float32, device=parameter.device)
    if not isinstance(parameter, DTensor):
        return zeros
    mesh, placements = parameter.device_mesh, parameter.placements
    shape = torch.Size([num_rows(parameter)])
    return DTensor.from_local(zeros, mesh, placements, run_check=False, shape=shape, stride=(1,))
