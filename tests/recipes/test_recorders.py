"""What recorders do to clips of digits: cut, rounded, and nothing else."""

from __future__ import annotations

import random

import numpy as np
from recorders import HEAR_RATE, Recorder, cut_ends

from vivavoce.audio.augment import limit_band

HISS = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
TONE = (0.3 * np.sin(np.arange(8000) * 0.1)).astype(np.float32)
SAID = np.concatenate(
    [0.002 * limit_band(HISS, HEAR_RATE, 3000, 40), TONE, 0.002 * TONE]
)  # "s", a vowel, its end


def test_little_is_cut_off_the_ends() -> None:
    rng, wave = random.Random(0), np.arange(1, 4001)
    cuts = [cut_ends(wave, rng) for _ in range(200)]
    assert all(np.array_equal(cut, np.arange(cut[0], cut[-1] + 1)) for cut in cuts)
    assert 0.3 < np.mean([len(cut) == 4000 for cut in cuts]) < 0.45
    assert 650 < 4000 - min(map(len, cuts)) <= 2 * 480
    assert len(cut_ends(wave.repeat(20), random.Random(1), 1.0)) >= 80_000 - 2 * 800


def test_a_recorder_cuts_faint_ends_and_keeps_the_rest() -> None:
    kept = Recorder(trim_db=30).record(SAID, random.Random(0))
    assert abs(len(kept) - 8000) < 100
    middle = kept[len(kept) // 2 - 2000 :][:4000]
    assert np.abs(np.correlate(SAID[8000:16_000], middle)).max() > 0.999 * np.dot(middle, middle)


def test_a_recorder_of_few_steps_loses_faint_sounds_unless_the_room_is_loud() -> None:
    def ends(floor: float) -> float:
        recorder = Recorder(steps=20, floor=floor)
        clips = [recorder.record(SAID, random.Random(seed)) for seed in range(5)]
        return float(np.mean([np.abs(clip[:6000]).max() for clip in clips]))

    assert ends(0.0) < 1e-3 < 0.01 < ends(0.6)


def test_one_recorder_makes_the_same_clip_of_the_same_and_many_differ() -> None:
    drawn = [Recorder.draw(random.Random(seed)) for seed in range(300)]
    assert (
        0.25 < np.mean([r.steps > 0 for r in drawn]) < 0.45
        and 0.4 < np.mean([r.trim_db > 0 for r in drawn]) < 0.6
    )
    for recorder in drawn[:20]:
        a, b = (recorder.record(SAID, random.Random(1)) for _ in range(2))
        assert np.array_equal(a, b) and np.isfinite(a).all() and len(a) >= 0.2 * len(SAID)
    assert np.array_equal(Recorder().record(SAID, random.Random(5)), cut_ends(SAID, random.Random(5)))
