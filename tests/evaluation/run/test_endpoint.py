"""A model behind our own server answers as the model itself does; recordings arrive as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.run.test_runner import tones
from tests.serving.live import Live, serving

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.results import read_outcomes, read_run
from vivavoce.evaluation.run import RunSettings, run_evaluation
from vivavoce.evaluation.run.endpoint import Remote
from vivavoce.inference.assistant import Assistant, load
from vivavoce.serving.engine import Engine

BUNDLE = Path(__file__).parents[3] / "src/vivavoce/bundle/nano"


@pytest.fixture(scope="module")
def nano() -> Assistant:
    return load("nano")


@pytest.fixture(scope="module")
def live(nano: Assistant) -> Iterator[Live]:
    with serving(Engine(nano, "nano")) as found:
        yield found


def address(live: Live) -> str:
    return f"openai:{live.root}/v1"


def test_chat_transcribe_and_speech(live: Live, nano: Assistant) -> None:
    remote = Remote(address(live))
    question = Sound(*read_audio(BUNDLE / "question.wav"))
    part = {"type": "audio", "audio": question.waveform, "sampling_rate": question.sample_rate}
    messages = [{"role": "user", "content": [part]}]
    here = nano.chat(messages, temperature=0.0)
    there = remote.chat(messages)
    assert there.text == here.text and here.text
    assert 0 < there.ttft_s <= there.total_s  # type: ignore[operator]
    assert remote.transcribe(question).text == nano.transcribe(tuple(question)).text
    said = remote.say("two plus three")
    assert said.audio is not None and len(said.audio.waveform) > 0.5 * said.audio.sample_rate
    aloud = remote.chat(messages, aloud=True)
    assert aloud.text == here.text and aloud.audio is not None and aloud.first_audio_s
    assert np.abs(aloud.audio.waveform).max() > 0.05


def test_a_run_against_an_endpoint(live: Live, tmp_path: Path) -> None:
    settings = RunSettings(workers=2)
    run_evaluation(address(live), [tones(3)], ["endpoint", "swapped", "base"], tmp_path, settings)
    outcomes = read_outcomes(tmp_path / "items/tones/endpoint.jsonl")
    assert len(outcomes) == 3 and all(o.error is None and o.hypothesis for o in outcomes.values())
    assert "endpoint" in read_run(tmp_path).no_base


def test_faults_are_kept_with_their_question(tmp_path: Path, live: Live) -> None:
    run_evaluation(f"{address(live)}#nobody", [tones(2)], ["endpoint"], tmp_path, RunSettings(workers=1))
    outcomes = read_outcomes(tmp_path / "items/tones/endpoint.jsonl")
    assert all(o.error and o.hypothesis is None for o in outcomes.values())


def test_malformed_address() -> None:
    with pytest.raises(ConfigError, match="openai:http"):
        Remote("openai:localhost")
