"""AdamW with moments of 8 bits: 2 bytes of state for a value instead of 8."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import nn
from torch.optim import Optimizer

from vivavoce.base.errors import MissingExtraError
from vivavoce.training.optimizers.adamw import decay_groups


def build_torchao(model: nn.Module, lr: float, weight_decay: float = 0.0, **settings: Any) -> Optimizer:
    """Build torchao's ``AdamW8bit``, which works under FSDP2.

    Args:
        model: What to train.
        lr: Learning rate.
        weight_decay: As in ``build_adamw``.
        **settings: ``betas``, ``eps`` and torchao's own, such as ``bf16_stochastic_round``.

    Raises:
        ConfigError: No parameter needs a gradient.
        MissingExtraError: torchao is not installed.
    """
    groups = _named(model, weight_decay)
    if find_spec("torchao") is None:
        raise MissingExtraError(
            "optimizer 'adamw_8bit' needs torchao: pip install torchao, or use 'adam_mini'."
        )
    from torchao.optim import AdamW8bit

    return AdamW8bit(groups, lr=lr, **settings)


def build_bitsandbytes(model: nn.Module, lr: float, weight_decay: float = 0.0, **settings: Any) -> Optimizer:
    """Build bitsandbytes' ``AdamW8bit``, for models that are not spread by FSDP2.

    Args:
        model: What to train.
        lr: Learning rate.
        weight_decay: As in ``build_adamw``.
        **settings: ``betas``, ``eps`` and bitsandbytes' own.

    Raises:
        ConfigError: No parameter needs a gradient.
        MissingExtraError: bitsandbytes is not installed.
    """
    groups = _named(model, weight_decay)
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            "optimizer 'adamw_8bit_bitsandbytes' needs bitsandbytes: pip install 'vivavoce[quant]', or use 'adam_mini'."
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=lr, **settings)


def _named(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups without names, which these optimizers do not know."""
    return [
        {**group, "params": [p for _, p in group["params"]]} for group in decay_groups(model, weight_decay)
    ]
