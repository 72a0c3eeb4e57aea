"""What each system is given: the model its audio, controls never, the cascade only what its recogniser heard."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.run.test_runner import tones
from tests.evaluation.stand_ins import Echo

from vivavoce.audio.augment import rms
from vivavoce.base.errors import ConfigError
from vivavoce.data.conversation import Conversation
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.run.noise import add_noise, noisy
from vivavoce.evaluation.run.recognisers import Recogniser
from vivavoce.evaluation.run.stored import StoredCase, stored_cases
from vivavoce.evaluation.run.systems import cascade_system, control_system, speech_system, swap, text_system
from vivavoce.evaluation.run.team import split_cascade


def test_cascade_is_recogniser_then_language_model(tmp_path: Path) -> None:
    task, echo, heard = tones(), Echo(), []

    def hear(wave: np.ndarray, rate: int) -> str:
        heard.append(wave)
        time.sleep(0.002)
        return f"heard {len(wave)}"

    system = cascade_system(lambda _: Recogniser("stand-in", hear), echo, "")
    for case in stored_cases(task, tmp_path):
        outcome = system.answer(case, task).outcome
        clip = case.clips()[0]
        assert np.array_equal(heard[-1], clip.waveform)
        assert echo.given[-1] == [{"role": "user", "content": f"heard {len(clip.waveform)}"}]
        assert outcome.transcript == f"heard {len(clip.waveform)}"
        assert outcome.hypothesis == f"heard {len(clip.waveform)} 0.000"
        assert outcome.total_s is not None and outcome.total_s > 0.03  # of both
    assert not echo.heard  # the language model hears nothing


def test_cascade_that_hears_nothing_does_not_answer(tmp_path: Path) -> None:
    task, echo = tones(2), Echo()
    system = cascade_system(lambda _: Recogniser("deaf", lambda w, r: ""), echo, "")
    outcome = system.answer(stored_cases(task, tmp_path)[0], task).outcome
    assert not outcome.understood and not echo.given


def test_transcribing_cascade_is_the_recogniser(tmp_path: Path) -> None:
    task, echo = tones(2, "transcribe"), Echo()
    system = cascade_system(lambda _: Recogniser("stand-in", lambda w, r: "words"), echo, "")
    assert system.answer(stored_cases(task, tmp_path)[0], task).outcome.hypothesis == "words"
    assert not echo.given


def test_each_system_gets_what_it_should(tmp_path: Path) -> None:
    task, echo = tones(), Echo()
    cases = stored_cases(task, tmp_path)
    others = {task.name: swap(cases, 0)}
    for case in cases:
        own = case.clips()[0].waveform
        speech_system(echo).answer(case, task)
        assert np.array_equal(echo.heard[-1].waveform, own)
        control_system(echo, "swapped", others).answer(case, task)
        lent = echo.heard[-1].waveform
        assert not np.array_equal(lent, own)
        assert any(np.array_equal(lent, c.clips()[0].waveform) for c in cases)
        control_system(echo, "silent", {}).answer(case, task)
        assert echo.heard[-1].waveform.shape == own.shape and not echo.heard[-1].waveform.any()
        count = len(echo.heard)
        text_system(echo, "typed").answer(case, task)
        assert len(echo.heard) == count and echo.given[-1][0]["content"] == case.texts[0]


class _Case(StoredCase):
    def clips_differ(self, other: StoredCase) -> bool:
        return self.question.audio != other.question.audio


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0.1, 9)), max_size=12),
    st.integers(0, 9),
)
def test_swapped_never_has_its_own_audio(rows: list[tuple[int, int, float]], seed: int) -> None:
    cases = []
    for number, (answer, audio, seconds) in enumerate(rows):
        question = Question(f"q{number}", (f"a{answer}",), audio=f"{audio}.flac", duration_s=seconds)
        cases.append(_Case(question, Conversation(f"q{number}", []), Path()))
    found = swap(cases, seed)
    for case in cases:
        others = [c for c in cases if c.question.audio != case.question.audio]
        assert (case.question.id in found) == bool(others)
        if others:
            lent = found[case.question.id].question
            assert lent.audio != case.question.audio
            apart = [c for c in others if c.question.references != case.question.references]
            assert not apart or lent.references != case.question.references


@pytest.mark.parametrize("level", [20.0, 5.0, 0.0])
def test_noise_is_at_its_level(level: float) -> None:
    wave = (0.05 * np.sin(np.arange(32000) / 15)).astype(np.float32)
    loud = add_noise(wave, 16000, level, 3)
    assert 20 * np.log10(rms(wave) / rms(loud - wave)) == pytest.approx(level, abs=0.01)
    assert np.array_equal(loud, add_noise(wave, 16000, level, 3))


def test_noise_differs_between_levels_in_nothing_but_level(tmp_path: Path) -> None:
    task = tones(3)
    clean = stored_cases(task, tmp_path)
    for level in (20.0, 0.0):
        loud = noisy(task, level, 0)
        assert loud.name == f"tones_snr{level:g}"
        for before, after in zip(clean, stored_cases(loud, tmp_path), strict=True):
            assert after.question.id == before.question.id and after.question.snr_db == level
            added = after.clips()[0].waveform - before.clips()[0].waveform
            assert 20 * np.log10(rms(before.clips()[0].waveform) / rms(added)) == pytest.approx(
                level, abs=0.1
            )


def test_names_of_cascades() -> None:
    assert split_cascade("pocketsphinx") == ("pocketsphinx", "own")
    assert split_cascade("openai:http://host/v1#w+own") == ("openai:http://host/v1#w", "own")
    with pytest.raises(ConfigError, match="ASR"):
        split_cascade("+own")
