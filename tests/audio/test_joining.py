"""Turns joined in one clip: where every sample goes, where silence is, where the cut falls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audio.joining import join_turns, joined_samples
from vivavoce.base.errors import AudioError


def turns(lengths: list[int]) -> list[np.ndarray]:
    """Waveforms without a zero in them."""
    rng = np.random.default_rng(1)
    return [rng.uniform(0.1, 0.9, n).astype(np.float32) for n in lengths]


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    gap=st.integers(0, 50),
    trailing=st.booleans(),
    crop=st.integers(1, 1500),
)
def test_the_join_is_its_turns_with_silence_between(
    lengths: list[int], gap: int, trailing: bool, crop: int
) -> None:
    waves = turns(lengths)
    pieces = [piece for wave in waves for piece in (wave, np.zeros(gap, np.float32))]
    whole = np.concatenate(pieces if trailing else pieces[:-1])
    assert joined_samples(lengths, 1000, gap / 1000, trailing_gap=trailing) == len(whole)
    joined = join_turns(waves, 1000, gap / 1000, trailing_gap=trailing, crop_s=None)
    np.testing.assert_array_equal(joined, whole)
    cut = join_turns(waves, 1000, gap / 1000, trailing_gap=trailing, crop_s=crop / 1000)
    np.testing.assert_array_equal(cut, whole[:crop])
    assert joined.dtype == np.float32


def test_the_published_numbers_at_16_khz() -> None:
    waves = turns([16_000, 8_000, 4_000])
    after = join_turns(waves, 16_000, trailing_gap=True)
    between = join_turns(waves, 16_000, trailing_gap=False)
    assert len(after) == 28_000 + 3 * 1600 and len(between) == 28_000 + 2 * 1600
    assert not after[16_000:17_600].any() and not after[-1600:].any()
    np.testing.assert_array_equal(between, after[:-1600])
    assert len(join_turns(turns([400_000, 100_000]), 16_000, trailing_gap=True)) == 480_000


def test_inputs_stay_as_they_are() -> None:
    (wave,) = turns([10])
    joined = join_turns([wave], 1000, trailing_gap=False)
    joined[:] = 7
    assert wave.max() < 1


@pytest.mark.parametrize(
    ("waves", "more", "words"),
    [
        ([], {}, "no turns"),
        ([np.zeros((1, 4), np.float32)], {}, r"turn 1 has shape \(1, 4\)"),
        ([np.ones(3, np.float32), np.zeros(0, np.float32)], {}, "turn 2"),
        ([np.zeros(4, np.int16)], {}, "int16"),
        ([np.zeros(4, np.float32)], {"gap_s": -0.1}, "gap_s -0.1"),
        ([np.zeros(4, np.float32)], {"crop_s": 0.0}, "crop_s is 0"),
    ],
)
def test_refusals(waves, more, words) -> None:
    with pytest.raises(AudioError, match=words):
        join_turns(waves, 16_000, trailing_gap=True, **more)
