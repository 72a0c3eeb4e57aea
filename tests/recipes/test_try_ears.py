"""The ears of a run by themselves: a clip among others is read as it is alone, as the encoder reads it."""

from __future__ import annotations

from pathlib import Path

import checkpoint
import numpy as np
import pytest
import torch
from make_tokenizer import build
from network import Nano
from trials import Trial
from try_ears import Ears


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Ears:
    folder: Path = tmp_path_factory.mktemp("ears")
    build().save_pretrained(folder)
    torch.manual_seed(0)
    checkpoint.save(folder / "state.pt", model=Nano(len(build()), faint_ears=True).state_dict())
    return Ears(folder, folder)


def test_together_is_alone(ears: Ears) -> None:
    rng = np.random.default_rng(0)
    trials = [
        Trial(((0.1 * rng.standard_normal(n)).astype(np.float32), rate), "x", "x", "noise")
        for n, rate in ((4000, 8000), (16_000, 16_000), (9000, 24_000))
    ]
    together = ears.read(trials)
    assert together == [ears.read([trial])[0] for trial in trials]
    assert together == ears.read(trials, together=2) and all(together)  # untrained ears read something


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no state\.pt"):
        Ears(tmp_path, tmp_path)
