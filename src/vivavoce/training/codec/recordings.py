"""Recordings to train a codec on: files, recordings of rows, and speech that is made for the run.

A recording is read when a crop of it is drawn; the last ones stay in memory.

Letters: S samples.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio, write_audio
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.errors import AudioError, DataError
from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.data.build.row_audio import hear
from vivavoce.data.conversation import Audio
from vivavoce.data.convert.own import with_ids
from vivavoce.data.reader import DataSource
from vivavoce.data.reader.chance import seed_of
from vivavoce.tokens.layouts import build_layout
from vivavoce.training.codec.config import CodecDataSettings, SpokenSettings
from vivavoce.training.world import World

SUFFIXES = frozenset(".wav .flac .ogg .opus .mp3 .m4a .aac .webm .aiff .aif".split())
MEMORY_SAMPLES = 200_000_000  # kept decoded, 800 MB
MOST_S = 3600.0


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        name: For messages and samples.
        file: Its file, or None for one of a row.
        source, row, part: Set, number of the row and of the recording in it.
    """

    name: str
    file: Path | None = None
    source: DataSource | None = None
    row: int = 0
    part: int = 0


class Recordings:
    """Recordings by number, decoded at one rate.

    Args:
        listed: What there is.
        rate: Hz.

    Raises:
        DataError: There is none.
    """

    def __init__(self, listed: Sequence[Recording], rate: int) -> None:
        if not listed:
            raise DataError("no recording was found; look at data.recordings, data.rows and data.spoken.")
        self.listed, self.rate = list(listed), rate
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()  # crops are drawn ahead in a thread, samples are made beside it

    def __len__(self) -> int:
        return len(self.listed)

    def waveform(self, number: int) -> np.ndarray:
        """A whole recording, float32 [S].

        Raises:
            AudioError: It cannot be read.
        """
        with self._lock:
            return self._waveform(number)

    def _waveform(self, number: int) -> np.ndarray:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        one = self.listed[number]
        if one.file is not None:
            found = read_audio(one.file, self.rate, max_seconds=MOST_S)[0]
        else:
            assert one.source is not None
            row, part = self._part(one)
            found = hear(part, row, one.source.root, self.rate, MOST_S)[0]
        self._kept[number] = found
        self._held += len(found)
        while self._held > MEMORY_SAMPLES and len(self._kept) > 1:
            self._held -= len(self._kept.popitem(last=False)[1])
        return found

    def stored_codes(self, number: int, spec: CodecSpec) -> Codes | None:
        """The codes that a row holds of a recording, if they are of this codec.

        Raises:
            DataError: They are of a codec with the same name and other weights.
            LayoutError: They are damaged.
        """
        one = self.listed[number]
        if one.source is None:
            return None
        tokens = self._part(one)[1].tokens
        if not tokens or tokens.get("codec") != spec.name:
            return None
        if tokens.get("codec_hash") not in (None, "", spec.weights):
            raise DataError(
                f"{one.name}: its codes are of {spec.name} with weights {tokens['codec_hash']}, the codec has "
                f"{spec.weights}; give model.start that codec."
            )
        tokens = with_ids(tokens, one.source.root) if tokens.get("path") else tokens
        layout = build_layout(str(tokens.get("layout", "orpheus")), spec)
        codes = layout.unflatten(tokens.get("ids") or [], spec.frame_samples)
        return Codes(codes.levels, [int(tokens.get("num_samples") or codes.num_samples[0])])

    @staticmethod
    def _part(one: Recording) -> tuple[Any, Audio]:
        assert one.source is not None
        row = one.source[one.row]
        return row, list(row.audio_parts())[one.part]


def find_files(patterns: Sequence[str]) -> list[Recording]:
    """List the recordings of folders, files and patterns, each once, by name.

    Raises:
        DataError: One of them gives nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if any(c in pattern for c in "*?["):
            root = Path(path.anchor) if path.is_absolute() else Path()
            files = list(root.glob(str(path.relative_to(root) if path.is_absolute() else path)))
        else:
            files = [path] if path.is_file() else list(path.rglob("*"))
        files = sorted(f for f in files if f.suffix.lower() in SUFFIXES and f.is_file())
        if not files:
            raise DataError(
                f"{pattern} gives no recordings; wanted a folder, file or pattern of {', '.join(sorted(SUFFIXES))}."
            )
        found |= dict.fromkeys(files)
    return [Recording(file.stem, file=file) for file in found]


def find_in_rows(sets: Sequence[str]) -> list[Recording]:
    """List the recordings in sets of conversations.

    Raises:
        DataError: A set cannot be read, or names no recording.
    """
    found: list[Recording] = []
    for path in sets:
        source, before = DataSource(path), len(found)
        for row in range(len(source)):
            parts = list(source[row].audio_parts())
            found += [
                Recording(f"{source[row].id}-{n}", source=source, row=row, part=n)
                for n, part in enumerate(parts)
                if part.audio is not None
            ]
        if len(found) == before:
            raise DataError(f"the set {path} names no recordings; a codec learns from waveforms.")
    return found


def speak(
    settings: SpokenSettings, voices: Sequence[str], folder: Path, seed: int, rate: int
) -> list[Recording]:
    """Say every text in every voice, once; files that are there stay.

    Raises:
        AudioError: A voice or text that cannot be said.
        DataError: The file of texts cannot be read.
    """
    texts: Sequence[str]
    if isinstance(settings.texts, str):
        try:
            lines = Path(settings.texts).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"data.spoken.texts cannot be read: {error}") from error
        texts = [line for line in lines if line.strip()]
    else:
        texts = settings.texts
    found = []
    for number, text in enumerate(texts):
        for voice in voices:
            name = f"{number:04d}-{''.join(c if c.isalnum() else '-' for c in voice)}"
            file = folder / f"{name}.wav"
            if not file.is_file():
                chance = np.random.default_rng(seed_of(seed, text, voice))
                speed, pitch = (
                    float(chance.uniform(low, high)) for low, high in (settings.speed, settings.pitch)
                )
                waveform, own = synthesize(text, voice, speed=speed, pitch=pitch)
                folder.mkdir(parents=True, exist_ok=True)
                write_audio(file, waveform, own)
            found.append(Recording(name, file=file))
    return found


def gather_recordings(
    data: CodecDataSettings,
    folder: Path,
    seed: int,
    rate: int,
    world: World,
    echo: Callable[[str], None] = lambda line: None,
) -> tuple[Recordings, Recordings | None]:
    """Find all recordings of a run, to learn from and to measure on; the first process makes what is spoken.

    Raises:
        DataError: A source gives nothing.
        AudioError: What should be spoken cannot be.
    """
    learn = find_files(data.recordings) + find_in_rows(data.rows)
    held = find_files(data.held_out) + find_in_rows(data.held_out_rows)
    if data.spoken is not None:
        place = folder / "data" / "spoken"
        for turn in (True, False):  # the first process makes the files, the others find them
            if world.is_first == turn:
                echo("speech for the run")
                said = speak(data.spoken, data.spoken.voices, place / "learned", seed, rate)
                kept = speak(data.spoken, data.spoken.held_out_voices, place / "held_out", seed, rate)
            world.barrier()
        learn, held = learn + said, held + kept
    return Recordings(learn, rate), Recordings(held, rate) if held else None


def readable(recordings: Recordings, number: int, least_s: float) -> np.ndarray | None:
    """A recording, or None if it cannot be read or is too short."""
    try:
        found = recordings.waveform(number)
    except AudioError:
        return None
    return found if len(found) >= least_s * recordings.rate else None
