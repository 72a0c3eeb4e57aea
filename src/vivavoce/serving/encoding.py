"""Spoken answers to bytes of a file or a stream, piece by piece.

Streams have no length in their header: wav carries the placeholder that streaming encoders use, flac says
"unknown". ``whole`` writes headers right.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from vivavoce.audio.resample import StreamResampler
from vivavoce.serving.refusals import Refusal

PCM_HZ = 24000  # what clients expect of headerless samples
MEDIA_TYPES = {
    "wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "opus": "audio/ogg", "ogg": "audio/ogg",
    "pcm": "audio/pcm", "pcm16": "audio/pcm",
}  # fmt: skip
_KINDS = {  # libsndfile's format and subtype
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
    "ogg": ("OGG", "VORBIS"),
}
_HERTZ = {  # what the lossy formats hold
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "opus": (8000, 12000, 16000, 24000, 48000),
}
_PIECE = 1 << 15


def check_format(name: str, allowed: Sequence[str], param: str) -> str:
    """Refuse a format we do not write.

    Raises:
        Refusal: 400.
    """
    if name not in allowed:
        raise Refusal(
            400, f"unknown format {name!r}; wanted one of {', '.join(allowed)}.", "unsupported_format", param
        )
    return name


def pcm16(samples: np.ndarray) -> bytes:
    """16-bit little-endian samples of float32 [S]."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()


def whole(samples: np.ndarray, sample_rate: int, name: str) -> bytes:
    """A complete file of float32 [S]."""
    if name in ("pcm", "pcm16"):
        encoder = StreamEncoder(name, sample_rate)
        return encoder.push(samples) + encoder.close()
    wave, rate = _at_known_rate(samples, sample_rate, name)
    file = io.BytesIO()
    _write(file, name, rate, wave)
    return file.getvalue()


class StreamEncoder:
    """Encodes samples as they come; ``push`` and ``close`` return the bytes that are ready.

    Args:
        name: A format of ``MEDIA_TYPES``. ``pcm`` and ``pcm16`` are 16 bit, mono, 24 kHz.
        sample_rate: Of the samples, Hz.
    """

    def __init__(self, name: str, sample_rate: int) -> None:
        self._name = name
        self._raw = name in ("wav", "pcm", "pcm16")
        rate = PCM_HZ if name in ("pcm", "pcm16") else _known_rate(sample_rate, name)
        self._resampler = None if rate == sample_rate else StreamResampler(sample_rate, rate)
        self._ready = _streamed_wav_header(rate) if name == "wav" else b""
        self._sink = _Sink()
        self._file: Any = None if self._raw else _open(self._sink, name, rate)

    def push(self, samples: np.ndarray) -> bytes:
        wave = samples if self._resampler is None else self._resampler.push(samples)
        return self._take(wave)

    def close(self) -> bytes:
        """End of the stream."""
        rest = np.zeros(0, np.float32) if self._resampler is None else self._resampler.flush()
        ready = self._take(rest)
        if self._file is not None:
            self._file.close()
            ready += self._sink.take()
        return ready

    def _take(self, wave: np.ndarray) -> bytes:
        if self._raw:
            ready, self._ready = self._ready + pcm16(wave), b""
            return ready
        for begin in range(0, len(wave), _PIECE):
            self._file.write(_stored(wave[begin : begin + _PIECE], self._name))
        return self._sink.take()


class _Sink(io.BytesIO):
    """A file of which the part that was taken is sent already; what is changed there later is lost."""

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0

    def take(self) -> bytes:
        ready = bytes(self.getbuffer()[self._sent :])
        self._sent += len(ready)
        return ready


def _open(file: io.BytesIO, name: str, rate: int) -> Any:
    import soundfile

    container, encoding = _KINDS[name]
    # Players tell the length of a streamed mp3 by its bitrate.
    constant = {"compression_level": 0.5, "bitrate_mode": "CONSTANT"} if name == "mp3" else {}
    return soundfile.SoundFile(file, "w", rate, 1, format=container, subtype=encoding, **constant)


def _write(file: io.BytesIO, name: str, rate: int, wave: np.ndarray) -> None:
    with _open(file, name, rate) as sound:
        for begin in range(0, len(wave), _PIECE):
            sound.write(_stored(wave[begin : begin + _PIECE], name))


def _stored(wave: np.ndarray, name: str) -> np.ndarray:
    """Samples as the format stores them; 16 bit by hand, so that k / 32768 is stored as k."""
    if _KINDS[name][1] == "PCM_16":
        return np.frombuffer(pcm16(wave), "<i2")
    return np.clip(wave, -1.0, 1.0)


def _known_rate(rate: int, name: str) -> int:
    known = _HERTZ.get(name, (rate,))
    return next((hertz for hertz in known if hertz >= rate), known[-1])


def _at_known_rate(samples: np.ndarray, sample_rate: int, name: str) -> tuple[np.ndarray, int]:
    from vivavoce.audio.resample import resample

    rate = _known_rate(sample_rate, name)
    return (samples if rate == sample_rate else resample(samples, sample_rate, rate)), rate


def _streamed_wav_header(rate: int) -> bytes:
    unknown = 0xFFFFFFFF
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", unknown)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + (b"data" + struct.pack("<I", unknown))
    )
