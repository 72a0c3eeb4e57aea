"""Crops of recordings: how long they are as training goes on, where they are cut, and how they vary.

Letters: S samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vivavoce.codecs.contract import CodecSpec

LEAD_S = 0.1  # a crop may begin this much before its recording, and end this much after it: codecs meet silence too


def crop_frames(curriculum: Sequence[Sequence[float]], step: int, spec: CodecSpec) -> int:
    """Coarse frames of the crops of an update, a legal length of the codec.

    Args:
        curriculum: Pairs of an update and the seconds from then on, the first at 0.
        step: Updates done.
        spec: Of the codec.
    """
    seconds = [length for at, length in curriculum if at <= step][-1]
    return spec.num_frames(max(1, round(seconds * spec.sample_rate)))


def cut(waveform: np.ndarray, num_samples: int, rate: int, chance: np.random.Generator) -> np.ndarray:
    """Cut a crop at a random place; silence fills what a recording lacks.

    Args:
        waveform: float32 [S], S >= 1.
        num_samples: Of the crop.
        rate: Hz.
        chance: Decides the place.
    """
    lead = round(LEAD_S * rate)
    start = int(chance.integers(-lead, max(0, len(waveform) - num_samples + lead) + 1))
    crop = np.zeros(num_samples, np.float32)
    piece = waveform[max(0, start) : max(0, start + num_samples)]
    crop[max(0, -start) : max(0, -start) + len(piece)] = piece
    return crop


def cut_frames(num_frames: int, whole: int, chance: np.random.Generator) -> int:
    """The first coarse frame of a crop of ``num_frames`` from ``whole`` ones; 0 where there are fewer."""
    return int(chance.integers(0, max(0, whole - num_frames) + 1))


def vary(
    crop: np.ndarray, gain: Sequence[float], noise_share: float, chance: np.random.Generator
) -> np.ndarray:
    """Change a crop's level and, now and then, add faint noise.

    Args:
        crop: float32 [S].
        gain: Factors, least and most.
        noise_share: Of the crops, those that get noise of -90 to -60 dB.
        chance: Decides.
    """
    low, high = gain
    varied = crop * np.float32(chance.uniform(low, high))
    if chance.random() < noise_share:
        level = np.float32(10 ** chance.uniform(-4.5, -3.0))
        varied = varied + level * chance.standard_normal(len(crop), dtype=np.float32)
    return varied.clip(-1.0, 1.0)
