"""Sound for forms that need it changed: WAV bytes, single channels, stereo, lengths.

Letters: S samples, C channels.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import audio_info, read_audio, write_audio
from vivavoce.base.errors import AudioError
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.recordings import ARCHIVE, encode_flac, read_bytes, source_of


def encode_wav(waveform: np.ndarray, sample_rate: int) -> bytes:
    """A waveform [S] or [C, S] within -1 and 1 as the bytes of a 16-bit WAV file."""
    with tempfile.TemporaryDirectory() as folder:
        return write_audio(Path(folder) / "clip.wav", waveform, sample_rate).read_bytes()


def read_channels(data: bytes, start_s: float = 0.0, end_s: float | None = None) -> tuple[np.ndarray, int]:
    """A part of a recording with its channels apart.

    Returns:
        float32 [C, S] and the sample rate in Hz.

    Raises:
        AudioError: It cannot be read, or has no samples there.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            first = round(start_s * rate)
            last = file.frames if end_s is None else min(file.frames, round(end_s * rate))
            if first >= last:
                raise AudioError(f"the recording ends before {start_s:g} s.")
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise AudioError(f"a recording with several channels cannot be read: {error}") from error
    return np.ascontiguousarray(samples.T), rate


def channel_flac(data: bytes, channel: int, start_s: float = 0.0, end_s: float | None = None) -> bytes:
    """One channel of a recording as the bytes of a FLAC file.

    Raises:
        AudioError: It cannot be read, or has no such channel.
    """
    waves, rate = read_channels(data, start_s, end_s)
    if not 0 <= channel < len(waves):
        raise AudioError(f"channel {channel} of a recording with {len(waves)}.")
    return encode_flac(waves[channel], rate)


def as_recording(value: Any) -> Any:
    """A recording as rows have it; decoded samples ``{"array", "sampling_rate"}`` become the bytes of a FLAC file.

    Raises:
        AudioError: The samples are no waveform.
    """
    if not isinstance(value, Mapping) or value.get("array") is None or value.get("bytes") is not None:
        return value
    try:
        samples = np.asarray(value["array"], dtype=np.float32)
        rate = int(value["sampling_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise AudioError(f"a recording of samples is no waveform with a sampling_rate: {error!r}") from error
    path = value.get("path")
    return {"bytes": encode_flac(samples, rate), "path": f"{Path(str(path)).stem if path else 'clip'}.flac"}


@dataclass(frozen=True)
class Length:
    """How long a recording is, and the part of it that counts.

    Attributes:
        seconds: Of the part.
        num_samples: Of the whole recording, per channel.
        sample_rate: Hz.
        num_channels: Of the whole recording.
    """

    seconds: float
    num_samples: int
    sample_rate: int
    num_channels: int


def length_of(part: Audio, row: Conversation, root: Path) -> Length:
    """Measure the recording of a part, by its header where that tells.

    Raises:
        AudioError: The recording cannot be read.
    """
    source = source_of(part, row)
    plain = source.get("path") if isinstance(source, Mapping) and source.get("bytes") is None else source
    is_file = isinstance(plain, str) and not plain.startswith("data:") and ARCHIVE not in plain
    opened: Any = root / str(plain) if is_file else read_bytes(source, root)
    info = audio_info(opened)
    samples = len(read_audio(opened)[0]) if info.num_samples is None else info.num_samples
    whole_s = samples / info.sample_rate
    end_s = whole_s if part.end_s is None else min(part.end_s, whole_s)
    return Length(end_s - part.start_s, samples, info.sample_rate, info.num_channels)
