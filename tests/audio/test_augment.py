"""Augmentation: reproducible, bounded, and noise at the level that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.audio.augment import (
    AugmentOptions,
    ambient_noise,
    augment,
    babble,
    colored_noise,
    limit_band,
    mask_spectrogram,
    quick_length,
    rms,
    room_response,
    shape,
    warp_mel,
)
from vivavoce.base.errors import AudioError

TONE = (0.3 * np.sin(np.arange(16_000) * 0.2)).astype(np.float32)


def test_equal_seeds_give_equal_results_and_peaks_stay_below_one() -> None:
    for seed in range(12):
        a, b = (augment(TONE, 16_000, np.random.default_rng(seed), voices=[TONE]) for _ in range(2))
        assert np.array_equal(a, b) and a.dtype == np.float32
        assert np.abs(a).max() <= 0.991 and np.isfinite(a).all()


def test_strength_zero_only_pads_and_scales() -> None:
    out = augment(TONE, 16_000, np.random.default_rng(0), strength=0.0)
    start = int(np.nonzero(out)[0][0])
    ratio = out[start : start + 8000] / np.where(TONE[1:8001] == 0, 1, TONE[1:8001])
    assert np.ptp(ratio[np.abs(TONE[1:8001]) > 0.01]) < 1e-4


def test_noise_is_added_at_the_wanted_ratio() -> None:
    still = AugmentOptions(
        speed_p=0, noise_p=1, snr_db=(10, 10), pad_s=(0, 0), reverb_p=0, equalizer_p=0, low_pass_p=0
    )
    out = augment(TONE, 16_000, np.random.default_rng(3), options=still)
    gain = float(np.dot(out, TONE) / np.dot(TONE, TONE))
    snr = 20 * np.log10(rms(TONE * gain) / rms(out - TONE * gain))
    assert snr == pytest.approx(10, abs=0.6)


def test_a_band_holds_its_noise_where_that_is_asked_for() -> None:
    """Share of the energy above the band; the noise itself has its half there."""
    alike = {"noise_p": 1, "snr_db": (0, 0), "low_pass_p": 1, "low_pass_hz": (3500, 3500), "pad_s": (0, 0)}

    def above(in_band: bool, seed: int) -> float:
        options = AugmentOptions(**alike, noise_in_band=in_band)
        out = augment(TONE, 16_000, np.random.default_rng(seed), options=options)
        power = np.abs(np.fft.rfft(out)) ** 2
        return float(power[len(power) * 5000 // 8000 :].sum() / power.sum())

    assert max(above(True, seed) for seed in range(12)) < 1e-4
    assert np.mean([above(False, seed) for seed in range(12)]) > 0.01


def test_a_band_limit_keeps_length_and_level_below_it() -> None:
    out = limit_band(TONE[:15_001], 16_000, 3500, 40)  # the tone is at 509 Hz
    assert len(out) == 15_001
    np.testing.assert_allclose(out[500:-500], TONE[500:14_501], atol=2e-3)


def test_quick_lengths_are_near_and_have_no_large_prime_factor() -> None:
    for samples in range(1, 70_000, 173):
        size = quick_length(samples)
        assert samples <= size <= samples * 1.04 + 1
        while size % 2 == 0:
            size //= 2
        assert size < 64


def test_spectral_slope_of_coloured_noise() -> None:
    rng = np.random.default_rng(0)
    for exponent in (0.0, 1.0, 2.0):
        power = np.abs(np.fft.rfft(colored_noise(1 << 16, exponent, rng))) ** 2
        low, high = power[100:200].mean(), power[10_000:20_000].mean()
        assert 10 * np.log10(low / high) == pytest.approx(exponent * 10 * np.log10(100), abs=2)


def test_noises_have_unit_level_and_rooms_start_with_the_direct_sound() -> None:
    for seed in range(20):
        assert rms(ambient_noise(8000, 16_000, np.random.default_rng(seed))) == pytest.approx(1, abs=0.01)
    room = room_response(16_000, 0.3, np.random.default_rng(0))
    assert room[0] == 1 and np.sum(room[2400:] ** 2) < np.sum(room[1:2400] ** 2)
    assert len(shape(TONE, 16_000, np.random.default_rng(1), AugmentOptions(reverb_p=1))) == len(TONE)


def test_babble_needs_voices() -> None:
    assert rms(babble(4000, [TONE, TONE[::-1]], np.random.default_rng(0))) == pytest.approx(1, abs=0.01)
    with pytest.raises(AudioError, match="voice"):
        babble(4000, [], np.random.default_rng(0))


def test_mel_warp_moves_bins_and_masks_are_small() -> None:
    ramp = np.repeat(np.arange(80, dtype=np.float32)[:, None], 40, axis=1)
    assert np.allclose(warp_mel(ramp, 1.0), ramp)
    assert np.allclose(warp_mel(ramp, 0.9)[10], 9.0) and warp_mel(ramp, 1.2)[79, 0] == 79
    for seed in range(20):
        masked = mask_spectrogram(ramp, np.random.default_rng(seed))
        changed = masked != ramp
        assert changed.all(axis=1).sum() <= 8 and changed.all(axis=0).sum() <= 5
