"""Sounds behind speech: noise of several kinds, babble and recordings of a folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from vivavoce.audio.augment import Waveform, babble, chords, hum, impulses, rms
from vivavoce.audio.files import audio_info, read_audio
from vivavoce.audio.mixing import steady_noise
from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.data.build.sources import AUDIO_SUFFIXES

COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
MADE = (*COLOURS, "hum", "impulses", "chords")
FROM_FOLDER = ("babble", "recordings")
KINDS = (*MADE, *FROM_FOLDER)
LEAST_VOICES = 3  # of fewer one could understand each
TRIES = 8


class ClipFolder:
    """Recordings of a folder and its sub-folders, in the order of their names.

    Args:
        folder: With one recording or more.

    Raises:
        ConfigError: There is no such folder, or no recording in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = folder.rglob("*") if folder.is_dir() else ()
        self.files = sorted(p for p in found if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
        if not self.files:
            raise ConfigError(f"{folder} has no recordings; wanted a folder with some.")
        self._length = lru_cache(maxsize=None)(self._measure)

    def _measure(self, number: int) -> float | None:
        return audio_info(self.files[number]).duration_s

    def draw(
        self, sample_rate: int, rng: np.random.Generator, samples: int | None = None
    ) -> tuple[Waveform, str]:
        """One recording, or a random part of it, that is not silent.

        Args:
            sample_rate: Wanted, Hz.
            rng: Generator.
            samples: Most of them; None takes the whole.

        Returns:
            float32 [S] and its name in the folder.

        Raises:
            ConfigError: A file cannot be read, or only silence was found.
        """
        for _ in range(TRIES):
            number, place = int(rng.integers(len(self.files))), float(rng.random())
            try:
                clip = self._read(number, place, sample_rate, samples)
            except AudioError as error:
                raise ConfigError(f"a recording of {self.folder} cannot be used: {error}") from error
            if clip.any():
                return clip, self.files[number].relative_to(self.folder).as_posix()
        raise ConfigError(f"{self.folder} seems to hold nothing but silence; wanted sounds.")

    def _read(self, number: int, place: float, sample_rate: int, samples: int | None) -> Waveform:
        path, whole = self.files[number], self._length(number)
        if samples is None or whole is None or whole <= samples / sample_rate:
            clip = read_audio(path, sample_rate)[0]
        else:
            start = place * (whole - samples / sample_rate)
            clip = read_audio(path, sample_rate, start, start + samples / sample_rate)[0]
        return clip if samples is None else clip[:samples]


class Folders:
    """The folders that a builder was told of, each listed once.

    Args:
        root: Where relative ones start.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, ClipFolder] = {}

    def __getitem__(self, name: str) -> ClipFolder:
        if name not in self._found:
            self._found[name] = ClipFolder(self.root / name)
        return self._found[name]


def folder_faults(kinds: tuple[str, ...], folder: str | None) -> list[str]:
    """What is wrong with kinds of background and the folder given for them."""
    faults = [f"kinds has {kind!r}, wanted some of {', '.join(KINDS)}" for kind in kinds if kind not in KINDS]
    wanting = [kind for kind in kinds if kind in FROM_FOLDER]
    if not kinds:
        faults.append("kinds is empty, wanted one or more")
    if wanting and not folder:
        faults.append(f"{wanting[0]} needs a folder with recordings")
    if folder and not wanting:
        faults.append(f"folder is given, but kinds has neither {' nor '.join(FROM_FOLDER)}")
    return faults


def background(
    kind: str, samples: int, sample_rate: int, rng: np.random.Generator, folder: ClipFolder | None = None,
    voices: int = 6,
) -> tuple[Waveform, dict[str, str | int]]:  # fmt: skip
    """Make one kind of background.

    Args:
        kind: One of ``KINDS``.
        samples: Wanted.
        sample_rate: Hz.
        rng: Generator.
        folder: With talkers for "babble", or with recordings, which are repeated where they are too short.
        voices: Talkers of a babble.

    Returns:
        float32 [samples] of RMS 1, and what it is.
    """
    told: dict[str, str | int] = {"kind": kind}
    if kind in COLOURS:
        return steady_noise(samples, sample_rate, COLOURS[kind], rng), told
    makers: dict[str, Callable[[int, int, np.random.Generator], Waveform]] = {
        "hum": hum, "impulses": impulses, "chords": chords,
    }  # fmt: skip
    if kind in makers:
        return makers[kind](samples, sample_rate, rng), told
    if folder is None:
        raise ConfigError(f"{kind} needs a folder with recordings.")
    if kind == "babble":
        clips = [folder.draw(sample_rate, rng, samples)[0] for _ in range(voices)]
        return babble(samples, clips, rng), {**told, "voices": voices}
    clip, name = folder.draw(sample_rate, rng, samples)
    clip = np.resize(clip, samples)
    return (clip / rms(clip)).astype(np.float32), {**told, "file": name}
