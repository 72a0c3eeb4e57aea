"""How people's digits were recorded: in few steps, cut where they become quiet; see ears.md."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from vivavoce.audio.augment import quantize, trim_quiet
from vivavoce.audio.resample import resample

HEAR_RATE = 16_000
RECORDED_RATE = 8_000


@dataclass(frozen=True)
class Recorder:
    """What one person's recordings have in common.

    Attributes:
        steps: Steps of the recorder from zero to a clip's peak, for a clip of middling level; 0 is too many to be
            heard.
        trim_db: Both ends are cut up to where the level is this far below the peak; 0 cuts nothing.
        floor: The room's noise (RMS) in steps.
    """

    steps: float = 0.0
    trim_db: float = 0.0
    floor: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random) -> Recorder:
        """One recorder in three has 8 bits or so; one in two cuts by level."""
        steps = 12 * 10 ** rng.uniform(0, 1) if rng.random() < 0.35 else 0.0
        trim_db = rng.uniform(26, 46) if rng.random() < 0.5 else 0.0
        return cls(steps, trim_db, rng.uniform(0, 0.6) if rng.random() < 0.7 else 0.0)

    def record(self, wave: np.ndarray, rng: random.Random) -> np.ndarray:
        """The clip (16 kHz) as this recorder would have kept it; what it does not cut by level is cut at random."""
        if not self.trim_db:
            wave = cut_ends(wave, rng)
        if not (self.steps or self.trim_db):
            return wave
        out = resample(wave, HEAR_RATE, RECORDED_RATE)
        if self.steps:
            steps = self.steps * 2 ** rng.uniform(-0.7, 0.7)
            noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(len(out))
            out = quantize(out + (self.floor * np.abs(out).max() / steps * noise).astype(np.float32), steps)
        if self.trim_db:
            out = trim_quiet(out, self.trim_db)
        return resample(out, RECORDED_RATE, HEAR_RATE)


def cut_ends(wave: np.ndarray, rng: random.Random, chance: float = 0.4) -> np.ndarray:
    """Now and then take up to 50 ms off an end, never more than 12 %: recordings are cut at faint sounds too soon."""
    most = min(0.05 * HEAR_RATE, 0.12 * len(wave))
    first, last = (int(rng.uniform(0, most)) if rng.random() < chance else 0 for _ in range(2))
    return wave[first : len(wave) - last]
