"""The program in docs/realtime.md runs as it stands, and the page knows every limit and event."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.serving.live import Live, serving

from vivavoce.inference.assistant import Assistant
from vivavoce.serving.engine import Engine
from vivavoce.serving.realtime.client_events import EVENTS

PAGE = Path(__file__).parents[3] / "docs" / "realtime.md"


@pytest.fixture
def open_to_all(nano: Assistant) -> Live:
    with serving(Engine(nano, "nano")) as server:
        yield server


def test_the_program(
    open_to_all: Live,
    spoken: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    soundfile.write(tmp_path / "question.wav", spoken, 24000, subtype="PCM_16")
    monkeypatch.chdir(tmp_path)
    exec(compile(program.replace("http://127.0.0.1:8000", open_to_all.root), "realtime.md", "exec"), {})
    assert "heard: what is seven plus five\nsaid: twelve\n" in capsys.readouterr().out


def test_the_page_names_every_event_of_clients() -> None:
    text = PAGE.read_text()
    for kind in EVENTS:
        assert f"`{kind}`" in text or f"`.{kind.rpartition('.')[2]}`" in text, kind
