"""Numbers of waveforms against what they were made of."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.check.bad_rows import sound

from vivavoce.data.check.sound import Sound, judge, measure

RATE = 16_000
TIME = np.arange(4 * RATE) / RATE


def tone(hz: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * TIME)).astype(np.float32)


def kinds(found: Sound, seconds: float = 4.0) -> set[str]:
    return {f.kind for f in judge(found, seconds, RATE, "")}


def test_level_peak_and_offset() -> None:
    found = measure(tone(440) + np.float32(0.25), RATE)
    assert found.peak == pytest.approx(0.75, abs=1e-3)
    assert found.level_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1e-2)
    assert found.offset == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("hz", [300, 1000, 3000, 7000])
def test_the_edge_is_where_the_sound_ends(hz: int) -> None:
    assert measure(tone(hz), RATE).edge_hz == pytest.approx(hz, abs=60)


def test_weak_noise_counts_by_its_sum() -> None:
    """A tone, and noise of 1e-5 of its power: a millionth of the energy lies in the noise's upper tenth."""
    noise = sound(4.0, level=0.5 / np.sqrt(2) * np.sqrt(1e-5))
    assert measure(tone(500) + noise, RATE).edge_hz == pytest.approx(0.9 * RATE / 2, rel=0.05)


def test_a_full_band_is_not_reported() -> None:
    assert kinds(measure(sound(4.0), RATE)) == set()
    assert kinds(measure(tone(1000), RATE)) == {"band_limited"}


def test_only_silence_is_said_of_silence() -> None:
    found = measure(np.zeros(RATE, np.float32), RATE)
    assert (found.level_db, found.edge_hz) == (-np.inf, 0.0)
    assert kinds(found) == {"silent"}


@pytest.mark.parametrize("size", [1, 2, 100, 2047, 2048, 2049])
def test_recordings_of_any_length(size: int) -> None:
    found = measure(sound(1.0)[:size], RATE)
    assert np.isfinite(found.peak) and found.edge_hz >= 0
