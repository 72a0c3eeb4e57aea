"""Change the sample rate of a waveform, whole or as it arrives.

Two methods. ``soxr`` (the default) is the better filter and streams. ``sinc`` gives the numbers of the
windowed-sinc resampler that published codec pipelines were built with, for tokens that must match theirs.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from vivavoce.base.errors import AudioError, ConfigError, SessionError

Method = Literal["soxr", "sinc"]

LOWEST_HZ, HIGHEST_HZ = 1000, 768000
ZERO_CROSSINGS, ROLLOFF = 6, 0.99
DENSE_KERNEL = 1 << 20  # largest stride x phases that gets one kernel per phase


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
    divisor = math.gcd(from_hz, to_hz)
    stride, phases = from_hz // divisor, to_hz // divisor
    length = resampled_length(waveform.shape[-1], from_hz, to_hz)
    rows = waveform.reshape(-1, waveform.shape[-1])
    if stride * phases <= DENSE_KERNEL:
        joined = _sinc_dense(rows, stride, phases)[:, :length]
    else:
        joined = _sinc_sparse(rows, stride, phases, length)
    return np.ascontiguousarray(joined.reshape(*waveform.shape[:-1], -1))


def _sinc_dense(rows: np.ndarray, stride: int, phases: int) -> np.ndarray:
    """Convolve with one kernel per output phase: the reference's own order of sums, to the last digit."""
    import torch

    width = _sinc_width(stride, phases)
    # The reference divides integers in single precision here; doing the same keeps its last digits.
    starts = np.arange(0, -phases, -1, dtype=np.float32)[:, None] / np.float32(phases)
    offsets = np.arange(-width, width + stride, dtype=np.float64) / stride
    kernel = _sinc_taps(starts.astype(np.float64) + offsets, stride, phases)[:, None]
    waves = torch.from_numpy(np.ascontiguousarray(rows[:, None]))
    padded = torch.nn.functional.pad(waves, (width, width + stride))
    with torch.no_grad():
        out = torch.nn.functional.conv1d(padded, torch.from_numpy(kernel), stride=stride)
    return out.mT.reshape(len(rows), -1).numpy()


def _sinc_sparse(rows: np.ndarray, stride: int, phases: int, length: int) -> np.ndarray:
    """Weigh only the samples around each output: for rates with no large common divisor (16001 to 24000 Hz)."""
    width = _sinc_width(stride, phases)
    padded = np.pad(rows, ((0, 0), (width, width + 1)))
    around = np.arange(-width, width + 1)
    out = np.empty((len(rows), length), dtype=np.float32)
    for begin in range(0, length, 1 << 14):
        index = np.arange(begin, min(begin + (1 << 14), length), dtype=np.int64)
        whole, rest = np.divmod(index * stride, phases)
        taps = _sinc_taps((around - (rest / phases)[:, None]) / stride, stride, phases)
        out[:, index] = np.einsum("cnk,nk->cn", padded[:, whole[:, None] + around + width], taps)
    return out


def _sinc_width(stride: int, phases: int) -> int:
    return math.ceil(ZERO_CROSSINGS * stride / (min(stride, phases) * ROLLOFF))


def _sinc_taps(times: np.ndarray, stride: int, phases: int) -> np.ndarray:
    """Evaluate the Hann-windowed low-pass at ``times``, in units of ``stride`` input samples; float32."""
    cutoff = min(stride, phases) * ROLLOFF
    times = (times * cutoff).clip(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(times * np.pi / ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(times) * window * (cutoff / stride)).astype(np.float32)
