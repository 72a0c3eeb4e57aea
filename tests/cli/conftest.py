"""Runs commands, and gives them small codecs, recordings and a stand-in for the assistant."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.running import Outcome
from tests.cli.stand_in import StandIn, StandInSession

from vivavoce.audio.files import write_audio
from vivavoce.cli.main import main

ENCODEC = Path(__file__).parents[1] / "goldens" / "data" / "jan_llama3" / "encodec_tiny"


@pytest.fixture(scope="session")
def codec_folder() -> str:
    """A tiny EnCodec with random weights: 24 kHz, two levels."""
    return str(ENCODEC)


@pytest.fixture
def run(capsysbinary, monkeypatch, tmp_path) -> Callable[..., Outcome]:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsysbinary.readouterr()
        return Outcome(code, out, err.decode())

    return call


@pytest.fixture
def tone(tmp_path) -> Path:
    """A wav of 0.7 s at 24 kHz, mono."""
    time = np.arange(16_800) / 24_000
    waveform = 0.3 * np.sin(2 * np.pi * (200 + 300 * time) * time)
    return write_audio(tmp_path / "tone.wav", waveform.astype(np.float32), 24_000)


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    """Every model that is loaded is this stand-in."""
    import vivavoce.inference.assistant as room
    import vivavoce.inference.session as sessions

    assistant = StandIn()

    def load(name: str, quantize: str | None = None, device: str | None = None) -> StandIn:
        assistant.loaded.append((name, quantize, device))
        return assistant

    monkeypatch.setattr(room, "load", load)
    monkeypatch.setattr(sessions, "Session", StandInSession)
    return assistant
