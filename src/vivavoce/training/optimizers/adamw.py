"""AdamW of PyTorch, in one pass over memory where the device can, on the same groups of parameters as Adam-mini."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from vivavoce.base.errors import ConfigError
from vivavoce.training.optimizers.partition import decays

FUSED_ON = frozenset({"cpu", "cuda", "xpu"})


def build_adamw(
    model: nn.Module,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    fused: bool | None = None,
) -> AdamW:
    """Build ``torch.optim.AdamW``; norms, biases and other weights of one dimension do not decay.

    Args:
        model: What to train; parameters that need no gradient are left out.
        lr: Learning rate.
        betas: Decay of the first and second moment, per step.
        eps: Added to the root of the second moment.
        weight_decay: Share of a weight that is lost at a learning rate of 1.
        fused: One kernel for many parameters; by default where every parameter is on a device that has it.

    Raises:
        ConfigError: No parameter needs a gradient.
    """
    groups = decay_groups(model, weight_decay)
    everything = [p for group in groups for _, p in group["params"]]
    if fused is None:
        fused = all(p.device.type in FUSED_ON and p.is_floating_point() for p in everything)
    return AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Sort trained parameters by whether they decay, and whether FSDP2 has spread them, which no kernel mixes.

    Returns:
        Groups with ``params``, pairs of name and parameter, and ``weight_decay``.

    Raises:
        ConfigError: No parameter needs a gradient.
    """
    groups: dict[tuple[bool, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            owner = model.get_submodule(name.rpartition(".")[0])
            kind = (not decays(name, parameter, owner), isinstance(parameter, DTensor))
            groups.setdefault(kind, []).append((name, parameter))
    if not groups:
        raise ConfigError(
            "no parameter needs a gradient; wanted at least one. Unfreeze what should be trained."
        )
    return [
        {"params": group, "weight_decay": 0.0 if kept else weight_decay}
        for (kept, _), group in sorted(groups.items(), key=lambda item: item[0])
    ]
