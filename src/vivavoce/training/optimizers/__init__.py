"""Optimizers by name: ``build_optimizer("adam_mini", model, lr=5e-5)``.

A row is called with the model and keywords (``lr``, ``betas``, ``eps``, ``weight_decay`` and its own) and
gives a ``torch.optim.Optimizer`` over the parameters that need gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vivavoce.base.registry import Registry

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adam_mini": "vivavoce.training.optimizers.adam_mini:AdamMini",
        "adamw": "vivavoce.training.optimizers.adamw:build_adamw",
        "adamw_8bit": "vivavoce.training.optimizers.eight_bits:build_torchao",
        "adamw_8bit_bitsandbytes": "vivavoce.training.optimizers.eight_bits:build_bitsandbytes",
    },
    group="vivavoce.optimizers",
)


def build_optimizer(name: str, model: nn.Module, **settings: Any) -> Optimizer:
    """Build the optimizer called ``name`` for ``model``; wrap the model (FSDP2) and freeze parts before.

    Of tables named in ``model.trained_rows`` only new rows are changed, see `new_rows`.

    Args:
        name: A row of ``OPTIMIZERS``.
        model: What to train; parameters that need no gradient are left out.
        **settings: ``lr``, ``betas``, ``eps``, ``weight_decay``, and what else the optimizer takes.

    Raises:
        ConfigError: No such optimizer, or a setting is out of range.
    """
    optimizer: Optimizer = OPTIMIZERS.get(name)(model, **settings)
    if getattr(model, "trained_rows", None):
        from vivavoce.training.optimizers.new_rows import protect_old_rows

        protect_old_rows(model, optimizer)
    return optimizer
