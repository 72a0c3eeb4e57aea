"""Less memory and more speed of the layers of a language model: activations computed again backwards, compilation.

Both replace the ``forward`` of a layer and nothing else: names of parameters stay, hooks of FSDP2 stay outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vivavoce.base.errors import ConfigError

Recompute = Literal["none", "selective", "full"]


def recompute_layers(layers: Sequence[nn.Module], how: Recompute) -> None:
    """Keep of a layer only its input, and compute the rest again when its gradients are.

    Costs about a third more time where all layers are recomputed; "selective" takes every second, from the first on.
    Without gradients (generation) nothing changes. Compile before, not after.

    Args:
        layers: In order.
        how: "none", "selective" or "full".

    Raises:
        ConfigError: Another word.
    """
    if how not in get_args(Recompute):
        raise ConfigError(
            f"activation_checkpointing is {how!r}, wanted one of {', '.join(get_args(Recompute))}."
        )
    every = {"none": 0, "selective": 2, "full": 1}[how]
    for layer in layers[::every] if every else ():
        layer.forward = _recomputed(layer.forward)


def compile_layers(layers: Sequence[nn.Module], backend: str = "inductor") -> None:
    """Compile each layer by itself; equal layers share one compilation.

    Args:
        layers: To compile.
        backend: As in ``torch.compile``.
    """
    for layer in layers:
        layer.forward = torch.compile(layer.forward, backend=backend)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's forward that is run again backwards; without a cache, which would be filled twice."""

    def run(*args: Any, **kwargs: Any) -> Any:
        past = kwargs.get("past_key_values")
        if not torch.is_grad_enabled() or (past is not None and past.get_seq_length()):
            return forward(*args, **kwargs)
        kwargs |= {name: None for name in ("past_key_values",) if name in kwargs}
        kwargs |= {"use_cache": False} if "use_cache" in kwargs else {}
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
