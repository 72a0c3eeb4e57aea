"""Faster and slower speech, with its pitch or without.

Letters: S samples.
"""

from __future__ import annotations

import numpy as np

from vivavoce.audio.augment import Waveform
from vivavoce.audio.resample import resample

WINDOW_S, SEARCH_S = 0.03, 0.01
FINE = 4  # rates are multiplied by it, so that factors are exact to 1 / (4 * rate)
FINE_UP_TO_HZ = 96_000


def exact_factor(factor: float, sample_rate: int) -> float:
    """The factor nearest to ``factor`` that resampling can do exactly."""
    base = sample_rate * (FINE if sample_rate <= FINE_UP_TO_HZ else 1)
    return round(base * factor) / base


def tempo_length(num_samples: int, factor: float, sample_rate: int) -> int:
    """Samples of a waveform that is played ``factor`` times as fast: ``ceil(S / factor)``."""
    base = sample_rate * (FINE if sample_rate <= FINE_UP_TO_HZ else 1)
    return -(-num_samples * base // round(base * factor))


def change_tempo(waveform: Waveform, sample_rate: int, factor: float, keep_pitch: bool = False) -> Waveform:
    """Play a waveform faster or slower.

    Args:
        waveform: float32 [S].
        sample_rate: Hz.
        factor: 0.5 to 2; more than 1 is faster. Taken as ``exact_factor`` says.
        keep_pitch: Else pitch and formants move by the same factor, as on a tape.

    Returns:
        float32 [ceil(S / factor)]. What was heard at t is heard at t / factor; with ``keep_pitch`` within 10 ms.

    Source: with kept pitch, WSOLA (Verhelst and Roelands 1993).
    """
    if keep_pitch:
        return _overlap(waveform, sample_rate, exact_factor(factor, sample_rate))
    fine = FINE if sample_rate <= FINE_UP_TO_HZ else 1
    return resample(waveform, round(fine * sample_rate * factor), fine * sample_rate)


def _overlap(waveform: Waveform, sample_rate: int, factor: float) -> Waveform:
    """Lay windows of the waveform over one another, each where it goes on best from the one before."""
    samples = tempo_length(len(waveform), factor, sample_rate)
    hop = max(1, round(WINDOW_S * sample_rate / 2))
    size, reach = 2 * hop, max(1, round(SEARCH_S * sample_rate))
    frames = -(-samples // hop) + 1
    room = size + reach + hop
    last = round((frames - 1) * hop * factor)
    padded = np.pad(waveform, (room, room + max(0, last - len(waveform)))).astype(np.float32)
    energy = np.concatenate([[0.0], np.cumsum(np.square(padded, dtype=np.float64))])
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    out = np.zeros((frames + 1) * hop, np.float32)
    start = room - hop
    for k in range(frames):
        if k:
            wanted, middle = padded[start + hop : start + hop + size], round(k * hop * factor) + room - hop
            start = _best(padded, energy, wanted, middle, reach)
        out[k * hop : k * hop + size] += window * padded[start : start + size]
    return out[hop : hop + samples]


def _best(padded: Waveform, energy: np.ndarray, wanted: Waveform, middle: int, reach: int) -> int:
    """Where, at most ``reach`` from ``middle``, the waveform is most like ``wanted``."""
    first, count, size = middle - reach, 2 * reach + 1, len(wanted)
    likeness = np.correlate(padded[first : first + count + size - 1], wanted, "valid")
    power = energy[first + size : first + size + count] - energy[first : first + count]
    likeness = likeness / np.sqrt(np.maximum(power, 1e-12))
    best = int(np.argmax(likeness))
    return first + best if likeness[best] > 0 else middle
