"""New speakers from known ones: reproducible, bounded, order of time kept, ends of a mix exact."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.audio.speakers import align_frames, bend_mel, bend_time, between, tilt_mel
from vivavoce.base.errors import AudioError

RNG = np.random.default_rng(0)
CLIP = RNG.standard_normal((80, 50)).astype(np.float32).cumsum(1)
RAMP = np.tile(np.arange(60, dtype=np.float32), (80, 1))


def test_equal_seeds_give_equal_features() -> None:
    for change in (bend_mel, bend_time, tilt_mel):
        a, b = (change(CLIP, np.random.default_rng(5)) for _ in range(2))
        assert np.array_equal(a, b) and a.dtype == np.float32 and len(a) == 80
        assert not np.array_equal(a, change(CLIP, np.random.default_rng(6)))


def test_nothing_asked_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(bend_mel(CLIP, rng, scale=0, bend=0), CLIP, atol=1e-5)
    np.testing.assert_allclose(bend_time(CLIP, rng, stretch=0, depth=0), CLIP, atol=1e-4)
    np.testing.assert_array_equal(tilt_mel(CLIP, rng, depth=0), CLIP)


def test_bent_time_runs_forward_from_the_first_frame_to_the_last() -> None:
    for seed in range(20):
        out = bend_time(RAMP, np.random.default_rng(seed), stretch=0.25, depth=0.9)[0]
        assert 45 <= len(out) <= 75 and out[0] == 0 and out[-1] == pytest.approx(59, abs=1e-3)
        assert (np.diff(out) > 0).all()
    with pytest.raises(AudioError, match="less than 1"):
        bend_time(RAMP, RNG, depth=1.0)


def test_bent_mel_keeps_time_and_moves_bins_a_little() -> None:
    bins = np.repeat(np.arange(80, dtype=np.float32)[:, None], 3, 1)
    for seed in range(20):
        out = bend_mel(bins, np.random.default_rng(seed), scale=0.1, bend=2.0)
        assert np.array_equal(out[:, 0], out[:, 2])
        assert (np.abs(out[:, 0] - bins[:, 0]) <= 0.1 * bins[:, 0] + 2.001).all()


def test_a_mix_begins_and_ends_as_its_parts() -> None:
    other = np.repeat(CLIP, 2, axis=1)  # the same, half as fast
    np.testing.assert_allclose(between(CLIP, other, 0.0), CLIP, atol=1e-4)
    np.testing.assert_allclose(between(CLIP, other, 1.0), other, atol=1e-4)
    np.testing.assert_allclose(between(CLIP, CLIP + 1, 0.25), CLIP + 0.25, atol=1e-4)
    middle = between(CLIP, other, 0.5)
    assert middle.shape == (80, 75)
    assert np.abs(middle - between(CLIP, other, 0.0)[:, np.arange(75) * 50 // 75]).mean() < 0.7


def test_alignment_finds_the_same_frames_and_only_moves_on() -> None:
    stretched = CLIP[:, np.sort(np.concatenate([np.arange(50), np.arange(10, 30)]))]
    pairs = align_frames(CLIP, stretched)
    assert tuple(pairs[0]) == (0, 0) and tuple(pairs[-1]) == (49, 69)
    steps = np.diff(pairs, axis=0)
    assert steps.min() >= 0 and steps.max() == 1 and steps.any(axis=1).all()
    a = CLIP - CLIP.mean(1, keepdims=True)
    b = stretched - stretched.mean(1, keepdims=True)
    assert np.abs(a[:, pairs[:, 0]] - b[:, pairs[:, 1]]).mean() < 0.7
