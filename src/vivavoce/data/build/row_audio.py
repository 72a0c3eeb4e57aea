"""The recordings of a row in the making: read one, put another in its place, drop those that nothing names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import Method
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.recordings import encode_flac, read_bytes, source_of


def hear(
    part: Audio,
    row: Conversation,
    root: Path,
    sample_rate: int | None = None,
    max_seconds: float | None = None,
    resampler: Method = "soxr",
) -> tuple[np.ndarray, int]:
    """What counts of a part's recording, mono.

    Args:
        part: With a recording, of ``row``.
        row: Whose ``audios`` it may name.
        root: Where relative paths start.
        sample_rate: Wanted, Hz; None keeps the recording's.
        max_seconds: Longer ones are refused; None takes any that ``read_audio`` takes.
        resampler: As ``read_audio`` has it.

    Returns:
        float32 [S], S >= 1, and its rate.

    Raises:
        AudioError: It cannot be read, or is too long.
    """
    data = read_bytes(source_of(part, row), root)
    limits = {} if max_seconds is None else {"max_seconds": max_seconds}
    return read_audio(data, sample_rate, part.start_s, part.end_s, resampler=resampler, **limits)


def put_recording(part: Audio, row: Conversation, waveform: np.ndarray, sample_rate: int) -> None:
    """Give a part a recording of its own, as 16-bit FLAC; codes of the old one go.

    Args:
        part: Of ``row``; then counts from the recording's start to its end.
        row: Gets one more recording.
        waveform: float32 [S] within -1 and 1.
        sample_rate: Hz.
    """
    part.audio, part.start_s, part.end_s, part.tokens = len(row.audios), 0.0, None, None
    row.audios.append({"bytes": encode_flac(waveform, sample_rate)})


def drop_unnamed(row: Conversation) -> None:
    """Drop recordings that no part names any more, and number the rest anew."""
    named = sorted({part.audio for part in row.audio_parts() if isinstance(part.audio, int)})
    places = {old: new for new, old in enumerate(named)}
    row.audios = [row.audios[old] for old in named]
    for part in row.audio_parts():
        if isinstance(part.audio, int):
            part.audio = places[part.audio]
