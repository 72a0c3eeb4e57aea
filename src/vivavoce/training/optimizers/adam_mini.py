"""Adam-mini: AdamW with one second moment for each block of values, half of AdamW's state.

One step for a block b of a parameter p with gradient g (as clipped), at step t:

``v_b = beta2 v_b + (1 - beta2) mean_b(g^2)``, ``m = beta1 m + (1 - beta1) g``, ``p *= 1 - lr * decay``,
``p -= lr * m / (1 - beta1^t) / (sqrt(v_b / (1 - beta2^t)) + eps)``.

All state is float32, whatever the parameters are. Under FSDP2 the squares are summed by rows, and the sums of
rows whose block may reach over several processes are shared in one all-reduce per step, so that borders of blocks
and of shards need not meet and every number of processes gives the same weights.

Source: Adam-mini (Zhang et al. 2024, arXiv 2406.16793), the rules of version 1.1.1 and of July 2024.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from vivavoce.base.errors import CheckpointError, ConfigError
from vivavoce.training.optimizers.partition import Block, Rules, num_rows, partition
from vivavoce.training.optimizers.sharding import Rows, local, per_row, rows_here


class OptimizerMemory(NamedTuple):
    """What an optimizer keeps, over all processes together.

    Attributes:
        parameters: Values that are trained.
        moments: Values kept for them.
        bytes: Their size.
        bytes_per_parameter: ``bytes / parameters``; 8 for AdamW in float32.
    """

    parameters: int
    moments: int
    bytes: int
    bytes_per_parameter: float


class AdamMini(Optimizer):
    """AdamW with one second moment per block; ``partition`` says what a block is.

    Args:
        parameters: The model (after ``fully_shard``, and with frozen parts frozen), or names and parameters.
        lr: Learning rate.
        betas: Decay of the first and second moment, per step.
        eps: Added to the root of the second moment, after its correction.
        weight_decay: Share of a weight that is lost at a learning rate of 1; norms and biases lose nothing.
        rules: As in ``partition``, like the four arguments that follow.
        num_heads: As in ``partition``.
        num_kv_heads: As in ``partition``.
        head_dim: As in ``partition``.
        value_as_one_block: As in ``partition``.

    Raises:
        ConfigError: A setting is out of range, or as in ``partition``.
    """

    def __init__(
        self,
        parameters: nn.Module | Iterable[tuple[str, Tensor]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        rules: Rules = "v1.1.1",
        num_heads: int | None = None,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        value_as_one_block: bool = False,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(
                f"lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}; wanted betas from 0 to below 1 "
                "and nothing below 0."
            )
        parts = partition(
            parameters,
            rules,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            value_as_one_block=value_as_one_block,
        )
        groups: dict[tuple[bool, Block], list[tuple[str, Tensor]]] = defaultdict(list)
        for name, parameter, block, decays in parts:
            rows_here(name, parameter)
            groups[decays, block].append((name, parameter))
        super().__init__(
            [
                {
                    "params": group,
                    "weight_decay": weight_decay if decays else 0.0,
                    "block": block.kind,
                    "block_rows": block.rows,
                }
                for (decays, block), group in groups.items()
            ],
            {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay},
        )

    def memory(self) -> OptimizerMemory:
        """Count what the state takes, or will take once there is one."""
        everything = [(p, _block(group)) for group in self.param_groups for p in group["params"]]
        parameters = sum(p.numel() for p, _ in everything)
        moments = parameters + sum(block.num_blocks(p) for p, block in everything)
        return OptimizerMemory(parameters, moments, 4 * moments, 4 * moments / parameters)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient; all processes of a mesh must call it together.

        Args:
            closure: Computes the loss anew, as for every optimizer.

        Returns:
            What the closure gave, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [
            (parameter, group, rows_here(name, parameter))
            for group in self.param_groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
            if parameter.grad is not None
        ]
        means = _means_of_wide_blocks(work)
        for parameter, group, rows in work:
            self._update(parameter, group, rows, means.get(parameter))
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any], rows: Rows, means: Tensor | None) -> None:
        """Update one parameter; ``means`` are the mean squares of its blocks where they are wider than a row."""
        block, state = _block(group), self.state[parameter]
        if not state:
            state.update(_fresh_state(parameter, block))
        state["step"] += 1
        step, (beta1, beta2), lr = float(state["step"]), group["betas"], float(group["lr"])
        gradient = local(parameter.grad).float()  # type: ignore[arg-type]
        first, second, weights = local(state["m"]), local(state["v"]), local(parameter)
        first.lerp_(gradient, 1 - beta1)
        if block.kind == "element":
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        else:
            if means is None:
                means = _row_squares(gradient) * (num_rows(parameter) / parameter.numel())
            second.mul_(beta2).add_(means, alpha=1 - beta2)
        root = (second / (1 - beta2**step)).sqrt_().add_(group["eps"])
        size = (lr / (1 - beta1**step)) / root
        if block.kind == "head":
            size = size.repeat_interleave(block.rows)[rows.start : rows.start + rows.held]
        if block.kind in ("row", "head"):
            size = size.view(-1, *[1] * (weights.dim() - 1))
        keep = 1 - lr * group["weight_decay"]
        if weights.dtype == torch.float32:
            weights.mul_(keep).addcmul_(first, size, value=-1)
        else:  # decay and update are too small for each to survive a rounding
            weights.copy_((weights.float() * keep).addcmul_(first, size, value=-1))

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state exactly; it stays float32, where other optimizers round to the parameters' type.

        Raises:
            CheckpointError: It belongs to other parameters or other blocks.
        """
        saved = state_dict["param_groups"]
        for key in ("param_names", "block", "block_rows"):
            wanted, given = ([group.get(key) for group in groups] for groups in (self.param_groups, saved))
            if wanted != given:
                raise CheckpointError(
                    f"the state of the optimizer has {key} {_first_difference(given, wanted)}; build AdamMini with "
                    "the rules, and for the trained parameters, that it was saved with."
                )
        super().load_state_dict(state_dict)
        keys = chain.from_iterable(group["params"] for group in saved)
        here = chain.from_iterable(group["params"] for group in self.param_groups)
        for key, parameter in zip(keys, here, strict=True):
            for moment in ("m", "v") if key in state_dict["state"] else ():
                value = state_dict["state"][key][moment]
                self.state[parameter][moment] = value.to(device=parameter.device, dtype=torch.float32)


