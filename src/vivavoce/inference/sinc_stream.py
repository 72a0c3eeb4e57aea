"""Resample with the windowed sinc of published codec pipelines, chunk by chunk, with the numbers of the whole."""

from __future__ import annotations

import math

import numpy as np

from vivavoce.audio.resample import ROLLOFF, ZERO_CROSSINGS, resample, resampled_length
from vivavoce.base.errors import SessionError


class SincStream:
    """Gives, joined, what ``resample(..., "sinc")`` gives for the whole, within float rounding.

    Output comes in groups: ``from_hz / gcd`` samples in become ``to_hz / gcd`` samples out by the same kernels, so a
    window that begins at a group gives the numbers of the whole away from its ends.

    Streaming: state is the input that groups to come still see; look-ahead is the filter's width (6 zero crossings,
    0.3 ms from 24 kHz) and a group, which for odd rates such as 16001 Hz is a second.

    Args:
        from_hz: Rate of the chunks, 1000 to 768000 Hz.
        to_hz: Wanted rate, 1000 to 768000 Hz.

    Raises:
        AudioError: A rate out of range.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        resample(np.zeros(1, np.float32), from_hz, to_hz, "sinc")  # refuses rates out of range
        self.from_hz, self.to_hz = from_hz, to_hz
        divisor = math.gcd(from_hz, to_hz)
        self._stride, self._phases = from_hz // divisor, to_hz // divisor
        self._width = math.ceil(ZERO_CROSSINGS * self._stride / (min(self._stride, self._phases) * ROLLOFF))
        self._before = math.ceil(self._width / self._stride) + 1  # groups in front that a group sees
        self._first = self._done = self._num_in = 0  # first group in _kept, groups given out, samples taken
        self._kept = np.zeros(0, np.float32)
        self._ended = False

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Take float32 [S] and return what is now final, float32 [S'].

        Raises:
            SessionError: After ``flush``.
        """
        if self._ended:
            raise SessionError("the resampler was flushed; make a new SincStream for the next recording.")
        self._num_in += len(chunk)
        if self._stride == self._phases:
            return np.asarray(chunk, np.float32)
        self._kept = np.concatenate([self._kept, chunk])
        final = (self._num_in - self._width - self._stride) // self._stride
        if final <= self._done:
            return np.zeros(0, np.float32)
        out = self._window()[(self._done - self._first) * self._phases : (final - self._first) * self._phases]
        first = max(0, final - self._before)
        self._kept = self._kept[(first - self._first) * self._stride :]
        self._first, self._done = first, final
        return out

    def flush(self) -> np.ndarray:
        """End the stream and return the rest, float32 [S'].

        Raises:
            SessionError: It was flushed before.
        """
        if self._ended:
            raise SessionError("the resampler was flushed already; make a new SincStream.")
        self._ended = True
        if self._stride == self._phases or not self._num_in:
            return np.zeros(0, np.float32)
        left = resampled_length(self._num_in, self.from_hz, self.to_hz) - self._done * self._phases
        begin = (self._done - self._first) * self._phases
        return self._window()[begin : begin + left]

    def _window(self) -> np.ndarray:
        return resample(self._kept, self.from_hz, self.to_hz, "sinc")
