"""What a waveform is like: level, clipping, offset, and how much of its band is used.

Letters: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vivavoce.data.check.findings import Finding

FULL_SCALE = 0.999
CLIPPED_SHARE = 1e-3  # of samples at full scale; a peak that just touches it has far fewer
SILENT_PEAK = 1e-3  # -60 dB of full scale
QUIET_DB = -45.0
OFFSET = 0.02
VERY_SHORT_S = 0.1
EDGE_SHARE = 1e-6  # of the energy lies above the edge of the band that is used
NARROW = 0.7  # of half the rate; a narrower band is reported
_FRAME, _MOST_FRAMES = 2048, 400


@dataclass(frozen=True)
class Sound:
    """Numbers of a waveform.

    Attributes:
        peak: Largest absolute sample; full scale is 1.
        level_db: Root mean square without the offset, dB of full scale; -inf for none.
        clipped: Share of samples at full scale or beyond.
        offset: Mean of the samples.
        edge_hz: Frequency below which all but a millionth of the energy lies; 0 for silence.
    """

    peak: float
    level_db: float
    clipped: float
    offset: float
    edge_hz: float


def measure(waveform: np.ndarray, sample_rate: int) -> Sound:
    """Measure a waveform, float32 [S] with S >= 1 and finite."""
    size = np.abs(waveform)
    offset = float(waveform.mean(dtype=np.float64))
    power = float(np.square(waveform - offset, dtype=np.float64).mean())
    return Sound(
        peak=float(size.max()),
        level_db=10 * math.log10(power) if power > 0 else -math.inf,
        clipped=float((size >= FULL_SCALE).mean()),
        offset=offset,
        edge_hz=_edge(waveform - offset, sample_rate),
    )


def _edge(waveform: np.ndarray, sample_rate: int) -> float:
    """Edge of the band, from the loudest frames."""
    if waveform.size < _FRAME:
        waveform = np.pad(waveform, (0, _FRAME - waveform.size))
    count = waveform.size // _FRAME
    frames = waveform[: count * _FRAME].reshape(count, _FRAME)
    loudest = np.argsort(-np.square(frames).sum(axis=1), kind="stable")[:_MOST_FRAMES]
    spectrum = np.square(np.abs(np.fft.rfft(frames[np.sort(loudest)] * np.hanning(_FRAME), axis=1))).sum(
        axis=0
    )
    total = float(spectrum.sum())
    if total <= 0:
        return 0.0
    above = np.cumsum(spectrum[::-1])[::-1]
    return float(np.count_nonzero(above > EDGE_SHARE * total) * sample_rate / _FRAME)


def judge(sound: Sound, seconds: float, sample_rate: int, where: str) -> Iterator[Finding]:
    """Find what is wrong with a waveform.

    Args:
        sound: Its numbers.
        seconds: Its length.
        sample_rate: Hz.
        where: Place in the row.
    """
    if seconds < VERY_SHORT_S:
        yield Finding("very_short", f"{seconds:.3f} s", f"{VERY_SHORT_S:g} s or more", where)
    if sound.peak < SILENT_PEAK:
        yield Finding(
            "silent", f"a peak of {sound.peak:.1e} of full scale", f"{SILENT_PEAK:g} or more", where
        )
        return
    if sound.level_db < QUIET_DB:
        yield Finding("quiet", f"level {sound.level_db:.0f} dB", f"{QUIET_DB:g} dB or more", where)
    if sound.clipped > CLIPPED_SHARE:
        seen = f"{100 * sound.clipped:.1f} % of samples at full scale, peak {sound.peak:.2f}"
        yield Finding("clipped", seen, f"at most {100 * CLIPPED_SHARE:g} %", where)
    if abs(sound.offset) > OFFSET:
        yield Finding("dc_offset", f"mean {sound.offset:+.3f} of full scale", f"{OFFSET:g} or less", where)
    if sound.edge_hz < NARROW * sample_rate / 2 and seconds >= VERY_SHORT_S:
        seen = f"sound up to {sound.edge_hz / 1000:.1f} kHz in a file of {sample_rate} Hz"
        yield Finding("band_limited", seen, f"sound up to {sample_rate / 2000:g} kHz", where)
