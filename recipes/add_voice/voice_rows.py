"""Recordings with transcripts -> words, phones with times and codes: what a voice learns from.

Anything that cannot be used is put aside with its reason; what is left over must be a minute at least.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aligning import PhoneAligner

from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import resample
from vivavoce.base.errors import AudioError, DataError, VocabularyError
from vivavoce.codecs.contract import Codec
from vivavoce.data.transcribed import Recording, find_recordings
from vivavoce.models.voice.teaching import slot_frames
from vivavoce.models.voice.word_alignment import align_words
from vivavoce.tokens.phones import spoken_form

LOWEST_RATE = 16_000
LONGEST_S, LEAST_S = 20.0, 60.0
PAUSE_S = 0.2  # left before and after what is said
LOUDNESS = 0.07  # RMS; what the bundle's codec and voice were trained at


class Preparer:
    """Makes rows of recordings.

    Args:
        codec: The bundle's.
        slot_levels: In which order its voice draws codes.
        words: All words of all transcripts.
    """

    def __init__(self, codec: Codec, slot_levels: tuple[int, ...], words: set[str]) -> None:
        self.codec, self.slot_levels, self.aligner = codec, slot_levels, PhoneAligner(words)
        self.frame_s = codec.spec.frame_samples / codec.spec.sample_rate

    def row(self, recording: Recording) -> dict[str, Any]:
        """One row: text, phones with times, borders and codes.

        Raises:
            DataError: It cannot be used; the message is the reason.
        """
        words = words_of(recording)
        try:
            wave, rate = read_audio(recording.audio, None, recording.start_s, recording.end_s)
        except AudioError as error:
            raise DataError("cannot be read") from error
        if rate < LOWEST_RATE:
            raise DataError(f"sample rate below {LOWEST_RATE} Hz")
        if len(wave) / rate > LONGEST_S:
            raise DataError(f"longer than {LONGEST_S:g} s")
        timed = self.aligner.align(words, wave, rate)
        if timed is None:
            raise DataError("words and sound do not fit")
        wave, timed = trim(wave, rate, timed)
        wave = resample(wave, rate, self.codec.spec.sample_rate)
        wave = wave * min(
            LOUDNESS / (float(np.sqrt((wave**2).mean())) + 1e-9), 0.98 / float(np.abs(wave).max())
        )
        codes = self.codec.encode(torch.from_numpy(wave.astype(np.float32))[None, None])
        frames = slot_frames(codes, self.slot_levels)
        aligned = align_words(words, timed, len(frames), self.frame_s)
        if aligned is None:
            raise DataError("a word without a frame or a phone")
        return {
            "name": recording.name,
            "text": " ".join(words),
            "codes": frames.to(torch.int16),
            **asdict(aligned),
        }


def words_of(recording: Recording) -> list[str]:
    """Spoken words of a transcript.

    Raises:
        DataError: It has none, or letters that have no phones.
    """
    try:
        words = spoken_form(recording.transcript)
    except VocabularyError as error:
        raise DataError("words without phones") from error
    if not words:
        raise DataError("no words")
    return words


def trim(
    wave: np.ndarray, rate: int, timed: list[tuple[str, float]]
) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """At most 0.2 s of silence before and after: pauses are the recording's, not the voice's."""
    first = timed[0][1] if timed[0][0] == "pau" else 0.0
    last = timed[-2][1] if timed[-1][0] == "pau" and len(timed) > 1 else timed[-1][1]
    start, stop = max(0.0, first - PAUSE_S), min(timed[-1][1], last + PAUSE_S)
    moved = [(phone, min(end, stop) - start) for phone, end in timed]
    return wave[round(start * rate) : round(stop * rate)], moved


def seconds_of(row: dict[str, Any], frame_s: float) -> float:
    return len(row["codes"]) * frame_s


def prepare(
    place: Path, codec: Codec, slot_levels: tuple[int, ...], minutes: float | None, seed: int
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of a set in a random order, at most so many minutes, and how many recordings were put aside for what.

    A smaller number of minutes gives the beginning of a larger one.

    Raises:
        DataError: Nothing to learn from, or less than a minute of it.
    """
    recordings = find_recordings(place)
    random.Random(seed).shuffle(recordings)
    said, aside = set(), Counter[str]()
    for recording in recordings:
        try:
            said.update(words_of(recording))
        except DataError:
            continue
    preparer = Preparer(codec, slot_levels, said)
    rows: list[dict[str, Any]] = []
    wanted_s, total_s = float("inf") if minutes is None else minutes * 60, 0.0
    for row in _usable(recordings, preparer, aside):
        rows.append(row)
        total_s += seconds_of(row, preparer.frame_s)
        if total_s >= wanted_s:
            break
    if total_s < min(LEAST_S, 0.9 * wanted_s) or total_s < LEAST_S / 2:
        reasons = ", ".join(f"{count} {reason}" for reason, count in aside.most_common()) or "none put aside"
        raise DataError(
            f"{place} gives {total_s:.0f} s of usable speech ({reasons}); a voice needs {LEAST_S:.0f} s at least."
        )
    return rows, aside


def _usable(recordings: list[Recording], preparer: Preparer, aside: Counter[str]) -> Iterator[dict[str, Any]]:
    for recording in recordings:
        try:
            yield preparer.row(recording)
        except DataError as error:
            aside[str(error)] += 1
