"""A model over several processes: copies whose gradients are summed, or layers spread by FSDP2.

Gradients are summed, not averaged: every loss is divided by the totals of all processes, so the sum is the gradient of
one large batch. Ears and voice are on every process in all modes, and their gradients are summed after the last
micro-batch, so that a process whose rows had no audio keeps no other waiting.

All processes must run the same number of micro-batches through the language model under FSDP2 (``World.most``), and
call it by ``model(...)``, not ``model.language_model(...)``, whose tables are gathered by the former.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from vivavoce.base.errors import ConfigError
from vivavoce.training.optimizers.new_rows import mask_old_rows
from vivavoce.training.optimizers.sharding import local
from vivavoce.training.recompute import Recompute, compile_layers, recompute_layers
from vivavoce.training.trainable import decoder_layers
from vivavoce.training.world import World, sum_gradients

Mode = Literal["auto", "none", "replicate", "fsdp", "hsdp"]
EARS_AND_VOICE = ("audio_encoder", "connector", "voice")

__all__ = ["Mode", "World", "finish_gradients", "gathered_state", "gradient_norm", "spread"]


def spread(
    model: Any,
    world: World,
    mode: Mode = "auto",
    *,
    activation_checkpointing: Recompute = "none",
    compile: bool = False,
    autocast: bool = False,
) -> Mode:
    """Spread a model over the processes; build the optimizer afterwards.

    Args:
        model: A ``SpeechLM`` on ``world.device``, with what is trained chosen; all processes get the values of rank 0.
        world: The processes.
        mode: "replicate" copies everything; "fsdp" spreads the language model over all processes, "hsdp" over those of
            one machine, copied to others. "auto": "fsdp" where at least half of the language model is trained, else
            "replicate". One process is always "none".
        activation_checkpointing: Of the language model's layers, see ``recompute_layers``.
        compile: Compile the language model's layers.
        autocast: Under FSDP2, gather float32 weights in bfloat16; gradients are summed in float32.

    Returns:
        The mode that was taken.

    Raises:
        ConfigError: Unknown mode, or one that the model or the machines do not allow.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"parallel.mode is {mode!r}, wanted one of {', '.join(get_args(Mode))}.")
    if mode == "none" and world.size > 1:
        raise ConfigError(
            f"parallel.mode is 'none' for {world.size} processes; wanted 'auto', or start one process."
        )
    layers = decoder_layers(model)
    if compile:
        compile_layers(list(layers))
    recompute_layers(list(layers), activation_checkpointing)
    if world.size == 1:
        return "none"
    mode = _automatic(model) if mode == "auto" else mode
    _copy_from_first(model)
    if mode in ("fsdp", "hsdp"):
        _shard(model, layers, _mesh(world, mode), autocast)
    return mode


@torch.no_grad()
def finish_gradients(model: nn.Module, world: World, max_norm: float | None = None) -> float:
    """Sum gradients over processes, drop those of rows that are not trained, and clip the rest.

    Once for an update, after the backward of its last micro-batch.

    Args:
        model: As ``spread`` left it.
        world: The processes.
        max_norm: Gradients are scaled down to this norm of all together; None only measures.

    Returns:
        The norm before clipping, the same decision for all: if it is not finite, gradients were left as they are, and
        every process is to drop the update.
    """
    parameters = list(model.parameters())
    sum_gradients((p for p in parameters if not isinstance(p, DTensor)), world)
    mask_old_rows(model)
    norm = gradient_norm(parameters)
    if world.any(not math.isfinite(norm)):
        return math.nan if math.isfinite(norm) else norm
    scale = 1.0 if max_norm is None else max_norm / (norm + 1e-6)
    for parameter in parameters if scale < 1 else ():
        if parameter.grad is not None:
            local(parameter.grad).mul_(scale)
    return norm


@torch.no_grad()
def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """The norm of all gradients together, of all shards, summed in float64.

    Args:
        parameters: With gradients that are the same on all processes, or spread by ``fully_shard``.
    """
    sums: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            norm = torch.linalg.vector_norm(local(parameter.grad), dtype=torch.float32)
            sums.setdefault(_shard_group(parameter), []).append(norm)
    total = 0.0
    for group, norms in sums.items():
        square = torch.stack(norms).double().square().sum()
        if group is not None:
            torch.distributed.all_reduce(square, group=group)
        total += float(square)
    return math.sqrt(total) if math.isfinite(total) else total


def gathered_state(model: nn.Module, world: World) -> dict[str, Tensor]:
    """Gather a spread model on the CPU of rank 0, for ``save_pretrained(state_dict=...)``; others get nothing."""
    found = {}
    for name, tensor in model.state_dict().items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if world.is_first:
            found[name] = whole.detach().cpu()
    return found


def _automatic(model: Any) -> Mode:
    text = model.language_model
    trained = sum(p.numel() for p in text.parameters() if p.requires_grad)
    return "fsdp" if trained >= sum(p.numel() for p in text.parameters()) / 2 else "replicate"


def _copy_from_first(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        torch.distributed.broadcast(tensor.detach(), 0)


def _mesh(world: World, mode: Mode) -> DeviceMesh:
    kind = world.device.type
    if mode == "fsdp":
        return init_device_mesh(kind, (world.size,), mesh_dim_names=("shards",))
    if world.size % world.local_size or world.size == world.local_size:
        raise ConfigError(
            f"parallel.mode is 'hsdp' for {world.size} processes, {world.local_size} on each machine; wanted several "
            "machines with equally many. Use 'fsdp'."
        )
    shape = (world.size // world.local_size, world.local_size)
    return init_device_mesh(kind, shape, mesh_dim_names=("replicas", "shards"))


def _shard(model: Any, layers: nn.ModuleList, mesh: DeviceMesh, autocast: bool) -> None:
    """Make every layer a unit of FSDP2, and the tables and norms around them one more, gathered by the whole model."""
    packed = [name for name, p in model.language_model.named_parameters() if not p.is_floating_point()]
    if packed:
        raise ConfigError(
            f"{packed[0]} is quantised, which FSDP2 cannot spread; use parallel.mode 'replicate'."
        )
    apart = [getattr(model, part) for part in EARS_AND_VOICE if getattr(model, part) is not None]
    ignored = {p for module in apart for p in module.parameters()}
    dtypes: dict[str, Any] = (
        {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32} if autocast else {}
    )
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=MixedPrecisionPolicy(**dtypes))
    root = MixedPrecisionPolicy(**dtypes, cast_forward_inputs=False)  # features stay float32
    fully_shard(model, mesh=mesh, mp_policy=root, ignored_params=ignored)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _shard_group(parameter: Tensor) -> Any:
    """The processes that hold the other rows of a parameter; None if all are here."""
    if not isinstance(parameter, DTensor):
        return None
    for at, placement in enumerate(parameter.placements):
        if isinstance(placement, Shard):
            return parameter.device_mesh.get_group(at)
    return None
