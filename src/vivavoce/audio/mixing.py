"""Add sounds to one another at a wanted ratio of their levels."""

from __future__ import annotations

import numpy as np

from vivavoce.audio.augment import Waveform, colored_noise, rms
from vivavoce.audio.room import fast_size

LOWEST_NOISE_HZ = 20.0


def steady_noise(samples: int, sample_rate: int, exponent: float, rng: np.random.Generator) -> Waveform:
    """Noise with power 1 / f**exponent from 20 Hz up, RMS 1; without an offset, unlike ``colored_noise``."""
    if samples * LOWEST_NOISE_HZ < sample_rate:  # shorter than one period
        return colored_noise(samples, exponent, rng)
    size = fast_size(samples)
    noise = colored_noise(size, exponent, rng, int(np.ceil(LOWEST_NOISE_HZ * size / sample_rate)))[:samples]
    return (noise / rms(noise)).astype(np.float32)


def scale_noise(noise: Waveform, level: float, snr_db: float) -> Waveform:
    """Bring noise to ``snr_db`` below a signal.

    Args:
        noise: float32 [S].
        level: RMS of the signal.
        snr_db: Signal over noise, dB.

    Returns:
        float32 [S], to be added to the signal.
    """
    return (noise * (level * 10 ** (-snr_db / 20) / rms(noise))).astype(np.float32)


def lay(clip: Waveform, samples: int, rng: np.random.Generator) -> tuple[Waveform, slice]:
    """Lay a clip at a random place of a longer silence, or take a random part of it.

    Args:
        clip: float32 [C], C >= 1.
        samples: Wanted length.
        rng: Generator.

    Returns:
        float32 [samples], and where the clip sounds.
    """
    spare = samples - len(clip)
    at = int(rng.integers(0, abs(spare) + 1))
    if spare < 0:
        return clip[at : at + samples], slice(0, samples)
    out = np.zeros(samples, np.float32)
    out[at : at + len(clip)] = clip
    return out, slice(at, at + len(clip))
