"""The same questions with noise: a task at a signal to noise ratio."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from vivavoce.audio.augment import rms
from vivavoce.audio.files import flac_bytes
from vivavoce.audio.mixing import scale_noise, steady_noise
from vivavoce.data.recordings import read_waveform
from vivavoce.evaluation.tasks.task import Case, Task

EXPONENT = 1.0  # pink
PEAK = 0.99


def add_noise(waveform: np.ndarray, sample_rate: int, snr_db: float, seed: int) -> np.ndarray:
    """Add pink noise, and turn all down where it would clip.

    Args:
        waveform: float32 [S].
        sample_rate: Hz.
        snr_db: Signal over noise.
        seed: The same noise at every level, so that levels differ in nothing else.
    """
    rng = np.random.default_rng(seed)
    noise = steady_noise(len(waveform), sample_rate, EXPONENT, rng)
    mixed = waveform + scale_noise(noise, max(rms(waveform), 1e-6), snr_db)
    return (mixed * min(1.0, PEAK / float(np.abs(mixed).max()))).astype(np.float32)


def noisy(task: Task, snr_db: float, seed: int) -> Task:
    """The task with noise in all its recordings, called ``NAME_snr10``."""

    def cases() -> Iterator[Case]:
        for case in task.cases():
            messages = copy.deepcopy(case.conversation.messages)
            row = dataclasses.replace(case.conversation, messages=messages, audios=[])
            for number, (part, old) in enumerate(
                zip(row.audio_parts(), case.conversation.audio_parts(), strict=True)
            ):
                wave, rate = read_waveform(old, case.conversation, root=case.root)
                drawn = hashlib.sha256(f"{seed} {case.question.id} {number}".encode()).digest()
                loud = add_noise(wave, rate, snr_db, int.from_bytes(drawn[:8], "little"))
                part.audio, part.start_s, part.end_s = {"bytes": flac_bytes(loud, rate)}, 0.0, None
            yield Case(dataclasses.replace(case.question, snr_db=snr_db), row)

    level = f"{snr_db:g}".replace("-", "minus")
    told = f"{task.source}, pink noise at {snr_db:g} dB"
    return dataclasses.replace(task, name=f"{task.name}_snr{level}", cases=cases, source=told)
