"""Read and write recordings: any common format in, mono float32 out; wav, flac, ogg, opus and mp3 written
safely."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vivavoce.audio.decoding import Recording, Source, open_recording
from vivavoce.audio.resample import Method, StreamResampler, resample
from vivavoce.base.errors import AudioError

MAX_SECONDS = 3600.0

_FORMATS = {  # suffix -> libsndfile's format and subtype
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_RATES = {  # Hz; what the lossy formats can hold
    "OPUS": (8000, 12000, 16000, 24000, 48000),
    "MPEG_LAYER_III": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
_WRITE_SAMPLES = 1 << 16


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's header says.

    Attributes:
        sample_rate: Hz.
        num_channels: Channels in the file.
        duration_s: Seconds; None when only decoding would tell.
        num_samples: Samples per channel; None when only decoding would tell.
        container: "WAV", "FLAC", "OGG", "MP3", ..., or ffmpeg's name for it.
        encoding: "PCM_16", "VORBIS", ..., or ffmpeg's name of the audio codec.
    """

    sample_rate: int
    num_channels: int
    duration_s: float | None
    num_samples: int | None
    container: str
    encoding: str


class Block(NamedTuple):
    """A stretch of a long recording.

    Attributes:
        waveform: float32 [S], mono.
        start_s: Where it begins in the recording, seconds.
        sample_rate: Hz.
    """

    waveform: np.ndarray
    start_s: float
    sample_rate: int


def read_audio(
    source: Source,
    sample_rate: int | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    max_seconds: float | None = MAX_SECONDS,
    resampler: Method = "soxr",
) -> tuple[np.ndarray, int]:
    """Read a recording, or a part of it, as a mono waveform.

    Channels are averaged. Values are as stored: integers become multiples of 2**-15 (16 bit) or finer, float
    files may go beyond 1. Parts are sample-exact in every format: ``read_audio(f, None, a, b)`` is the slice
    of ``read_audio(f)``.

    Args:
        source: Path, the bytes of a file, or a binary file object. wav, flac, ogg, opus, mp3, aiff and more;
            other containers (m4a, webm, ...) where the ffmpeg program is installed.
        sample_rate: Wanted rate in Hz; None keeps the file's.
        start_s: Where to begin, seconds; rounded to the nearest sample of the file.
        end_s: Where to end, seconds, None for the end; a later time than the end means the end.
        max_seconds: Refuse to load more than this; None for no limit. ``blocks`` reads any length.
        resampler: "soxr", or "sinc" to equal the resampler that published codec pipelines use (see
            ``resample``).

    Returns:
        float32 ``[S]`` with S >= 1, and its sample rate in Hz.

    Raises:
        AudioError: Missing, empty, damaged, cut off, too long, without samples, or with NaN in it; or a start
            at or past the end.
        MissingExtraError: The container needs the ffmpeg program, which is not installed.
    """
    check_span(start_s, end_s)
    with open_recording(source) as recording:
        rate = recording.sample_rate
        start, stop = round(start_s * rate), None if end_s is None else round(end_s * rate)
        _check_length(recording, start, stop, max_seconds)
        pieces, total = [], 0
        for piece in recording.mono(start, stop):
            pieces.append(piece)
            total += piece.size
            if max_seconds is not None and total > max_seconds * rate:
                raise _too_long(recording.name, None, max_seconds)
        if not total:
            raise AudioError(
                f"{recording.name} ends before {start_s:g} s; wanted a start inside the recording."
            )
    waveform = np.concatenate(pieces)
    if sample_rate is None:
        return waveform, rate
    return resample(waveform, rate, sample_rate, resampler), sample_rate


def audio_info(source: Source) -> AudioInfo:
    """Read a recording's header without decoding it; the cost does not grow with its length.

    Raises:
        AudioError: Missing, empty, damaged, without samples, or not a recording.
        MissingExtraError: The container needs the ffmpeg program, which is not installed.
    """
    with open_recording(source) as r:
        return AudioInfo(r.sample_rate, r.num_channels, r.duration_s, r.num_samples, r.container, r.encoding)


def blocks(
    source: Source, block_s: float, overlap_s: float = 0.0, sample_rate: int | None = None
) -> Iterator[Block]:
    """Read a recording of any length block by block; memory holds one block.

    Blocks begin every ``block_s - overlap_s``; the last one is shorter, and never only a repetition. Without
    overlap, the blocks joined are ``read_audio(source, sample_rate)``.

    Args:
        source: As for ``read_audio``.
        block_s: Length of a block, seconds.
        overlap_s: How much of a block the next one repeats, seconds, at least 0 and less than ``block_s``.
        sample_rate: Wanted rate in Hz; None keeps the file's.

    Yields:
        ``Block`` with 1 to ``round(block_s * rate)`` samples.

    Raises:
        AudioError: As for ``read_audio``; or lengths that do not make blocks.
        MissingExtraError: The container needs the ffmpeg program, which is not installed.
    """
    with open_recording(source) as recording:
        rate = sample_rate or recording.sample_rate
        size = round(block_s * rate)
        hop = size - round(overlap_s * rate)
        if overlap_s < 0 or size < 1 or hop < 1:
            raise AudioError(f"block_s={block_s}, overlap_s={overlap_s}; wanted 0 <= overlap_s < block_s.")
        stream = StreamResampler(recording.sample_rate, rate)
        held, begin = np.zeros(0, dtype=np.float32), 0
        for piece in _resampled(recording, stream):
            held = np.concatenate([held, piece])
            while held.size >= size:
                yield Block(held[:size].copy(), begin / rate, rate)
                held, begin = held[hop:], begin + hop
        repeated = size - hop if begin else 0
        if held.size > repeated:
            yield Block(held, begin / rate, rate)


