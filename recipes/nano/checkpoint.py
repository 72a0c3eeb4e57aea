"""Training state that survives a stop: written beside, then renamed, so that a torn file is never read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def weights(folder: Path) -> dict[str, Tensor]:
    """The network's weights of a run (state.pt), or of a packaged model (model.safetensors) in full precision."""
    if (state := folder / "state.pt").exists():
        trained: dict[str, Tensor] = torch.load(state, weights_only=True)["model"]
        return trained
    stored = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    tied = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
    return {tied[0]: stored[tied[1]], **stored}


def save(path: Path, **state: Any) -> None:
    """Save ``state`` with the random states."""
    python = random.getstate()
    state["random"] = {"python": [python[0], list(python[1]), python[2]], "torch": torch.get_rng_state()}
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.rename(path)


def load(path: Path) -> dict[str, Any] | None:
    """Load what ``save`` wrote and restore the random states; None when there is nothing yet."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    version, internal, gauss = state["random"]["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["random"]["torch"])
    return state
