"""Pitch of a voice over time: which frames are voiced, and their fundamental frequency.

A frame is compared with itself one period later; the best few periods of every frame are joined to the smoothest
course. No weights, some 1/200 of real time. It takes one voice at a time, and no singing above 500 Hz.

Letters: S samples, T frames, K candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vivavoce.audio.resample import resample
from vivavoce.base.errors import AudioError

SAMPLE_RATE = 16_000
HOP, SIZE = 160, 800  # samples of a frame's step and of a frame: 10 and 50 ms
LOWEST_HZ, HIGHEST_HZ = 60, 500
CANDIDATES = 6
VOICED = 0.5  # a period must be this alike the one before it
OCTAVE = 0.02  # so much more alike must a period be that is twice as long
JUMP = 0.35  # what a course pays for an octave between two frames
CHANGE = 0.14  # and for beginning or ending to be voiced
QUIET = 0.03  # frames below this share of the loudest one's amplitude are unvoiced
_BLOCK = 512  # frames at a time


class PitchTrack(NamedTuple):
    """Pitch, a frame each 10 ms; the middle of frame ``t`` is at ``0.01 * t`` seconds.

    Attributes:
        hz: Fundamental frequency, float64 [T]; 0 where unvoiced.
        voiced: bool [T].
    """

    hz: np.ndarray
    voiced: np.ndarray


def track_pitch(waveform: np.ndarray, sample_rate: int) -> PitchTrack:
    """Follow the pitch of a recording of one voice.

    Args:
        waveform: float [S] within -1 and 1, at least one sample.
        sample_rate: Hz.

    Raises:
        AudioError: It is no waveform.

    Source: the normalised square difference of McLeod and Wyvill, "A smarter way to find pitch" (2005), and the
    search for the cheapest course of Boersma, "Accurate short-term analysis of the fundamental frequency" (1993).
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not waveform.size or waveform.dtype.kind != "f":
        raise AudioError(
            f"the waveform has shape {waveform.shape}, {waveform.dtype}; wanted float [S], S >= 1."
        )
    if sample_rate != SAMPLE_RATE:
        waveform = resample(waveform.astype(np.float32), sample_rate, SAMPLE_RATE)
    samples = np.pad(waveform.astype(np.float64) - waveform.mean(dtype=np.float64), SIZE // 2)
    frames = np.lib.stride_tricks.sliding_window_view(samples, SIZE)[::HOP]
    parts = [_candidates(frames[i : i + _BLOCK]) for i in range(0, len(frames), _BLOCK)]
    lags, alike, level = (np.concatenate([part[i] for part in parts]) for i in range(3))
    loud = level > QUIET * level.max()
    hz = _course(SAMPLE_RATE / lags, np.where(loud[:, None], alike, -np.inf))
    return PitchTrack(hz, hz > 0)


def _candidates(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best periods of each frame in samples, how alike the frame is to itself after them [T, K], and its level."""
    shortest, longest = SAMPLE_RATE // HIGHEST_HZ, -(-SAMPLE_RATE // LOWEST_HZ)
    frames = frames - frames.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(frames, 1152)  # at least SIZE + longest + 1, with small factors
    product = np.fft.irfft(np.abs(spectrum) ** 2, 1152)[:, : longest + 2]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    lags = np.arange(longest + 2)
    both = energy[:, SIZE - lags] + energy[:, -1:] - energy[:, lags]
    alike = 2 * product / (both + 1e-10)
    before, at, after = (alike[:, shortest - 1 + i : longest + i] for i in range(3))
    peak = (at > before) & (at >= after)
    cost = OCTAVE * np.log2(np.arange(shortest, longest + 1) / shortest)
    best = np.argsort(np.where(peak, cost - at, np.inf), axis=1, kind="stable")[:, :CANDIDATES]
    rows = np.arange(len(frames))[:, None]
    before, at, after, peak = before[rows, best], at[rows, best], after[rows, best], peak[rows, best]
    bend = np.where(peak, before - 2 * at + after, -1.0)
    shift = np.where(peak, (before - after) / 2 / np.minimum(bend, -1e-12), 0.0)  # top of the parabola
    score = np.where(peak, at - cost[best], -np.inf)
    return shortest + best + np.clip(shift, -0.5, 0.5), score, np.sqrt(energy[:, -1] / SIZE)


def _course(hz: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The cheapest course through candidates [T, K], where 0 Hz stands for unvoiced; float64 [T]."""
    octaves = np.log2(hz)
    price = np.concatenate([1 - score, np.full((len(hz), 1), 1 - VOICED)], axis=1)
    total, came = price[0], np.zeros(price.shape, dtype=np.int64)
    step = np.full((hz.shape[1] + 1,) * 2, CHANGE)
    step[-1, -1] = 0.0
    for t in range(1, len(hz)):
        step[:-1, :-1] = JUMP * np.abs(octaves[t - 1][:, None] - octaves[t][None, :])
        paths = total[:, None] + step
        came[t] = paths.argmin(axis=0)
        total = paths[came[t], np.arange(len(total))] + price[t]
    state, found = int(total.argmin()), np.zeros(len(hz))
    for t in range(len(hz) - 1, -1, -1):
        found[t] = hz[t, state] if state < hz.shape[1] else 0.0
        state = int(came[t, state])
    return found
