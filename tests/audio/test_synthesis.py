"""The synthesizers speak, repeatably, and what they cannot do is said before anything runs."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vivavoce.audio import synthesis
from vivavoce.audio.synthesis import Manner, has_synthesizer, list_voices, synthesize
from vivavoce.base.errors import AudioError, MissingExtraError

VOICES = ["espeak:en-us", "espeak:en-gb-x-rp+f3", "flite:slt", "flite:kal"]


def _speak(voice: str, **settings: float) -> tuple[np.ndarray, int]:
    try:
        return synthesize("nine plus four is thirteen", voice, **settings)
    except MissingExtraError as error:
        pytest.skip(str(error))


def _pitch_hz(wave: np.ndarray, rate: int) -> float:
    """Median pitch by autocorrelation over the loud 40 ms frames."""
    size, low, high = round(0.04 * rate), round(rate / 400), round(rate / 60)
    frames = wave[: wave.size // size * size].reshape(-1, size)
    loud = frames[np.square(frames).mean(axis=1) > np.square(wave).mean()]
    lags = [np.correlate(f, f, "full")[size - 1 :][low:high].argmax() + low for f in loud]
    return float(rate / np.median(lags))


@pytest.mark.parametrize("voice", VOICES)
def test_speech_is_repeatable_whatever_came_before(voice: str) -> None:
    wave, rate = _speak(voice)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert 0.8 < wave.size / rate < 4.0 and 0.05 < np.abs(wave).max() <= 1.0
    synthesize("something else entirely, spoken faster", voice, speed=1.7)
    time.sleep(1.1)  # a generator seeded with the second of the day would show
    again, again_rate = _speak(voice)
    assert rate == again_rate
    np.testing.assert_array_equal(wave, again)


@pytest.mark.parametrize("voice", VOICES)
def test_speed_and_pitch_do_what_they_say(voice: str) -> None:
    wave, rate = _speak(voice)
    assert _speak(voice, speed=1.5)[0].size < 0.8 * wave.size
    assert _speak(voice, speed=0.7)[0].size > 1.2 * wave.size
    own = _pitch_hz(wave, rate)
    assert _pitch_hz(*_speak(voice, pitch=1.4)) == pytest.approx(1.4 * own, rel=0.15)
    assert _pitch_hz(*_speak(voice, pitch=0.8)) == pytest.approx(0.8 * own, rel=0.15)


def test_voices_differ_and_are_listed() -> None:
    wave, _ = _speak("espeak:en-us")
    voices = list_voices("espeak")
    assert {"en-us", "en-gb", "vi", "+f3", "+m1"} <= set(voices)
    other, _ = _speak("espeak:en-us+f3")
    assert wave.shape != other.shape or not np.array_equal(wave, other)


def test_the_program_and_the_wheel_take_the_same_arguments() -> None:
    import shutil

    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("the espeak-ng program is not installed")
    speaker = synthesis._EspeakProgram(program)
    assert {"en-us", "en-gb", "+f3"} <= speaker.names()
    wave, rate = speaker.speak("-v hello", "en-us+f3", Manner())
    assert rate == 22050 and wave.size > rate // 4


def test_refusals() -> None:
    for text in ("", " ...", "a\0b"):
        with pytest.raises(AudioError, match="at least one letter"):
            synthesize(text)
    for settings in ({"speed": 0.0}, {"pitch": 9.0}):
        with pytest.raises(AudioError, match=r"from 0\.5 to 2"):
            synthesize("hello", **settings)
    with pytest.raises(AudioError, match="wanted espeak:LANGUAGE"):
        synthesize("hello", "en-us")
    with pytest.raises(AudioError, match="unknown synthesizer 'festival'"):
        synthesize("hello", "festival:x")
    for engine, name in (("espeak", "xx-nowhere"), ("espeak", "en-us+nobody"), ("flite", "nobody")):
        if has_synthesizer(engine):
            with pytest.raises(AudioError, match="unknown voice"):
                synthesize("hello", f"{engine}:{name}")


def test_a_missing_synthesizer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis.shutil, "which", lambda _: None)
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    synthesis._synthesizer.cache_clear()
    try:
        for voice, message in (("espeak:en-us", r"vivavoce\[tts\]"), ("flite:slt", "apt-get install flite")):
            with pytest.raises(MissingExtraError, match=message):
                synthesize("hello", voice)
        assert not has_synthesizer("flite")
    finally:
        synthesis._synthesizer.cache_clear()


def test_melody_is_espeaks_alone() -> None:
    wave, rate = _speak("espeak:en-us")
    wide, _ = _speak("espeak:en-us", pitch_range=2.0)
    gaps, _ = _speak("espeak:en-us", word_gap_s=0.2)
    assert _pitch_hz(wide, rate) > 1.05 * _pitch_hz(wave, rate)
    assert len(gaps) > len(wave) + 2 * 0.2 * rate
    with pytest.raises(AudioError, match="factor from 0 to 2"):
        _speak("espeak:en-us", pitch_range=2.5)
    if has_synthesizer("flite"):
        with pytest.raises(AudioError, match="take an espeak voice"):
            _speak("flite:slt", word_gap_s=0.1)
