"""The benchmark of the embedded model: it times the right events and sums them up rightly."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vivavoce.inference.reply import Delta, Reply


@pytest.fixture(scope="module")
def nano() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "nano.py"
    spec = importlib.util.spec_from_file_location("nano_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Slow:
    """Text after 20 ms, sound after 40 and 80 ms: half a second of it in all."""

    def stream(self, messages: list[dict[str, Any]], audio: bool) -> Iterator[Delta]:
        assert audio
        time.sleep(0.02)
        yield Delta(transcript="what")
        yield Delta(text="two ")
        for wait in (0.02, 0.04):
            time.sleep(wait)
            yield Delta(audio=np.zeros(6000, np.float32), sample_rate=24_000)

    def chat(self, messages: list[dict[str, Any]]) -> Reply:
        time.sleep(0.02)
        return Reply("two")

    def say(self, text: str) -> Reply:
        assert text == "two"
        time.sleep(0.06)
        return Reply(text, audio=np.zeros(12_000, np.float32), sample_rate=24_000)


def test_clocks_start_when_the_question_ends(nano: ModuleType) -> None:
    ours, whole = nano.ask(Slow(), []), nano.ask_whole(Slow(), [])
    waits = np.diff([0.0, ours["ttft_ms"], ours["first_audio_ms"], ours["total_ms"]])
    assert (waits >= (20, 20, 40)).all()
    assert ours["audio_s"] == whole["audio_s"] == 0.5
    assert ours["rtf"] == pytest.approx(ours["total_ms"] / 500)
    assert whole["ttft_ms"] < whole["first_audio_ms"] == whole["total_ms"] >= 80
    assert ours["text"] == whole["text"] == "two"


def test_summary_takes_medians_and_judges_them(nano: ModuleType) -> None:
    def row(path: str, scale: float) -> dict[str, Any]:
        return {"path": path, **{c: {"p50": scale * 100, "p95": scale * 300} for c in nano.COLUMNS}}

    rows = [row("streaming", s) for s in (0.001, 0.003, 9)] + [row("whole answer first", 20)]
    found = {"model": "m", "load_s": 1.0, "peak_memory_gb": 1.6, "repeats": 3, "rows": rows}
    result = nano.summary(found)
    assert (result["rtf"], result["rtf_worst_p95"], result["baseline_rtf"]) == pytest.approx(
        (0.3, 2700, 2000)
    )
    assert result["passed"] == {"rtf": True, "first_audio_ms": True, "peak_memory_gb": False}
