"""The random states of a process as JSON: Python, NumPy, PyTorch on the CPU and on its GPU."""

from __future__ import annotations

import base64
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Any]:
    """Read the states of all generators that training uses.

    Args:
        device: Of the model.
    """
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    found = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": _text(torch.get_rng_state()),
    }
    return found | ({"cuda": _text(torch.cuda.get_rng_state(device))} if device.type == "cuda" else {})


def set_random_state(state: dict[str, Any], device: torch.device) -> bool:
    """Take over states that were read before.

    Returns:
        False, and nothing is changed, if they are of another kind of device.
    """
    if ("cuda" in state) != (device.type == "cuda"):
        return False
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *others = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *others))
    torch.set_rng_state(_bytes(state["torch"]))
    if device.type == "cuda":
        torch.cuda.set_rng_state(_bytes(state["cuda"]), device)
    return True


def _text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
