"""How loud speech is, pauses not counted, how much its level swings, and bringing it to one level."""

from __future__ import annotations

import numpy as np

FRAME_S = 0.05
PAUSE_DB = 30.0  # what is this far below the loudest frame is a pause
PEAK = 0.99
SWING_FRAME_S, SWING_FLOOR_DB = 0.02, -80.0


def speech_level_db(waveform: np.ndarray, sample_rate: int) -> float:
    """RMS level of the frames with speech in them, dB below full scale (a full-scale sine is -3); -inf for silence.

    Args:
        waveform: float [S] within -1 and 1.
        sample_rate: Hz.
    """
    size = max(1, round(FRAME_S * sample_rate))
    padded = np.pad(np.square(waveform, dtype=np.float64), (0, -len(waveform) % size))
    power = padded.reshape(-1, size).mean(axis=1)
    loudest = power.max(initial=0.0)
    if loudest <= 0.0:
        return -np.inf
    return float(10 * np.log10(power[power >= loudest * 10 ** (-PAUSE_DB / 10)].mean()))


def level_swing_db(waveform: np.ndarray, sample_rate: int) -> float:
    """Distance between loud and quiet moments: the 90th less the 10th percentile of the level of frames of 20 ms, dB.

    Syllables and closures of speech swing by 15 dB and more; steady noise, hum and dense music by a few dB.

    Args:
        waveform: float [S] within -1 and 1, S >= 1.
        sample_rate: Hz.
    """
    size = max(1, min(round(SWING_FRAME_S * sample_rate), len(waveform)))
    frames = waveform[: len(waveform) // size * size].astype(np.float64).reshape(-1, size)
    levels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    low, high = np.percentile(np.maximum(levels, SWING_FLOOR_DB), [10, 90])
    return float(high - low)


def bring_to_level(waveform: np.ndarray, sample_rate: int, level_db: float) -> np.ndarray:
    """Scale speech to ``level_db``, or as near to it as peaks allow that must stay below full scale.

    Args:
        waveform: float [S]; silence stays silence.
        sample_rate: Hz.
        level_db: Wanted level as ``speech_level_db`` measures it.

    Returns:
        float32 [S].
    """
    level = speech_level_db(waveform, sample_rate)
    if not np.isfinite(level):
        return waveform.astype(np.float32)
    gain = min(10 ** ((level_db - level) / 20), PEAK / float(np.abs(waveform).max()))
    return (waveform * gain).astype(np.float32)
