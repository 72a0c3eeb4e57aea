"""What can be measured of a sound or a piece of music: length, level and its changes, brightness, tempo.

Letters: S samples, T frames.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

LEVEL_S = 0.1  # frames by which changes of level are judged
FRAME_S, HOP_S = 0.04, 0.01
LOUD, SOFT = 95.0, 10.0  # percentiles of frames
RANGE_DB = 60.0  # most that dynamics can be: what is softer counts as silence
SLOWEST_BPM, FASTEST_BPM = 40.0, 240.0
LIKELY_BPM, LIKELY_OCTAVES = 115.0, 1.0  # which of several tempi people tap, and how sure that is
ONSET = 0.1  # least rise of the level within 10 ms that counts, mean of all bands, nepers
BEATING = 0.3  # least correlation of the onsets with themselves a beat later
LEAST_BEATS = 6.0  # a recording must last so many of the beats
NUM_BANDS = 24


def measure_sound(waveform: np.ndarray, sample_rate: int, music: bool = False) -> dict[str, float]:
    """Measure a recording.

    Args:
        waveform: float32 [S] within -1 and 1, not silent, at least 25 ms.
        sample_rate: Hz.
        music: Look for a tempo as well.

    Returns:
        Rounded numbers: ``duration_s``; ``level_db``, dB below full scale, the mean of the whole; ``dynamics_db``,
        between loud and soft frames; ``centroid_hz``, the mean frequency by power; ``tempo_bpm`` if a beat is found.
    """
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    found = {
        "duration_s": round(waveform.size / sample_rate, 2),
        "level_db": round(10 * float(np.log10(power)), 1),
        "dynamics_db": round(dynamics_db(waveform, sample_rate), 1),
        "centroid_hz": float(round(centroid_hz(waveform, sample_rate))),
    }
    tempo = tempo_bpm(waveform, sample_rate) if music else None
    return found if tempo is None else found | {"tempo_bpm": round(tempo, 1)}


def dynamics_db(waveform: np.ndarray, sample_rate: int) -> float:
    """How far loud frames of 0.1 s are above soft ones, dB, 0 to 60; 0 for what is shorter than two frames."""
    size = round(LEVEL_S * sample_rate)
    whole = len(waveform) // size
    if whole < 2:
        return 0.0
    power = np.mean(np.square(waveform[: whole * size], dtype=np.float64).reshape(whole, size), axis=1)
    level = 10 * np.log10(np.maximum(power, power.max() * 10 ** (-RANGE_DB / 10)))
    loud, soft = np.percentile(level, [LOUD, SOFT])
    return float(loud - soft)


def centroid_hz(waveform: np.ndarray, sample_rate: int) -> float:
    """Mean frequency, each weighed by its power."""
    power = np.mean(_spectra(waveform, sample_rate), axis=0)
    power[0] = 0.0
    return float(np.fft.rfftfreq(2 * (len(power) - 1), 1 / sample_rate) @ power / max(power.sum(), 1e-30))


def tempo_bpm(waveform: np.ndarray, sample_rate: int) -> float | None:
    """Beats a minute, 40 to 240; None where there is no beat.

    The strength of onsets is compared with itself a beat later. A piece in 60 may be told as 120: people do not
    agree about that either.

    Args:
        waveform: float [S]; at least six beats of it are needed.
        sample_rate: Hz.
    """
    spectra = np.sqrt(_spectra(waveform, sample_rate))
    edges = np.unique(np.geomspace(2, spectra.shape[1], NUM_BANDS + 1).astype(int))
    bands = np.stack([spectra[:, a:b].mean(axis=1) for a, b in pairwise(edges)], axis=1)
    level = np.log(bands + 1e-3 * bands.max() + 1e-12)
    onsets = np.maximum(np.diff(level, axis=0), 0.0).mean(axis=1)
    shortest, longest = int(60 / FASTEST_BPM / HOP_S), int(60 / SLOWEST_BPM / HOP_S)
    longest = min(longest, int(len(onsets) / LEAST_BEATS))
    if longest <= shortest + 1 or onsets.max() < ONSET:
        return None
    onsets = onsets - onsets.mean()
    own = np.fft.irfft(np.abs(np.fft.rfft(onsets, 2 * len(onsets))) ** 2)[: longest + 2]
    alike = own / own[0] * len(onsets) / (len(onsets) - np.arange(len(own)))
    lags = np.arange(shortest, longest + 1)
    likely = np.exp(-0.5 * (np.log2(60 / (lags * HOP_S) / LIKELY_BPM) / LIKELY_OCTAVES) ** 2)
    peak = (alike[lags] >= alike[lags - 1]) & (alike[lags] >= alike[lags + 1]) & (alike[lags] >= BEATING)
    if not peak.any():
        return None
    best = int(lags[np.argmax(np.where(peak, alike[lags] * likely, -np.inf))])
    before, at, after = alike[best - 1 : best + 2]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return 60 / ((best + shift) * HOP_S)


def _spectra(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power spectra of frames of 40 ms each 10 ms, float64 [T, bins]; a short recording is one frame."""
    size, hop = 2 * round(FRAME_S * sample_rate / 2), round(HOP_S * sample_rate)
    samples = np.pad(waveform.astype(np.float64), (0, max(0, size - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2)
