"""What each process of a sharded training does; started by ``torch.multiprocessing.spawn``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import LlamaConfig, LlamaForCausalLM

from vivavoce.training.optimizers import build_optimizer

# shapes that no number of processes here divides: 61 tokens, 50 neurons; 2 key heads of 8 rows for 4 processes
SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 50, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "mlp_bias": True}
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01}
CASES: dict[str, dict[str, Any]] = {
    "v1.1.1": {"rules": "v1.1.1"},
    "one_value_block": {"rules": "v1.1.1", "value_as_one_block": True},
    "july2024": {"rules": "july2024"},
}


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, initializer_range=0.2, attn_implementation="eager"))


def shard(model: LlamaForCausalLM, mesh_shape: tuple[int, ...]) -> LlamaForCausalLM:
    names = ("replicas", "shards")[-len(mesh_shape) :]
    mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=names)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """Steps ``first`` to before ``last``, every process on the same batch."""
    for step in range(first, last):
        ids = torch.randint(0, 61, (4, 12), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def push(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Steps on made-up gradients, the same whoever holds them, so that rounding elsewhere plays no part."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            if isinstance(parameter, DTensor):
                gradient = distribute_tensor(gradient, parameter.device_mesh, parameter.placements)
            parameter.grad = gradient
        optimizer.step()


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and moments, of all processes together."""
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = whole(parameter)
        found |= {f"{name}:{kind}": whole(optimizer.state[parameter][kind]) for kind in ("m", "v")}
    return found


def resume(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, no_dist: bool = False
) -> tuple[nn.Module, torch.optim.Optimizer]:
    weights, state = get_state_dict(model, optimizer)
    stored = {"model": weights, "optimizer": state}
    dcp.load(stored, checkpoint_id=folder, no_dist=no_dist)
    set_state_dict(model, optimizer, model_state_dict=stored["model"], optim_state_dict=stored["optimizer"])
    return model, optimizer


def run_process(
    rank: int, world: int, mesh_shape: tuple[int, ...], folder: Path, earlier: Path | None
) -> None:
    """Train every case five steps; save after three; go on from what another number of processes saved."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    for case, settings in CASES.items():
        model = shard(tiny_llama(), mesh_shape)
        optimizer = build_optimizer("adam_mini", model, **SETTINGS, **settings)
        train(model, optimizer, 0, 3)
        weights, state = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / f"{case}-checkpoint")
        train(model, optimizer, 3, 5)
        results = {"trained": everything(model, optimizer)}
        model = shard(tiny_llama(), mesh_shape)
        optimizer = build_optimizer("adam_mini", model, **SETTINGS, **settings)
        push(model, optimizer, 4)
        results["pushed"] = everything(model, optimizer)
        if earlier is not None:
            model = shard(tiny_llama(), mesh_shape)
            optimizer = build_optimizer("adam_mini", model, **SETTINGS, **settings)
            resume(earlier / f"{case}-checkpoint", model, optimizer)
            train(model, optimizer, 3, 5)
            results["resumed"] = everything(model, optimizer)
        for what, found in results.items() if rank == 0 else ():
            save_file(found, folder / f"{case}-{what}.safetensors")
    torch.distributed.destroy_process_group()
