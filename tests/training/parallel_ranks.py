"""A tiny speech LM trained by any number of processes; started by ``torch.multiprocessing.spawn``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.models.tiny import NUM_MELS, PLACEHOLDER, hearing_model
from torch import Tensor
from torch.distributed.tensor import DTensor

from vivavoce.training.checkpoints import load_checkpoint, save_checkpoint
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.optimizers.sharding import local
from vivavoce.training.parallel import finish_gradients, gathered_state, spread
from vivavoce.training.trainable import Trainable, choose
from vivavoce.training.world import World

ROWS, STEPS, CLIP = 8, 3, 0.5
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}
LORA = {"language_model": "lora", "lora": {"language_model": {"rank": 2}}}
NEW_ROWS = {"language_model": "new_rows", "first_new_row": 45}
# mode, optimizer, what is trained, more of spread, tied tables
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], bool]] = {
    "replicate": ("replicate", "adamw", {}, {}, False),
    "replicate, adapters": ("auto", "adamw", LORA, {}, False),
    "replicate, new rows, tied": ("replicate", "adam_mini", NEW_ROWS, {}, True),
    "fsdp": ("auto", "adamw", {}, {}, False),
    "fsdp, Adam-mini, recomputed": ("fsdp", "adam_mini", {}, {"activation_checkpointing": "full"}, False),
    "fsdp, tied": ("fsdp", "adamw", {}, {}, True),
    "fsdp, adapters": ("fsdp", "adamw", LORA, {}, False),
    "fsdp, new rows": ("fsdp", "adamw", NEW_ROWS, {}, False),
    "hsdp": ("hsdp", "adam_mini", {}, {"activation_checkpointing": "selective"}, False),
}


def build(case: str, world: World) -> tuple[Any, Any, str]:
    """Model, optimizer, and the mode that was taken."""
    mode, optimizer, train, more, tie = CASES[case]
    model = hearing_model(seed=world.rank, tie=tie)
    choose(model, Trainable(**{"audio_encoder": "full", **train}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, so that lora_A would have no gradient
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    mode = spread(model, world, mode, **more)
    return model, build_optimizer(optimizer, model, **SETTINGS), mode


def batch(step: int, first: int, last: int) -> dict[str, Tensor]:
    """Rows ``first`` to before ``last``; the first half hear something, but nobody in the last step."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(0, PLACEHOLDER, (ROWS, 12), generator=generator)
    features = torch.randn(ROWS // 2, NUM_MELS, 21, generator=generator)
    hear = range(ROWS // 2) if step < STEPS - 1 else range(0)
    for row in hear:
        ids[row, 2:5] = PLACEHOLDER
    made = {"input_ids": ids[first:last]}
    if own := [row for row in hear if first <= row < last]:
        made["input_features"] = features[own]
        made["feature_lengths"] = torch.full((len(own),), 21)
    return made


def run_step(model: Any, optimizer: Any, world: World, step: int, each: int) -> tuple[float, Tensor]:
    """An update; rows of this rank in micro-batches of ``each``."""
    share = ROWS // world.size
    own = range(world.rank * share, (world.rank + 1) * share, each)
    optimizer.zero_grad()
    loss = torch.zeros(())
    for first in own:
        inputs = batch(step, first, first + each)
        logits = model(**inputs, use_cache=True).logits[:, :-1]
        wanted = inputs["input_ids"][:, 1:].clamp(max=PLACEHOLDER - 1)
        part = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum") / (ROWS * 11)
        part.backward()
        loss += part.detach()
    return finish_gradients(model, world, CLIP), loss


def train(case: str, world: World, each: int) -> tuple[dict[str, Tensor], dict[str, Any], Any]:
    """Every update of a case: parameters and gradients whole, norms and losses."""
    model, optimizer, mode = build(case, world)
    found, facts = {}, {"mode": mode, "norms": [], "losses": []}
    for step in range(STEPS):
        norm, loss = run_step(model, optimizer, world, step, each)
        facts["norms"].append(norm)
        facts["losses"].append(world.sum({"loss": loss})["loss"])
        for name, p in model.named_parameters():
            if p.grad is not None:
                found[f"gradient {step} {name}"] = whole(p.grad)
        optimizer.step()
    found |= {f"parameter {name}": whole(p) for name, p in model.named_parameters()}
    return found, facts, (model, optimizer)


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def run_process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    everything = {}
    for case in CASES:
        world = World(rank, 2, local_size=1 if case == "hsdp" else 2)
        found, facts, (model, optimizer) = train(case, world, 2)
        assert set(gathered_state(model, world)) == (set(model.state_dict()) if rank == 0 else set())
        if "fsdp" in case:
            spread = {n.partition(".")[0] for n, p in model.named_parameters() if isinstance(p, DTensor)}
            assert spread == {"language_model"}
            save_checkpoint(folder / case, STEPS, model, optimizer, world=world)
            other, other_optimizer, _ = build(case, world)
            load_checkpoint(folder / case / f"step-{STEPS:06d}", other, other_optimizer, world=world)
            for (_, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
                assert torch.equal(whole(a), whole(b))
        run_step(model, optimizer, world, 0, 2)
        for p in model.parameters():
            if isinstance(p, DTensor) or rank == 0 or p.grad is None:
                continue
            p.grad.fill_(float("nan"))  # of what is copied, on one rank
            break
        else:
            last = [p for p in model.parameters() if p.grad is not None][-1]
            if rank == 1:
                local(last.grad).fill_(float("nan"))
        facts["finite"] = [math.isfinite(n) for n in world.gather(finish_gradients(model, world, CLIP))]
        everything[case] = facts
        if rank == 0:
            save_file(found, folder / f"{case}.safetensors")
    world = World(rank, 2)
    everything["world"] = {
        "sum": world.sum({"a": 1.5, "b": (rank, 2)} | ({"only": torch.tensor(3.0)} if rank else {})),
        "most": world.most(3 + rank),
        "any": [world.any(rank == 1), world.any(False)],
        "gather": world.gather("x" * (1 + 3 * rank)),
    }
    (folder / f"facts-{rank}.json").write_text(json.dumps(everything))
    torch.distributed.destroy_process_group()
