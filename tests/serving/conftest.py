"""The embedded model behind a real server on a free port, and OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

import openai
from tests.serving.live import KEY, Live, serving

import vivavoce
from vivavoce.inference.assistant import Assistant, load
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits

QUESTION = Path(vivavoce.__file__).parent / "bundle" / "nano" / "question.wav"


@pytest.fixture(scope="session")
def nano() -> Assistant:
    """Load the embedded model once."""
    return load("nano")


@pytest.fixture(scope="session")
def live(nano: Assistant) -> Iterator[Live]:
    """Serve it with a key, and limits that tests can reach."""
    limits = Limits(
        max_upload_bytes=400_000, max_audio_s=8.0, max_tokens=512, max_speech_chars=200, max_concurrent=4
    )
    with serving(Engine(nano, "nano"), [KEY, "another key"], limits) as server:
        yield server


@pytest.fixture(scope="session")
def client(live: Live) -> openai.OpenAI:
    """The official client."""
    return live.client()


@pytest.fixture(scope="session")
def question() -> bytes:
    """A recording of "what is seven plus five"."""
    return QUESTION.read_bytes()
