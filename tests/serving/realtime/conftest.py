"""The embedded model behind a live server, and its question at 24 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")
pytest.importorskip("websockets")

from tests.serving.live import KEY, Live, serving

import vivavoce
from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import resample
from vivavoce.inference.assistant import Assistant
from vivavoce.serving.encoding import pcm16
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits

LIMITS = Limits(
    max_audio_s=8.0, max_tokens=512, max_text_chars=2000, max_realtime=6, max_realtime_per_caller=4
)


@pytest.fixture(scope="session")
def talking(nano: Assistant) -> Iterator[Live]:
    """Serve the embedded model."""
    with serving(Engine(nano, "nano"), [KEY, "another key"], LIMITS) as server:
        yield server


@pytest.fixture(scope="session")
def spoken() -> np.ndarray:
    """ "what is seven plus five", 24 kHz, as 16 bits hold it."""
    path = Path(vivavoce.__file__).parent / "bundle" / "nano" / "question.wav"
    wave = resample(*read_audio(path), 24000)
    return np.frombuffer(pcm16(wave), "<i2").astype(np.float32) / 32768
