"""The examples of docs/audio.md run, in order, in one folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.speech import Speech

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import has_synthesizer

PAGE = Path(__file__).parents[2] / "docs" / "audio.md"


def test_examples_run(tmp_path: Path, speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "question.wav", speech.waveform, speech.sample_rate)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(examples) == 5
    for example in examples:
        if "synthesize" in example and not has_synthesizer("espeak"):
            continue
        exec(compile(example, str(PAGE), "exec"), names)
    assert (tmp_path / "copy.flac").exists() and names["pieces"] and names["events"]
