"""Shared fixtures and options: offline, one thread, seeded, and one short utterance of synthetic speech."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import numpy as np
import pytest
import torch
from tests.speech import Speech

from vivavoce.base.errors import MissingExtraError

STORED_SPEECH = Path(__file__).parent / "audio" / "data" / "nine_plus_four.flac"
SPOKEN = "what is nine plus four"

torch.set_num_threads(1)
# The same examples every time, so that a change is what fails; HYPOTHESIS_PROFILE=search draws others.
for profile, same in (("same", True), ("search", False)):
    hypothesis.settings.register_profile(
        profile, deadline=None, max_examples=30, print_blob=True, derandomize=same
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin every test, and the fixtures made for it, with one thread: sums of several threads round differently."""
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--goldens DIR``: folders of reference numbers to check instead of the stored ones."""
    parser.addoption(
        "--goldens",
        action="append",
        default=None,
        metavar="DIR",
        help="folder of golden cases, may be given several times (default: tests/goldens/data)",
    )


@pytest.fixture(scope="session")
def speech() -> Speech:
    """Say "what is nine plus four" through espeak-ng, or read the stored clip where that is absent."""
    import soundfile

    from vivavoce.audio.synthesis import synthesize

    try:
        waveform, rate = synthesize(SPOKEN, "espeak:en-us")
    except MissingExtraError:
        waveform, rate = soundfile.read(STORED_SPEECH, dtype="float32")
    return Speech(waveform, rate, SPOKEN)


@pytest.fixture
def generator() -> torch.Generator:
    """Give a torch generator with a fixed seed."""
    return torch.Generator().manual_seed(20240229)


@pytest.fixture
def rng() -> np.random.Generator:
    """Give a NumPy generator with a fixed seed."""
    return np.random.default_rng(20240229)