def write_audio(path: str | os.PathLike[str], waveform: np.ndarray, sample_rate: int) -> Path:
    """Write a waveform; the suffix chooses the format: .wav, .flac (both 16 bit), .ogg, .opus or .mp3.

    The file appears complete or not at all: it is written beside its place and renamed into it. wav and flac
    keep 16-bit samples exactly, so reading and writing again changes nothing.

    Args:
        path: Where to write; the folder must exist, a file there is replaced.
        waveform: float ``[S]``, or ``[C, S]`` with at most 8 channels; clipped to -1 and 1. CPU tensors are
            welcome.
        sample_rate: Hz. Opus knows 8000, 12000, 16000, 24000 and 48000.

    Returns:
        The path.

    Raises:
        AudioError: Unknown suffix, a rate the format cannot hold, no samples, NaN, a wrong shape or type, or
            a folder that is missing or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise AudioError(f"cannot write {path.name!r}: wanted a name ending in {', '.join(_FORMATS)}.")
    container, encoding = _FORMATS[path.suffix.lower()]
    samples = _writable(waveform)
    if encoding in _RATES and sample_rate not in _RATES[encoding]:
        allowed = ", ".join(map(str, _RATES[encoding]))
        raise AudioError(
            f"{path.suffix} cannot hold {sample_rate} Hz; resample to one of {allowed} Hz, or use .wav."
        )
    if not path.parent.is_dir():
        raise AudioError(f"the folder {path.parent} does not exist; make it first.")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; wanted the name of a file.")
    import soundfile

    if encoding == "PCM_16":
        # By hand, so that what was read as k / 32768 is written as k.
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with soundfile.SoundFile(
            str(part), "x", sample_rate, samples.shape[1], format=container, subtype=encoding
        ) as file:
            for begin in range(0, len(samples), _WRITE_SAMPLES):
                file.write(samples[begin : begin + _WRITE_SAMPLES])
        part.replace(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def flac_bytes(waveform: np.ndarray, sample_rate: int) -> bytes:
    """What ``write_audio`` puts into a .flac file, made in memory.

    Raises:
        AudioError: No samples, NaN, a wrong shape or type, or a rate that FLAC cannot hold.
    """
    import soundfile

    samples = np.clip(np.rint(_writable(waveform) * 32768.0), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", sample_rate, samples.shape[1], format="FLAC", subtype="PCM_16"
        ) as flac:
            for begin in range(0, len(samples), _WRITE_SAMPLES):
                flac.write(samples[begin : begin + _WRITE_SAMPLES])
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot write FLAC at {sample_rate} Hz: {error}") from error
    return file.getvalue()


def _resampled(recording: Recording, stream: StreamResampler) -> Iterator[np.ndarray]:
    for piece in recording.mono():
        yield stream.push(piece)
    yield stream.flush()


def check_span(start_s: float, end_s: float | None) -> None:
    """Refuse a part that begins before 0 or ends before it begins.

    Raises:
        AudioError: Both times.
    """
    if not 0.0 <= start_s < float("inf") or (end_s is not None and not start_s < end_s):
        raise AudioError(f"start_s={start_s}, end_s={end_s}; wanted 0 <= start_s < end_s, in seconds.")


def _check_length(recording: Recording, start: int, stop: int | None, max_seconds: float | None) -> None:
    length = recording.duration_s
    if max_seconds is None or length is None:
        return
    rate = recording.sample_rate
    seconds = min(length, length if stop is None else stop / rate) - start / rate
    if seconds > max_seconds:
        raise _too_long(recording.name, seconds, max_seconds)


def _too_long(name: str, seconds: float | None, max_seconds: float) -> AudioError:
    length = "more" if seconds is None else f"{seconds:.0f} s"
    return AudioError(
        f"{name} is too long: {length}, at most {max_seconds:.0f} s are loaded at once. "
        "Give start_s and end_s, raise max_seconds, or read it with blocks()."
    )


def _writable(waveform: np.ndarray) -> np.ndarray:
    """Check a waveform and return it as float32 ``[S, C]`` clipped to -1 and 1."""
    samples = np.asarray(waveform)
    if samples.dtype.kind != "f" or samples.ndim not in (1, 2):
        raise AudioError(f"cannot write shape {samples.shape}, {samples.dtype}; wanted float [S] or [C, S].")
    samples = np.atleast_2d(samples)
    channels, length = samples.shape
    if length == 0 or not 1 <= channels <= 8:
        raise AudioError(f"cannot write {channels} channels of {length} samples; wanted 1 to 8, 1 or more.")
    if not np.isfinite(samples).all():
        raise AudioError("cannot write a waveform with NaN or infinite samples.")
    return np.clip(samples.T.astype(np.float32), -1.0, 1.0)
