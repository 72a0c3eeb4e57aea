"""Audio of events: base64 of 16-bit samples at 24 kHz, or of G.711's 8 bits at 8 kHz, to and from float32."""

from __future__ import annotations

import base64
import binascii
from functools import cache

import numpy as np

from vivavoce.audio.resample import StreamResampler
from vivavoce.serving.encoding import pcm16
from vivavoce.serving.realtime.outbox import Fault

RATES = {"audio/pcm": 24000, "audio/pcmu": 8000, "audio/pcma": 8000}


def decoded(data: str, kind: str, param: str) -> np.ndarray:
    """float32 [S] of base64 text, at the format's rate.

    Raises:
        Fault: Not base64, or half a sample.
    """
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Fault(f"{param} is not base64.", "invalid_base64", param) from None
    if kind != "audio/pcm":
        table = _table(kind)
        return table[np.frombuffer(raw, np.uint8)]
    if len(raw) % 2:
        raise Fault(
            f"{param} has {len(raw)} bytes; 16-bit samples need an even number.", "invalid_audio", param
        )
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0


def encoded(samples: np.ndarray, kind: str) -> bytes:
    """Bytes of float32 [S] at the format's rate."""
    if kind == "audio/pcm":
        return pcm16(samples)
    values = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int32)
    return (_mu_law(values) if kind == "audio/pcmu" else _a_law(values)).tobytes()


class Voice:
    """Encodes an answer piece by piece.

    Args:
        kind: A format of ``RATES``.
        sample_rate: Of the samples, Hz.

    Attributes:
        num_samples: Given out so far, at the format's rate.
    """

    def __init__(self, kind: str, sample_rate: int) -> None:
        self._kind, self.rate = kind, RATES[kind]
        self._resampler = None if self.rate == sample_rate else StreamResampler(sample_rate, self.rate)
        self.num_samples = 0

    def push(self, samples: np.ndarray) -> str:
        """base64 of what is ready, "" for nothing."""
        return self._text(samples if self._resampler is None else self._resampler.push(samples))

    def close(self) -> str:
        """base64 of the rest."""
        return "" if self._resampler is None else self._text(self._resampler.flush())

    def _text(self, samples: np.ndarray) -> str:
        self.num_samples += len(samples)
        return base64.b64encode(encoded(samples, self._kind)).decode()


@cache
def _table(kind: str) -> np.ndarray:
    """float32 [256]: what each byte of G.711 stands for. Source: ITU-T G.711, tables 1 and 2."""
    code = np.arange(256)
    if kind == "audio/pcmu":
        code = ~code & 0xFF
        exponent, mantissa = code >> 4 & 7, code & 15
        size = ((mantissa << 3) + 132 << exponent) - 132
        return (np.where(code & 128, -size, size) / 32768.0).astype(np.float32)
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    size = np.where(exponent == 0, (mantissa << 4) + 8, (mantissa << 4) + 264 << np.maximum(exponent - 1, 0))
    return (np.where(code & 128, size, -size) / 32768.0).astype(np.float32)


def _mu_law(values: np.ndarray) -> np.ndarray:
    size = np.minimum(np.abs(values), 32635) + 132
    exponent = np.floor(np.log2(size)).astype(np.int32) - 7
    code = exponent << 4 | (size >> exponent + 3) & 15
    return (~(code | np.where(values < 0, 128, 0)) & 0xFF).astype(np.uint8)


def _a_law(values: np.ndarray) -> np.ndarray:
    size = np.where(values < 0, -values - 1, values)
    exponent = np.maximum(np.floor(np.log2(np.maximum(size, 1))).astype(np.int32) - 7, 0)
    code = exponent << 4 | (size >> np.where(exponent == 0, 4, exponent + 3)) & 15
    return ((code | np.where(values < 0, 0, 128)) ^ 0x55).astype(np.uint8)
