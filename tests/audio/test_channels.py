"""Rooms, bands, lossy codecs, tempo and mixing: the wanted numbers are the measured ones, and lengths are kept."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.audio.augment import rms, room_response
from vivavoce.audio.bands import BANDS, limit_band
from vivavoce.audio.lossy import (
    FORMATS,
    drop_out,
    has_format,
    through_format,
    through_low_rate,
    through_mu_law,
)
from vivavoce.audio.mixing import lay, scale_noise, steady_noise
from vivavoce.audio.room import from_direct, reverberate, reverberation_s
from vivavoce.audio.tempo import change_tempo, exact_factor, tempo_length
from vivavoce.base.errors import AudioError

RATE = 16_000
SIZES = (1, 2, 37, 800, 16_001)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def white(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * rng(seed).standard_normal(samples)).astype(np.float32)


def tone(hz: float, samples: int, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(samples) / rate)).astype(np.float32)


def voice(samples: int, rate: int = RATE) -> np.ndarray:
    """Harmonics whose level goes up and down, as those of speech do."""
    at = np.arange(samples) / rate
    wave = sum(np.sin(2 * np.pi * 140 * k * at + 3 * np.sin(3 * at)) / k for k in range(1, 16))
    return (0.1 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * at))).astype(np.float32)


def peak_hz(wave: np.ndarray, rate: int = RATE) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave))))) * rate / len(wave))


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.8, 2.0])
def test_rooms_ring_as_long_as_asked(rate: int, seconds: float) -> None:
    for seed, direct in enumerate((None, -6.0, 0.0, 12.0)):
        response = room_response(rate, seconds, rng(seed), direct)
        assert reverberation_s(response, rate) == pytest.approx(seconds, rel=0.15)
        if direct is not None:
            assert -10 * np.log10(np.sum(response[1:].astype(float) ** 2)) == pytest.approx(direct, abs=1e-3)


def test_a_room_keeps_length_level_and_time_and_is_a_convolution() -> None:
    click = np.zeros(8000, np.float32)
    click[1000] = 0.5
    response = room_response(RATE, 0.2, rng(), 6.0)
    wet = reverberate(click, response)
    assert len(wet) == 8000 and np.argmax(np.abs(wet)) == 1000 and np.abs(wet[:1000]).max() < 1e-6
    assert rms(wet) == pytest.approx(rms(click), rel=1e-3)
    assert np.allclose(wet[1000 : 1000 + len(response)] / wet[1000], response, atol=1e-5)
    late = np.concatenate([np.zeros(300, np.float32), 0.2 * response])
    assert np.allclose(from_direct(late), response)
    for size in SIZES:
        assert len(reverberate(white(size), response)) == size
    assert not reverberate(np.zeros(500, np.float32), response).any()
    with pytest.raises(AudioError, match="silent"):
        from_direct(np.zeros(5, np.float32))
    with pytest.raises(AudioError, match="decay"):
        reverberation_s(np.ones(100, np.float32), RATE)


@pytest.mark.parametrize("kind", BANDS)
def test_bands_take_away_what_is_outside_and_nothing_else(kind: str) -> None:
    low, high = BANDS[kind]
    wave = white(64_000)
    out = limit_band(wave, 24_000, low, high)
    power = [np.abs(np.fft.rfft(w * np.hanning(len(w)))) ** 2 for w in (wave, out)]
    hz = np.arange(len(power[0])) * 24_000 / 64_000
    outside, inside = (hz < 0.75 * low) | (hz > 1.12 * high), (hz > 1.05 * low) & (hz < 0.98 * high)
    assert power[1][outside].sum() < 1e-6 * power[0][outside].sum()
    assert np.allclose(power[1][inside].sum() / power[0][inside].sum(), 1, atol=1e-3)
    middle = tone(1000, 9000)
    assert np.allclose(limit_band(middle, RATE, low, high)[2000:7000], middle[2000:7000], atol=1e-3)
    for size in SIZES:
        assert len(limit_band(white(size), RATE, low, high)) == size


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100])
def test_lossy_formats_lose_something_and_move_nothing(name: str, rate: int) -> None:
    if not has_format(name):
        pytest.skip(f"{name} cannot be written here")
    wave = voice(rate)
    good, bad = (through_format(wave, rate, name, c) for c in (0.0, 0.97))
    errors = [rms(out - wave) / rms(wave) for out in (good, bad)]
    assert 0 < errors[0] < errors[1] and errors[0] < 0.1
    lags = np.arange(-40, 41)
    found = lags[np.argmax([np.dot(np.roll(good, -lag)[100:-100], wave[100:-100]) for lag in lags])]
    assert found == 0
    loud = through_format(3 * wave / np.abs(wave).max(), rate, name, 0.0)
    assert 2.7 < np.abs(loud).max() < 3.3
    for size in SIZES:
        out = through_format(np.zeros(size, np.float32), rate, name, 0.8)
        assert len(out) == size and np.abs(out).max() < 1e-3
    assert np.array_equal(bad, through_format(wave, rate, name, 0.97))


def test_mu_law_and_low_rates() -> None:
    wave = voice(24_000, 24_000)
    out = through_mu_law(wave, 24_000)
    assert len(out) == 24_000 and not through_mu_law(np.zeros(99, np.float32), 24_000).any()
    spectrum = np.abs(np.fft.rfft(out)) ** 2
    assert spectrum[4300:].sum() < 1e-5 * spectrum.sum()
    exact = tone(200, 8000, 8000)
    noise = through_mu_law(exact, 8000) - exact
    assert 33 < 20 * np.log10(rms(exact) / rms(noise)) < 42  # what 8 bits of mu-law give
    levels = np.unique(through_mu_law(np.linspace(-1, 1, 100_001, dtype=np.float32), 8000))
    assert len(levels) == 255 and levels[127] == 0
    steps = np.unique(through_low_rate(np.linspace(-1, 1, 4001, dtype=np.float32), 8000, 8000, 4))
    assert len(steps) == 15
    low = np.abs(np.fft.rfft(through_low_rate(wave, 24_000, 4000, 16))) ** 2
    assert low[2200:].sum() < 1e-5 * low.sum()
    for size in SIZES:
        assert (
            len(through_low_rate(white(size), RATE, 4001, 8))
            == len(through_mu_law(white(size), RATE))
            == size
        )
    with pytest.raises(AudioError, match="bits"):
        through_low_rate(wave, 24_000, 4000, 1)


def test_dropouts_silence_what_they_say_and_leave_the_rest() -> None:
    wave = white(RATE)
    out = drop_out(wave, RATE, np.array([0.0, 0.5, 0.99]), np.array([0.01, 0.1, 0.5]))
    for start, end in ((0, 160), (8000, 9600), (15_840, 16_000)):
        assert not out[start:end].any()
    assert np.allclose(out[200:7960], wave[200:7960], atol=1e-6) and np.allclose(
        out[9640:15_800], wave[9640:15_800], atol=1e-6
    )


@pytest.mark.parametrize("keep_pitch", [False, True])
@pytest.mark.parametrize("factor", [0.5, 0.873, 1.0, 1.1, 2.0])
def test_tempo_scales_length_exactly_and_pitch_as_asked(factor: float, keep_pitch: bool) -> None:
    for rate in (8000, 11_025, 24_000, 192_000):
        steps = exact_factor(factor, rate) * rate * (1 if rate > 96_000 else 4)
        assert exact_factor(factor, rate) == pytest.approx(factor, abs=1e-4)
        assert steps == pytest.approx(round(steps), abs=1e-6)  # so that times of words are exact
        for size in (*SIZES, rate):
            out = change_tempo(white(size), rate, factor, keep_pitch)
            exact = size / exact_factor(factor, rate)
            assert (
                len(out) == tempo_length(size, factor, rate) == np.ceil(exact - 1e-9)
                and np.isfinite(out).all()
            )
    out = change_tempo(tone(440, RATE), RATE, factor, keep_pitch)
    assert peak_hz(out[800:-800]) == pytest.approx(440 * (1 if keep_pitch else factor), abs=4)
    assert rms(out) == pytest.approx(rms(tone(440, RATE)), rel=0.05)
    assert not change_tempo(np.zeros(3000, np.float32), RATE, factor, keep_pitch).any()


@pytest.mark.parametrize("factor", [0.7, 1.25])
def test_with_kept_pitch_things_are_heard_when_they_should_be(factor: float) -> None:
    wave = np.zeros(2 * RATE, np.float32)
    starts = (0.3, 0.9, 1.5)
    for start in starts:
        at = round(start * RATE)
        wave[at : at + 3200] = voice(3200) * np.hanning(3200)
    out = np.abs(change_tempo(wave, RATE, factor, keep_pitch=True))
    for start in starts:
        first, last = round(start / factor * RATE), round((start + 0.2) / factor * RATE)
        near = out[first - 1600 : last + 1600]
        centre = np.sum(np.arange(len(near)) * near**2) / np.sum(near**2) + first - 1600
        before = np.abs(wave[round(start * RATE) :][:3200]) ** 2
        wanted = round(start * RATE) + np.sum(np.arange(3200) * before) / before.sum()
        assert centre / RATE == pytest.approx(wanted / factor / RATE, abs=0.01)


def test_noise_of_a_colour_has_no_offset_and_clips_are_laid_anywhere() -> None:
    for exponent in (0.0, 1.0, 2.0):
        for size in (1, 2, 100, RATE, 3 * RATE + 1):
            noise = steady_noise(size, RATE, exponent, rng(size))
            assert rms(noise) == pytest.approx(1, rel=1e-3) and len(noise) == size
        assert abs(noise.mean()) < 5e-3
    scaled = scale_noise(white(RATE, 1), 0.2, 7.0)
    assert 20 * np.log10(0.2 / rms(scaled)) == pytest.approx(7, abs=0.01)
    places = set()
    for seed in range(200):
        laid, where = lay(np.ones(3, np.float32), 5, rng(seed))
        places.add(where.start)
        assert laid.sum() == 3 and laid[where].all() and len(laid) == 5
    assert places == {0, 1, 2}
    cut, where = lay(np.arange(9, dtype=np.float32), 4, rng())
    assert (np.diff(cut) == 1).all() and where == slice(0, 4)
