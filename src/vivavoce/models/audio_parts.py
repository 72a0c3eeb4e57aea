"""Audio content parts to waveforms: paths, bytes, arrays and OpenAI's base64, at any sample rate.

Letters: S samples.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vivavoce.audio.files import check_span, read_audio
from vivavoce.audio.resample import HIGHEST_HZ, LOWEST_HZ, Method, resample
from vivavoce.base.errors import AudioError

AUDIO_TYPES = ("audio", "input_audio", "audio_url")
_KEYS = ("audio", "input_audio", "audio_url", "path", "url", "bytes", "array")


def is_audio(part: Any) -> bool:
    """Whether a content part is audio."""
    return isinstance(part, Mapping) and part.get("type") in AUDIO_TYPES


def list_clips(audio: Any) -> list[Any]:
    """Several clips or one as a list: a list holds clips, but for numbers, which are the samples of one.

    A tuple of an array and its rate is one clip; None is no clip.
    """
    if audio is None:
        return []
    several = isinstance(audio, list) or (
        isinstance(audio, tuple) and not (len(audio) == 2 and any(_is_number(x) for x in audio))
    )
    if not several or (len(audio) and all(_is_number(x) for x in audio)):
        return [audio]
    return list(audio)


def read_part(
    part: Mapping[str, Any], sample_rate: int, resampler: Method = "soxr", source_rate: Any = None
) -> np.ndarray:
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
        source_rate: Rate of an array that does not say its own, Hz.

    Returns:
        float32 [S], S >= 1.

    Raises:
        AudioError: Nothing readable, an array without its rate, an address on the network, no samples, NaN.
    """
    value = next((part[key] for key in _KEYS if part.get(key) is not None), None)
    rate = _own_rate(part, source_rate)
    start, end = _seconds(part.get("start") or 0.0), part.get("end")
    return read_source(value, sample_rate, rate, start, None if end is None else _seconds(end), resampler)


def read_source(
    value: Any,
    sample_rate: int,
    source_rate: Any = None,
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
        return read_source(inner, sample_rate, _own_rate(value, source_rate), start_s, end_s, resampler)
    if isinstance(value, tuple) and len(value) == 2 and _is_number(value[0]) != _is_number(value[1]):
        array, rate = (value[1], value[0]) if _is_number(value[0]) else value
        return read_source(array, sample_rate, rate, start_s, end_s, resampler)
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
    value: Any, sample_rate: int, rate: Any, start_s: float, end_s: float | None, resampler: Method
) -> np.ndarray:
    """An array of samples, [S] or [C, S], integers or floats."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    if isinstance(value, list | tuple) and not all(map(_is_number, value)):
        raise AudioError("a list within the list of clips; wanted one clip in each place.")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or array.size == 0:
        raise AudioError(
            f"audio of shape {array.shape}, {array.dtype}; wanted samples [S] or [C, S], float or integer."
        )
    if array.ndim == 2 and array.shape[0] > array.shape[1]:
        raise AudioError(
            f"audio of shape {array.shape} has more channels than samples; wanted [C, S], so give its transpose."
        )
    if rate is None:
        raise AudioError("an array of samples needs its sampling_rate in Hz beside it; it is not guessed.")
    hertz = _hertz(rate)
    check_span(start_s, end_s)
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        middle = 0 if array.dtype.kind == "i" else (info.max + 1) // 2
        array = (array.astype(np.float32) - middle) / float(info.max - middle + 1)
    wave = np.asarray(array.mean(axis=0) if array.ndim == 2 else array, dtype=np.float32)
    wave = wave[round(start_s * hertz) : None if end_s is None else round(end_s * hertz)]
    if wave.size == 0:
        raise AudioError(
            f"no samples between {start_s:g} s and {end_s} s of {array.shape[-1] / hertz:.2f} s."
        )
    if not np.isfinite(wave).all():
        raise AudioError("the audio array has NaN or infinite samples; wanted numbers between -1 and 1.")
    return resample(wave, hertz, sample_rate, resampler)


def _own_rate(record: Mapping[str, Any], default: Any) -> Any:
    found = (record[name] for name in ("sampling_rate", "sample_rate") if record.get(name) is not None)
    return next(found, default)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _hertz(rate: Any) -> int:
    if not _is_number(rate) or isinstance(rate, bool) or not math.isfinite(rate) or rate != int(rate):
        raise AudioError(f"sampling_rate is {rate!r}; wanted a whole number of Hz, such as 16000.")
    if not LOWEST_HZ <= rate <= HIGHEST_HZ:
        raise AudioError(f"sampling_rate is {rate:g} Hz; wanted {LOWEST_HZ} to {HIGHEST_HZ} Hz.")
    return int(rate)


def _seconds(value: Any) -> float:
    if not _is_number(value):
        raise AudioError(f"start or end is {value!r}; wanted seconds, such as 1.5.")
    return float(value)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AudioError(f"the audio data is not base64 ({error}); encode the bytes of the file.") from error
