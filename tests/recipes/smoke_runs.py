"""Smoke recipes as tests run them: trained once in a folder, and held against the stored curve of their loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vivavoce.training.kinds import load_any, train_any
from vivavoce.training.metrics_log import read_metrics
from vivavoce.training.updates import Progress

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke"
DRIFT = 0.02  # relative, in the first third of a run
LATER = 2.0  # times the stored one at most after that: the order of rows in a sum alone moved it by 45 %
NOISE = 0.002  # nats that a loss near 0 may be off by


def run_recipe(name: str, folder: Path) -> dict[str, Any]:
    """Train a smoke recipe with one thread, as its curve was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_any(load_any(SMOKE / f"{name}.yaml"), folder)
    finally:
        torch.set_num_threads(threads)


class EnoughError(Exception):
    """A run has gone far enough."""


def train_until(config: Any, folder: Path, step: int) -> None:
    """Train with one thread, as curves were, and stop at the first report from this step on."""

    def enough(progress: Progress) -> None:
        if progress.step >= step:
            raise EnoughError

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(EnoughError):
            train_any(config, folder, report=enough)
    finally:
        torch.set_num_threads(threads)


def begin_recipe(name: str, folder: Path) -> list[str]:
    """Train the first third of a smoke recipe; what of its losses is too far from the stored curve."""
    config = load_any(SMOKE / f"{name}.yaml")
    assert config.steps is not None
    last = config.steps // 3
    train_until(config, folder, last - config.keep.log_every + 1)
    return drifts(name, folder, last)


def drifts(name: str, folder: Path, until: int | None = None) -> list[str]:
    """What of a run's losses is too far from the stored curve, in words."""
    stored = json.loads((SMOKE / "curves.json").read_text(encoding="utf-8"))[name]["loss"]
    found = {str(line["step"]): line["loss"] for line in read_metrics(folder)}
    if until is not None:
        assert len(found) > 1
        whole = max(map(int, stored))
        return [
            f"update {step}: loss {loss:.4f}, stored {stored[step]:.4f}"
            for step, loss in found.items()
            if int(step) <= whole / 3 and abs(loss - stored[step]) > max(NOISE, stored[step] * DRIFT)
        ]
    assert found.keys() == stored.keys(), "other updates were logged; run recipes/smoke/make_curves.py"
    last = max(map(int, stored))
    return [
        f"update {step}: loss {found[step]:.4f}, stored {wanted:.4f}"
        for step, wanted in stored.items()
        if not abs(found[step] - wanted)
        <= max(NOISE, wanted * (DRIFT if int(step) <= last / 3 else LATER - 1))
    ]
