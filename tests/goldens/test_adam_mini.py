"""Adam-mini and AdamW against reference traces: the blocks, every weight after every step, and the state at the end.

A trace is a row of adam_mini/runs.json with its two files. ``pkg111`` in a name means the rules of version 1.1.1,
``july2024`` those of July 2024, ``adamw`` plain AdamW, ``single_value_block`` one block for a value weight.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tests.goldens.discovery import golden_folders, label
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.optimizers.adam_mini import AdamMini

FOLDERS = [f / "adam_mini" for f in golden_folders("jan_llama3") if (f / "adam_mini").is_dir()]
KNOWN_FILES = {"batches.safetensors", "config.json", "initial.safetensors", "runs.json"}
SUFFIXES = (".params.safetensors", ".state.safetensors", ".grads_preclip.safetensors")


class Trace(NamedTuple):
    """One row of runs.json."""

    folder: Path
    name: str
    row: dict[str, Any]
    hyper: dict[str, Any]


TRACES = [
    Trace(folder, name, row, table["hyper"])
    for folder in FOLDERS
    for table in [json.loads((folder / "runs.json").read_text())]
    for name, row in table["runs"].items()
]
GRADIENTS = ".grads_preclip.safetensors"
WITH_GRADIENTS = [t for t in TRACES if (t.folder / f"{t.name}{GRADIENTS}").is_file()]


def name_of(trace: Trace) -> str:
    return f"{label(trace.folder.parent)}-{trace.name}"


every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: label(f.parent))
every_trace = pytest.mark.parametrize("trace", TRACES, ids=name_of)


@functools.cache
def tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def stored(trace: Trace, what: str) -> dict[str, Tensor]:
    return tensors(trace.folder / f"{trace.name}.{what}.safetensors")


def fresh_model(folder: Path) -> LlamaForCausalLM:
    config = LlamaConfig.from_json_file(folder / "config.json")
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config)
    model.load_state_dict(tensors(folder / "initial.safetensors"))
    return model


def optimizer_for(trace: Trace, model: LlamaForCausalLM) -> torch.optim.Optimizer:
    hyper = trace.hyper
    settings = {"lr": trace.row["lrs"][0], "betas": tuple(hyper["betas"])}
    settings |= {"eps": hyper["eps"], "weight_decay": hyper["weight_decay"]}
    kind = trace.name.partition("_")[0]
    if kind == "adamw":
        return build_optimizer("adamw", model, **settings)
    rules = {"pkg111": "v1.1.1", "july2024": "july2024"}[kind]
    whole = "single_value_block" in trace.name
    return build_optimizer("adam_mini", model, rules=rules, value_as_one_block=whole, **settings)


def tolerance(trace: Trace) -> float:
    return 2e-6 if max(trace.row["lrs"]) > 1e-3 else 1e-7


def clip_and_step(
    trace: Trace, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int
) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = trace.row["lrs"][step]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), trace.hyper["clip_grad_norm"])
    optimizer.step()
    return norm


def assert_weights(trace: Trace, model: LlamaForCausalLM, step: int) -> None:
    wanted = stored(trace, "params")
    for name, parameter in model.named_parameters():
        difference = (parameter.detach() - wanted[f"step{step + 1}.{name}"]).abs().max()
        assert difference <= tolerance(trace), f"step {step + 1}, {name}"


@every_folder
def test_every_file_belongs_to_a_trace(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - KNOWN_FILES
    wanted = {trace.name for trace in TRACES if trace.folder == folder}
    assert wanted, f"{folder / 'runs.json'} lists no trace"
    strange = {n for n in names if not any(n == f"{run}{suffix}" for run in wanted for suffix in SUFFIXES)}
    assert not strange, f"{folder} has {sorted(strange)}, which no row of runs.json names"


@every_trace
def test_weights_losses_and_state_of_a_training(trace: Trace) -> None:
    model, batches = fresh_model(trace.folder), tensors(trace.folder / "batches.safetensors")
    optimizer = optimizer_for(trace, model)
    for step in range(len(trace.row["lrs"])):
        optimizer.zero_grad()
        loss = model(input_ids=batches["input_ids"][step], labels=batches["labels"][step]).loss
        loss.backward()
        norm = clip_and_step(trace, model, optimizer, step)
        assert float(loss.detach()) == pytest.approx(trace.row["losses"][step], abs=1e-5)
        assert float(norm) == pytest.approx(trace.row["grad_norms_before_clip"][step], abs=1e-4)
        assert_weights(trace, model, step)
    assert_state(trace, model, optimizer)


@pytest.mark.parametrize("trace", WITH_GRADIENTS, ids=name_of)
def test_weights_from_stored_gradients(trace: Trace) -> None:
    """The optimizer without the model, on the gradients of the trace."""
    path = trace.folder / f"{trace.name}{GRADIENTS}"
    model, gradients = fresh_model(trace.folder), tensors(path)
    optimizer = optimizer_for(trace, model)
    for step in range(len(trace.row["lrs"])):
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[f"step{step + 1}.{name}"].clone()
        clip_and_step(trace, model, optimizer, step)
        assert_weights(trace, model, step)
    assert_state(trace, model, optimizer)


def assert_state(trace: Trace, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> None:
    path = trace.folder / f"{trace.name}.state.safetensors"
    if not path.is_file() or not isinstance(optimizer, AdamMini):
        return  # plain AdamW has no blocks to compare
    wanted = dict(tensors(path))
    for name, parameter in model.named_parameters():
        second = f"{name}.vmean" if f"{name}.vmean" in wanted else f"{name}.v"
        for key, kind in ((f"{name}.m", "m"), (second, "v")):
            given, expected = optimizer.state[parameter][kind].flatten(), wanted.pop(key).flatten()
            assert given.shape == expected.shape, key
            torch.testing.assert_close(
                given, expected, rtol=1e-4, atol=2e-7, msg=lambda m, key=key: f"{key}: {m}"
            )
    assert not wanted


@every_trace
def test_number_of_state_values(trace: Trace) -> None:
    model = fresh_model(trace.folder)
    optimizer = optimizer_for(trace, model)
    if isinstance(optimizer, AdamMini) and "state_elements" in trace.row:
        memory = optimizer.memory()
        assert (memory.parameters, memory.moments) == (
            trace.row["param_elements"],
            trace.row["state_elements"],
        )


@pytest.mark.parametrize("trace", [t for t in TRACES if "lr1e-2" in t.name], ids=name_of)
def test_other_blocks_miss_by_far(trace: Trace) -> None:
    """The traces can tell the rules apart."""
    model, batches = fresh_model(trace.folder), tensors(trace.folder / "batches.safetensors")
    rules = "v1.1.1" if trace.name.startswith("july2024") else "july2024"
    optimizer = build_optimizer("adam_mini", model, lr=1e-2, betas=(0.9, 0.98), eps=1e-6, rules=rules)
    for step in range(len(trace.row["lrs"])):
        optimizer.zero_grad()
        model(input_ids=batches["input_ids"][step], labels=batches["labels"][step]).loss.backward()
        clip_and_step(trace, model, optimizer, step)
    wanted = stored(trace, "params")
    far = max(float((p - wanted[f"step5.{n}"]).abs().max().detach()) for n, p in model.named_parameters())
    assert far > 1e-2
