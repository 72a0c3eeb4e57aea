"""Band limits of old and narrow channels."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from vivavoce.audio.augment import Waveform
from vivavoce.audio.room import fast_size

# lowest and highest Hz: analogue telephone, medium-wave radio, G.722 telephone
BANDS = MappingProxyType({"telephone": (300.0, 3400.0), "am": (100.0, 4500.0), "wideband": (50.0, 7000.0)})
BELOW, ABOVE = 0.8, 1.1  # edges go over to nothing within these factors


def limit_band(waveform: Waveform, sample_rate: int, low_hz: float, high_hz: float) -> Waveform:
    """Take away what lies outside a band, without moving what is inside; keeps the length.

    Nothing is left below 0.8 of the lower and above 1.1 of the upper limit.

    Args:
        waveform: float32 [S].
        sample_rate: Hz.
        low_hz: Lower limit, more than 0.
        high_hz: Upper limit; past half the rate it does nothing.

    Returns:
        float32 [S].
    """
    size = fast_size(len(waveform) + round(4 * sample_rate / low_hz))
    hz = np.arange(size // 2 + 1) * (sample_rate / size)
    gain = _rise(hz, BELOW * low_hz, low_hz) * (1 - _rise(hz, high_hz, ABOVE * high_hz))
    out = np.fft.irfft(np.fft.rfft(waveform, size) * gain, size)
    return out[: len(waveform)].astype(np.float32)


def _rise(hz: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 up to ``start``, 1 from ``end``, half a cosine between."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip((hz - start) / (end - start), 0, 1))
