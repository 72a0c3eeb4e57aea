"""Change the sample rate of a waveform, whole or as it arrives.

Two methods. ``soxr`` (the default) is the better filter and streams. ``sinc`` gives the numbers of the
windowed-sinc resampler that published codec pipelines were built with, for tokens that must match theirs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from vivavoce.base.errors import AudioError, ConfigError, SessionError

Method = Literal["soxr", "sinc"]

LOWEST_HZ, HIGHEST_HZ = 1000, 768000


def resampled_length(num_samples: int, from_hz: int, to_hz: int) -> int:
    """Count the samples that ``num_samples`` at one rate become at another: ``ceil(S * to / from)``."""
    return -(-num_samples * to_hz // from_hz)


def resample(waveform: np.ndarray, from_hz: int, to_hz: int, method: Method = "soxr") -> np.ndarray:
    """Resample a whole waveform; equal rates return the input itself.

    Args:
        waveform: float32 ``[S]`` or ``[C, S]``, nominally within -1 and 1 (a full-scale input may overshoot a
            little).
        from_hz: Its sample rate, 1000 to 768000 Hz.
        to_hz: Wanted sample rate, 1000 to 768000 Hz.
        method: ``soxr``, or ``sinc`` to equal torchaudio's ``Resample`` defaults (Hann window, width 6,
            rolloff 0.99).

    Returns:
        float32 with ``resampled_length(S, from_hz, to_hz)`` samples on the last axis.

    Raises:
        AudioError: A rate out of range, or a waveform of another shape or type.
        ConfigError: An unknown method.
    """
    _check_rates(from_hz, to_hz)
    if method not in get_args(Method):
        raise ConfigError(f"resampling method is {method!r}; wanted one of {', '.join(get_args(Method))}.")
    waveform = np.asarray(waveform)
    if waveform.ndim not in (1, 2) or waveform.dtype.kind != "f":
        raise AudioError(
            f"cannot resample shape {waveform.shape}, {waveform.dtype}; wanted float [S] or [C, S]."
        )
    waveform = waveform.astype(np.float32, copy=False)
    if from_hz == to_hz or waveform.shape[-1] == 0:
        return waveform
    if method == "sinc":
        return _sinc(waveform, from_hz, to_hz)
    if waveform.ndim == 2:
        return np.stack([resample(channel, from_hz, to_hz) for channel in waveform])
    import soxr

    silence = np.zeros(_tail_samples(from_hz, to_hz), dtype=np.float32)
    out = soxr.resample(np.concatenate([waveform, silence]), from_hz, to_hz)
    return np.asarray(out[: resampled_length(waveform.size, from_hz, to_hz)], dtype=np.float32)


class StreamResampler:
    """Resample a mono waveform chunk by chunk.

    What comes out, joined, equals ``resample`` of what went in, joined, for every way of cutting it; the
    total length is exactly ``resampled_length``. The filter holds samples back, some ten milliseconds of
    them, until ``flush``.

    Args:
        from_hz: Rate of the chunks, 1000 to 768000 Hz.
        to_hz: Wanted rate, 1000 to 768000 Hz.

    Raises:
        AudioError: A rate out of range.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        import soxr

        _check_rates(from_hz, to_hz)
        self.from_hz, self.to_hz = from_hz, to_hz
        self._num_in = self._num_out = 0
        self._ended = False
        self._filter = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Take float32 ``[S]`` (S may be 0) and return what is now final, float32 ``[S']`` (may be empty).

        Raises:
            AudioError: The chunk is not a one-dimensional float array.
            SessionError: The stream was flushed; make a new one.
        """
        if self._ended:
            raise SessionError(
                "the resampler was flushed; make a new StreamResampler for the next recording."
            )
        chunk = np.asarray(chunk)
        if chunk.ndim != 1 or chunk.dtype.kind != "f":
            raise AudioError(
                f"cannot resample a chunk of shape {chunk.shape}, {chunk.dtype}; wanted float [S]."
            )
        self._num_in += chunk.size
        return self._emit(chunk.astype(np.float32, copy=False), last=False)

    def flush(self) -> np.ndarray:
        """End the stream and return the rest, float32 ``[S']``.

        Raises:
            SessionError: The stream was flushed before.
        """
        if self._ended:
            raise SessionError("the resampler was flushed already; make a new StreamResampler.")
        self._ended = True
        # The filter's own idea of the end can be a sample short of ours: a little silence after it makes up
        # for that.
        silence = np.zeros(2 * math.ceil(self.from_hz / self.to_hz) + 2, dtype=np.float32)
        return self._emit(silence, last=True)

    def _emit(self, chunk: np.ndarray, last: bool) -> np.ndarray:
        if self._filter is None:
            out = chunk[:0] if last else chunk
        else:
            out = np.asarray(self._filter.resample_chunk(chunk, last=last), dtype=np.float32)
        out = out[: resampled_length(self._num_in, self.from_hz, self.to_hz) - self._num_out]
        self._num_out += out.size
        return out


def _tail_samples(from_hz: int, to_hz: int) -> int:
    """Silence to put after a clip, because the filter may count one output sample fewer than us."""
    return 2 * math.ceil(from_hz / to_hz) + 2


def _check_rates(*rates: int) -> None:
    for rate in rates:
        if not LOWEST_HZ <= rate <= HIGHEST_HZ:
            raise AudioError(f"sample rate is {rate} Hz; wanted {LOWEST_HZ} to {HIGHEST_HZ} Hz.")


def _sinc(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    import torch

    divisor = math.gcd(from_hz, to_hz)
    stride, phases = from_hz // divisor, to_hz // divisor
    kernel, width = _sinc_kernel(stride, phases)
    flat = torch.from_numpy(np.ascontiguousarray(waveform.reshape(-1, 1, waveform.shape[-1])))
    padded = torch.nn.functional.pad(flat, (width, width + stride))
    with torch.no_grad():
        out = torch.nn.functional.conv1d(padded, torch.from_numpy(kernel), stride=stride)
    joined = out.mT.reshape(out.shape[0], -1).numpy()
    joined = joined[:, : resampled_length(waveform.shape[-1], from_hz, to_hz)]
    return np.ascontiguousarray(joined.reshape(*waveform.shape[:-1], -1))


@lru_cache(maxsize=16)
def _sinc_kernel(stride: int, phases: int) -> tuple[np.ndarray, int]:
    """One low-pass kernel per output phase, float32 ``[phases, 1, 2 * width + stride]``."""
    zero_crossings, rolloff = 6, 0.99
    cutoff = min(stride, phases) * rolloff
    width = math.ceil(zero_crossings * stride / cutoff)
    offsets = np.arange(-width, width + stride, dtype=np.float64) / stride
    # The reference divides integers in single precision here; doing the same keeps its last digits.
    starts = np.arange(0, -phases, -1, dtype=np.float32)[:, None] / np.float32(phases)
    times = (starts.astype(np.float64) + offsets) * cutoff
    times = times.clip(-zero_crossings, zero_crossings)
    window = np.cos(times * np.pi / zero_crossings / 2) ** 2
    kernel = np.sinc(times) * window * (cutoff / stride)
    return kernel[:, None].astype(np.float32), width
