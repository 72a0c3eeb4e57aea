"""Audio content parts to waveforms: paths, bytes, arrays and OpenAI's base64, at any sample rate.

Letters: S samples.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import Method, resample
from vivavoce.base.errors import AudioError

AUDIO_TYPES = ("audio", "input_audio", "audio_url")
_KEYS = ("audio", "input_audio", "audio_url", "path", "url", "bytes", "array")


def is_audio(part: Any) -> bool:
    """Whether a content part is audio."""
    return isinstance(part, Mapping) and part.get("type") in AUDIO_TYPES


def read_part(part: Mapping[str, Any], sample_rate: int, resampler: Method = "soxr") -> np.ndarray:
    """Read an audio part as a mono waveform.

    Understood forms: ``{"type": "audio", "audio": X}`` with X a path, the bytes of a file, a data URI,
    ``{"path"}`` or ``{"bytes"}``, ``{"array", "sampling_rate"}``, ``(array, rate)``, or an array with
    ``"sampling_rate"`` beside it; ``path``, ``bytes`` or ``array`` instead of ``audio``; and OpenAI's
    ``{"type": "input_audio", "input_audio": {"data": base64, "format": "wav"}}``. ``start`` and ``end``
    (seconds) take a part of it.

    Args:
        part: The content part.
        sample_rate: Wanted rate, Hz.
        resampler: See ``audio.resample``.

    Returns:
        float32 [S], S >= 1.

    Raises:
        AudioError: Nothing readable, an array without its rate, an address on the network, no samples, NaN.
    """
    value = next((part[key] for key in _KEYS if part.get(key) is not None), None)
    rate = part.get("sampling_rate", part.get("sample_rate"))
    start, end = float(part.get("start") or 0.0), part.get("end")
    return read_source(value, sample_rate, rate, start, end, resampler)


def read_source(
    value: Any,
    sample_rate: int,
    source_rate: int | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    resampler: Method = "soxr",
) -> np.ndarray:
    """Read a path, bytes, base64, an array, or one of the objects that hold them; see ``read_part``."""
    if isinstance(value, Mapping):
        inner = next(
            (value[k] for k in ("array", "bytes", "data", "path", "url") if value.get(k) is not None), None
        )
        if "data" in value and isinstance(inner, str):
            inner = _from_base64(inner)
        rate = value.get("sampling_rate", value.get("sample_rate", source_rate))
        return read_source(inner, sample_rate, rate, start_s, end_s, resampler)
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], int | float):
        first, second = value
        array, rate = (second, first) if isinstance(first, int) else (first, second)
        return read_source(array, sample_rate, int(rate), start_s, end_s, resampler)
    if isinstance(value, str) and value.startswith("data:"):
        return read_source(
            _from_base64(value.partition(",")[2]), sample_rate, None, start_s, end_s, resampler
        )
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        raise AudioError(f"{value} is an address on the network; download it and give the file.")
    if isinstance(value, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(value, "read"):
        return read_audio(value, sample_rate, start_s, end_s, resampler=resampler)[0]
    if value is None:
        raise AudioError("the audio part is empty; wanted a path, bytes, or an array with its sampling_rate.")
    return _from_array(value, sample_rate, source_rate, start_s, end_s, resampler)


def _from_array(
    value: Any, sample_rate: int, rate: int | None, start_s: float, end_s: float | None, resampler: Method
) -> np.ndarray:
    """An array of samples, [S] or [C, S], integers or floats."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or array.size == 0:
        raise AudioError(
            f"audio of shape {array.shape}, {array.dtype}; wanted samples [S] or [C, S], float or integer."
        )
    if rate is None:
        raise AudioError("an array of samples needs its sampling_rate in Hz beside it; it is not guessed.")
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        middle = 0 if array.dtype.kind == "i" else (info.max + 1) // 2
        array = (array.astype(np.float32) - middle) / float(info.max - middle + 1)
    wave = np.asarray(array.mean(axis=0) if array.ndim == 2 else array, dtype=np.float32)
    stop = None if end_s is None else round(end_s * rate)
    wave = wave[round(start_s * rate) : stop]
    if wave.size == 0:
        raise AudioError(f"no samples between {start_s:g} s and {end_s} s of {array.shape[-1] / rate:.2f} s.")
    if not np.isfinite(wave).all():
        raise AudioError("the audio array has NaN or infinite samples; wanted numbers between -1 and 1.")
    return resample(wave, int(rate), sample_rate, resampler)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AudioError(f"the audio data is not base64 ({error}); encode the bytes of the file.") from error
