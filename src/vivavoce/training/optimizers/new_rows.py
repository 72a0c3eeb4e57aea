"""Tables of tokens of which only new rows are trained: the rows before them stay equal to the bit.

A model names these tables in its attribute ``trained_rows``: name of a parameter -> first row that is trained. Their
other rows get gradients of zero, from which Adam makes no step, and no weight decay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vivavoce.base.errors import ConfigError
from vivavoce.training.optimizers.sharding import local, rows_here


@torch.no_grad()
def mask_old_rows(model: nn.Module) -> None:
    """Zero the gradients of rows that are not trained; before gradients are measured and clipped."""
    for parameter, old in _tables(model):
        if parameter.grad is not None:
            local(parameter.grad)[:old] = 0


def protect_old_rows(model: nn.Module, optimizer: Optimizer) -> None:
    """Keep an optimizer from changing rows that are not trained.

    Its groups are changed: it no longer decays these tables; their new rows are decayed before each step by the same
    rule, ``p *= 1 - lr * decay``.

    Args:
        model: As it is trained, after it was spread over processes.
        optimizer: Of this model, with decoupled weight decay.

    Raises:
        ConfigError: A table is not among the optimizer's parameters.
    """
    tables = _tables(model)
    for parameter, _ in tables:
        _own_group(optimizer, parameter)

    @torch.no_grad()
    def before_step(stepping: Optimizer, *_: Any) -> None:
        mask_old_rows(model)
        groups = {id(p): group for group in stepping.param_groups for p in group["params"]}
        for parameter, old in tables:
            group = groups[id(parameter)]
            if parameter.grad is not None and group["decay_of_new_rows"]:
                local(parameter)[old:] *= 1 - float(group["lr"]) * group["decay_of_new_rows"]

    if tables:
        optimizer.register_step_pre_hook(before_step)


def _tables(model: nn.Module) -> list[tuple[Tensor, int]]:
    """Tables, and how many of the rows held here are not trained."""
    first_rows: dict[str, int] = getattr(model, "trained_rows", {})
    named = dict(model.named_parameters()) if first_rows else {}
    found: list[tuple[Tensor, int]] = []
    for name, first in first_rows.items():
        here = rows_here(name, named[name])
        found.append((named[name], min(max(first - here.start, 0), here.held)))
    return found


def _own_group(optimizer: Optimizer, parameter: Tensor) -> None:
    """Move a parameter into a group without weight decay."""
    for group in optimizer.param_groups:
        at = next((i for i, p in enumerate(group["params"]) if p is parameter), None)
        if at is None:
            continue
        lists: dict[str, Any] = {
            key: [group[key].pop(at)] for key in ("params", "param_names") if key in group
        }
        decay = group["weight_decay"]
        optimizer.param_groups.append({**group, **lists, "weight_decay": 0.0, "decay_of_new_rows": decay})
        if not group["params"]:
            optimizer.param_groups.remove(group)
        return
    raise ConfigError(
        "new rows are of a parameter that the optimizer does not train; build it from the same model."
    )
