"""Training state that survives a stop: written beside, then renamed, so that a torn file is never read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch


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
