"""What `describe` measures: mixtures of known noise, known rates, exact levels, known bands, tones and beats."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.build.stand_ins import needs

from vivavoce.audio.resample import resample
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.errors import VocabularyError
from vivavoce.data.build.descriptions.sound_measures import centroid_hz, dynamics_db, measure_sound, tempo_bpm
from vivavoce.data.build.descriptions.speech_measures import (
    Units,
    bandwidth_hz,
    count_units,
    find_activity,
    measure_speech,
)
from vivavoce.data.build.speech.loudness import speech_level_db

LINE = "The weather in Hanoi will be warm tomorrow, with a little rain in the evening."
RATE = 16_000


def sine(hz: float, seconds: float, amplitude: float = 0.2, rate: int = RATE) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def coloured(rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
    """Noise of power 1."""
    noise = rng.normal(size=size)
    if kind == "pink":
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)) * RATE / size, 50)), size)
    if kind == "hum":
        noise = np.sin(np.arange(size) * 2 * np.pi * 50 / RATE)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


@pytest.mark.parametrize("kind", ["white", "pink", "hum"])
@pytest.mark.parametrize("voice", ["espeak:en-us", "espeak:en-us+f3", "flite:slt"])
def test_noise_of_known_mixtures(kind: str, voice: str, rng: np.random.Generator) -> None:
    needs(*{"espeak", "flite"})
    speech, rate = synthesize(LINE, voice)
    level = speech_level_db(speech, rate)
    paused = np.concatenate([np.zeros(rate // 4), speech, np.zeros(rate // 4)])
    clean = find_activity(paused + 0.2, rate)
    assert clean.snr_db > 60 and clean.speech_s < paused.size / rate - 0.4
    for snr in (5, 10, 20, 30, 40):
        noise = coloured(rng, kind, paused.size) * 10 ** ((level - snr) / 20)
        found = find_activity(paused + noise, rate)
        assert found.snr_db == pytest.approx(snr, abs=3.0)
        if snr >= 10:
            assert found.speech_s == pytest.approx(clean.speech_s, abs=0.3)


def test_the_estimate_without_pauses_is_a_lower_bound(rng: np.random.Generator) -> None:
    found = find_activity(sine(200, 1.0), RATE)
    assert found.snr_db < 3
    mixed = sine(200, 1.0) + 0.02 * rng.normal(size=RATE)
    assert find_activity(mixed, RATE).snr_db < 20 * np.log10(0.2 / np.sqrt(2) / 0.02)


def test_twice_as_fast_is_twice_the_rate() -> None:
    needs("espeak", "flite")
    units = count_units(LINE, "en-us")
    for voice in ("espeak:en-us", "flite:slt"):
        slow, fast = (
            measure_speech(*synthesize(LINE, voice, speed=speed), units)["phones_per_second"]
            for speed in (0.8, 1.6)
        )
        assert float(fast) / float(slow) == pytest.approx(2.0, rel=0.1)


def test_pauses_around_the_voice_do_not_count() -> None:
    units = Units("letters", 20)
    bare = measure_speech(sine(150, 2.0), RATE, units)
    still = np.concatenate([np.zeros(RATE, np.float32), sine(150, 2.0), np.zeros(3 * RATE, np.float32)])
    assert bare["letters_per_second"] == pytest.approx(10, abs=0.2)
    assert measure_speech(still, RATE, units)["letters_per_second"] == pytest.approx(10, abs=0.2)


def test_a_click_in_the_noise_is_no_voice(rng: np.random.Generator) -> None:
    still = np.concatenate([np.zeros(RATE), sine(150, 2.0), np.zeros(RATE)]) + 0.01 * rng.normal(
        size=4 * RATE
    )
    clean = find_activity(still, RATE).speech_s
    still[2000:2080] += 0.06 * rng.normal(size=80)
    assert find_activity(still, RATE).speech_s == pytest.approx(clean, abs=0.05)


def test_units_of_languages() -> None:
    cat = count_units("The cat, 3 dogs!", "en-GB")
    assert cat.phonemes == "dh ax k ae t th r iy d aa g z" and (cat.kind, cat.count) == ("phones", 12)
    assert count_units("Xin chào bạn.", "vi") == Units("letters", 10)
    assert count_units("Xin chào", None) == Units("letters", 7)
    assert (
        count_units("今天天气很好。", "zh").kind == "signs" and count_units("今天天气很好。", "zh").count == 6
    )
    assert count_units("안녕하세요", "ko") == Units("signs", 5)
    with pytest.raises(VocabularyError):
        count_units("сегодня", "en")


def test_levels_are_exact() -> None:
    for amplitude in (1.0, 0.5, 0.1, 0.001):
        wanted = 20 * np.log10(amplitude / np.sqrt(2))
        found = measure_sound(sine(100, 1.0, amplitude), RATE)
        assert found["level_db"] == round(wanted, 1) and found["duration_s"] == 1.0
        speech = measure_speech(sine(100, 1.0, amplitude), RATE, Units("letters", 9))
        assert speech["level_db"] == round(wanted, 1)


def test_bandwidth_is_where_the_sound_ends(rng: np.random.Generator) -> None:
    noise = (0.1 * rng.normal(size=2 * 8000)).astype(np.float32)
    assert bandwidth_hz(noise, 8000) == 4000
    assert bandwidth_hz(resample(noise, 8000, 24_000), 24_000) == pytest.approx(4000, abs=250)
    assert bandwidth_hz(sine(1000, 1.0, rate=24_000), 24_000) == pytest.approx(1000, abs=500)


def test_pitch_and_its_spread() -> None:
    hz = 200 * 2 ** (np.sin(np.arange(48_000) / 16_000 * 2 * np.pi) * 3 / 12)  # 3 semitones up and down
    voice = (0.3 * np.sin(2 * np.pi * np.cumsum(hz) / RATE)).astype(np.float32)
    found = measure_speech(voice, RATE, Units("letters", 9))
    assert found["utterance_pitch_mean"] == pytest.approx(hz.mean(), abs=1)
    assert found["utterance_pitch_std"] == pytest.approx(hz.std(), abs=1)
    assert found["pitch_spread_semitones"] == pytest.approx(3 / np.sqrt(2), abs=0.1)
    rough = np.concatenate(
        [voice, np.zeros(3200, np.float32), sine(440, 0.2, 0.3)]
    )  # an octave too high for a moment
    assert measure_speech(rough, RATE, Units("letters", 9))["pitch_spread_semitones"] == pytest.approx(
        found["pitch_spread_semitones"], abs=0.1
    )


def test_brightness_and_dynamics(rng: np.random.Generator) -> None:
    assert centroid_hz(sine(1000, 1.0), RATE) == pytest.approx(1000, abs=5)
    both = sine(1000, 1.0) + sine(3000, 1.0)
    assert centroid_hz(both, RATE) == pytest.approx(2000, abs=10)
    assert centroid_hz(sine(1000, 0.01), RATE) == pytest.approx(1000, abs=150)
    steps = np.concatenate([sine(500, 1.0, 0.5), sine(500, 1.0, 0.05)])
    assert dynamics_db(steps, RATE) == pytest.approx(20, abs=0.1)
    assert dynamics_db(sine(500, 2.0), RATE) < 0.1 and dynamics_db(sine(500, 0.1), RATE) == 0
    assert dynamics_db(np.concatenate([sine(500, 1.0), np.zeros(RATE)]), RATE) == 60


@pytest.mark.parametrize("bpm", [55, 72, 90, 120, 151, 180])
def test_beats_have_a_tempo(bpm: float, rng: np.random.Generator) -> None:
    music = 0.003 * rng.normal(size=12 * RATE)
    for beat in np.arange(0.3, 11.7, 60 / bpm):
        start, stroke = int(beat * RATE), rng.normal(size=1600) * np.exp(-np.arange(1600) / 300)
        music[start : start + 1600] += 0.3 * stroke
    found = tempo_bpm(music, RATE)
    assert found is not None
    octave = round(float(np.log2(found / bpm)))
    assert found == pytest.approx(bpm * 2**octave, rel=0.01)
    assert octave == 0 if 70 <= bpm <= 160 else octave in (-1, 0, 1)
    assert measure_sound(music, RATE, music=True)["tempo_bpm"] == round(found, 1)
    assert "tempo_bpm" not in measure_sound(music, RATE)


def test_what_has_no_beat_has_no_tempo(rng: np.random.Generator) -> None:
    for still in (0.1 * rng.normal(size=8 * RATE), sine(440, 8.0), sine(440, 0.3)):
        assert tempo_bpm(still, RATE) is None