def _block(group: dict[str, Any]) -> Block:
    return Block(group["block"], group["block_rows"])


def _fresh_state(parameter: Tensor, block: Block) -> dict[str, Tensor]:
    """Zeros: the first moment and, of every block, the second; what is wider than a row is on every process."""
    first = torch.zeros_like(parameter, dtype=torch.float32)
    if block.kind == "element":
        second = torch.zeros_like(first)
    elif block.kind == "row":
        second = per_row(parameter)
    else:
        second = torch.zeros(block.num_blocks(parameter), dtype=torch.float32, device=parameter.device)
    return {"step": torch.tensor(0.0), "m": first, "v": second}


def _row_squares(gradient: Tensor) -> Tensor:
    """Sum of squares of every row, [R, ...] -> [R]."""
    squares = gradient.square()
    return squares.sum(dim=tuple(range(1, squares.dim()))) if squares.dim() > 1 else squares


def _means_of_wide_blocks(work: list[tuple[Tensor, dict[str, Any], Rows]]) -> dict[Tensor, Tensor]:
    """Mean squares [blocks] of every gradient whose blocks are heads or whole tensors.

    Every process lays its rows into zeros [R]; summed over processes, each row has one addend that is not zero, so
    what follows is the same as on one process.
    """
    squares: dict[Tensor, Tensor] = {}
    shared: dict[Any, list[Tensor]] = defaultdict(list)
    for parameter, group, rows in work:
        if group["block"] not in ("head", "whole"):
            continue
        mine = _row_squares(local(parameter.grad).float())  # type: ignore[arg-type]
        if rows.group is not None:
            everyone = mine.new_zeros(num_rows(parameter))
            everyone[rows.start : rows.start + rows.held] = mine
            mine = everyone
            shared[rows.group].append(parameter)
        squares[parameter] = mine
    for process_group, parameters in shared.items():
        together = torch.cat([squares[p] for p in parameters])
        torch.distributed.all_reduce(together, group=process_group)
        pieces = together.split([num_rows(p) for p in parameters])
        squares.update(zip(parameters, pieces, strict=True))
    means = {}
    for parameter, group, _ in work:
        if parameter in squares:
            blocks = _block(group).num_blocks(parameter)
            means[parameter] = squares[parameter].view(blocks, -1).sum(dim=1) * (blocks / parameter.numel())
    return means


def _first_difference(given: list[Any], wanted: list[Any]) -> str:
    """Say where two lists of groups differ."""
    for one, other in zip(given, wanted, strict=False):
        if one != other:
            if isinstance(one, list) and isinstance(other, list):
                only, lacks = sorted({*one} - {*other})[:2], sorted({*other} - {*one})[:2]
                return f"with {only} too many and {lacks} missing"
            return f"{one!r}, wanted {other!r}"
    return f"of {len(given)} groups, wanted {len(wanted)}"
