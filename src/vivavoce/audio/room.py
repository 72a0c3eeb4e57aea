"""Rooms: put a waveform into one by its impulse response, and measure how long a response rings.

Letters: S samples.
"""

from __future__ import annotations

import numpy as np

from vivavoce.audio.augment import Waveform, rms
from vivavoce.base.errors import AudioError

FFT_STEP = 4096  # sizes are multiples of it, which keeps transforms of odd lengths fast
FIT_DB = (-5.0, -35.0)  # the part of the decay that is measured


def fast_size(samples: int) -> int:
    """A size of at least ``samples`` of which a Fourier transform is quick."""
    return -(-samples // FFT_STEP) * FFT_STEP


def from_direct(response: Waveform) -> Waveform:
    """Cut a recorded response so that it begins with the direct sound, which is its largest sample.

    Words then stay where they are in time.

    Raises:
        AudioError: It is silent.
    """
    at = int(np.argmax(np.abs(response)))
    if response[at] == 0:
        raise AudioError("the impulse response is silent; wanted a recording with a direct sound.")
    return response[at:] / np.abs(response[at])


def reverberate(waveform: Waveform, response: Waveform) -> Waveform:
    """Put a waveform into a room; keeps length and level, what rings on after its end is cut.

    Args:
        waveform: float32 [S].
        response: float32 [R] that begins with the direct sound.

    Returns:
        float32 [S].
    """
    if not waveform.any():
        return waveform
    size = fast_size(len(waveform) + len(response))
    whole = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size)
    wet = whole[: len(waveform)].astype(np.float32)
    return (wet * (rms(waveform) / rms(wet))).astype(np.float32)


def reverberation_s(response: Waveform, sample_rate: int) -> float:
    """Seconds in which a response decays by 60 dB, from the slope of its energy between -5 and -35 dB.

    Raises:
        AudioError: It does not decay that far.

    Source: Schroeder's backward integration, T30 of ISO 3382.
    """
    left = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    if not left[0] > 0:
        raise AudioError("the impulse response is silent; nothing decays.")
    level = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    inside = np.nonzero((level <= FIT_DB[0]) & (level >= FIT_DB[1]))[0]
    if len(inside) < 2 or level[-1] > FIT_DB[1]:
        raise AudioError(f"the response does not decay by {-FIT_DB[1]:g} dB; wanted a longer one.")
    slope = float(np.polyfit(inside / sample_rate, level[inside], 1)[0])
    return -60.0 / slope
