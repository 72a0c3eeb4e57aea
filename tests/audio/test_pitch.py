"""Pitch: tones to a fraction of a hertz, voices at the pitch they were given, no pitch in noise, robust against it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.build.stand_ins import needs

from vivavoce.audio.pitch import SAMPLE_RATE, _candidates, _course, track_pitch
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.errors import AudioError

LINE = "The weather in Hanoi will be warm tomorrow, with a little rain in the evening."


def tone(hz: float, sample_rate: int, harmonics: int = 1, seconds: float = 0.6) -> np.ndarray:
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    parts = [
        np.sin(2 * np.pi * hz * k * t + k) / k for k in range(1, harmonics + 1) if hz * k < sample_rate / 2
    ]
    return (0.2 * np.sum(parts, axis=0)).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("harmonics", [1, 8])
def test_tones_have_their_pitch(sample_rate: int, harmonics: int) -> None:
    for hz in (65.0, 110.0, 197.3, 333.3, 490.0):
        track = track_pitch(tone(hz, sample_rate, harmonics), sample_rate)
        assert track.voiced.mean() > 0.95 and len(track.hz) == 61
        assert np.median(track.hz[track.voiced]) == pytest.approx(hz, rel=0.001)
        assert np.abs(np.log2(track.hz[3:-3] / hz)).max() < 0.01  # the outermost frames see half a tone


def test_a_missing_fundamental_is_heard() -> None:
    t = np.arange(16_000) / 16_000
    voice = sum(0.1 * np.sin(2 * np.pi * 120 * k * t) for k in (2, 3, 4, 5)).astype(np.float32)
    track = track_pitch(voice, 16_000)
    assert np.median(track.hz[track.voiced]) == pytest.approx(120, abs=0.2)


def test_a_glide_is_followed() -> None:
    hz = np.linspace(100, 200, 32_000)
    voice = 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 16_000)
    track = track_pitch(voice, 16_000)
    middle = np.arange(5, len(track.hz) - 5)
    assert track.hz[middle] == pytest.approx(hz[middle * 160], rel=0.01)


def test_noise_and_silence_are_unvoiced(rng: np.random.Generator) -> None:
    assert track_pitch(0.1 * rng.normal(size=16_000), 16_000).voiced.mean() < 0.02
    assert not track_pitch(np.zeros(16_000, np.float32), 16_000).voiced.any()
    assert not track_pitch(np.full(5, 0.5, np.float32), 16_000).voiced.any()
    for wrong in (np.zeros(0, np.float32), np.zeros((2, 9), np.float32), np.zeros(9, np.int16)):
        with pytest.raises(AudioError, match=r"wanted float \[S\]"):
            track_pitch(wrong, 16_000)


def test_level_and_offset_do_not_matter() -> None:
    voice = np.concatenate([tone(150, 16_000, 5), np.zeros(3000, np.float32), tone(210, 16_000, 5)])
    track = track_pitch(voice, 16_000)
    for other in (0.01 * voice, voice + 0.3):
        assert track_pitch(other, 16_000).hz == pytest.approx(track.hz, abs=0.3)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    voice = np.concatenate([tone(150, 16_000, 5), tone(100, 16_000, 3)])
    track = track_pitch(voice, 16_000)
    monkeypatch.setattr("vivavoce.audio.pitch._BLOCK", 7)
    assert np.array_equal(track_pitch(voice, 16_000).hz, track.hz)


def test_one_frame_that_is_an_octave_off_does_not_turn_the_course(rng: np.random.Generator) -> None:
    hz = np.tile([100.0, 200.0], (20, 1))
    score = np.tile([0.9, 0.8], (20, 1))
    score[10] = 0.8, 0.9
    assert (_course(hz, score) == 100).all()
    score[10:] = 0.5, 0.9
    assert (_course(hz, score)[10:] == 200).all()
    frames = 0.3 * rng.normal(size=(3, 800))
    assert np.isfinite(_candidates(frames)[0]).all()
    assert SAMPLE_RATE / _candidates(frames)[0].min() <= 510


def test_voices_speak_at_the_pitch_they_were_given() -> None:
    needs("espeak", "flite")

    def mean_hz(voice: str, pitch: float) -> float:
        track = track_pitch(*synthesize(LINE, voice, pitch=pitch))
        assert track.voiced.mean() > 0.75
        spread = 12 * np.log2(track.hz[track.voiced] / np.median(track.hz[track.voiced]))
        assert np.abs(spread).max() < 10, "no wrong octaves"
        return float(track.hz[track.voiced].mean())

    low, usual, high = (mean_hz("flite:slt", pitch) for pitch in (0.8, 1.0, 1.25))
    assert low / usual == pytest.approx(0.8, rel=0.01) and high / usual == pytest.approx(1.25, rel=0.01)
    for voice in ("espeak:en-us", "espeak:en-us+f3"):
        low, high = mean_hz(voice, 0.8), mean_hz(voice, 1.25)
        assert 1.25 < high / low < 1.6
    assert mean_hz("espeak:en-us+f3", 1.0) > 1.7 * mean_hz("espeak:en-us", 1.0)


def test_noise_does_not_move_the_pitch(rng: np.random.Generator) -> None:
    needs("flite")
    voice, rate = synthesize(LINE, "flite:slt")
    clean = track_pitch(voice, rate)
    noise = rng.normal(size=voice.size) * np.sqrt(np.mean(voice**2) / 10)
    noisy = track_pitch(voice + noise, rate)
    both = noisy.voiced & clean.voiced
    assert both.sum() > 0.9 * clean.voiced.sum()
    assert np.abs(np.log2(noisy.hz[both] / clean.hz[both])).max() < 0.1
