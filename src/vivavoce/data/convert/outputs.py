"""Outputs that appear whole or not at all, and the recordings beside them.

Everything is written into a hidden folder beside the target; when all is there it is renamed into place, the main
file last. Nothing that was there before is removed, save one file that is to be overwritten.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import AudioError, DataError
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.recordings import ARCHIVE, encode_flac, read_bytes, source_of

_UNSAFE = re.compile(r"[^\w.-]+")
_KINDS = ((b"RIFF", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"), (b"FORM", ".aiff"))
SUFFIXES = (".jsonl.gz", ".json.gz", ".ndjson", ".jsonl", ".json", ".parquet", ".csv", ".tsv", ".tar")


class Stage:
    """A hidden folder in which an output is made, and its way into place.

    Args:
        target: File or folder to make.
        overwrite: Replace a file that is there.

    Raises:
        DataError: The target exists and may not be replaced.
    """

    def __init__(self, target: Path, overwrite: bool = False) -> None:
        self.target = target
        if target.is_dir() and any(target.iterdir()):
            raise DataError(f"the folder {target} is not empty; choose another, or remove it first.")
        if target.is_file() and not overwrite:
            raise DataError(f"{target} exists; choose another name, or allow to overwrite it.")
        self.clips_name = self.beside("audio")
        self.folder = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"
        self.main = self.folder / target.name

    def beside(self, kind: str) -> str:
        """A name for a folder beside the target that is not there yet: ``<name>_<kind>``."""
        name = self.target.name
        stem = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
        found, number = f"{stem}_{kind}", 1
        while (self.target.parent / found).exists():
            number += 1
            found = f"{stem}_{kind}-{number}"
        return found

    @property
    def clips(self) -> Path:
        """Folder for recordings, ``<name>_audio`` beside the target."""
        return self.folder / self.clips_name

    def __enter__(self) -> Stage:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _commit(self) -> None:
        made = sorted(self.folder.iterdir(), key=lambda path: path == self.main)
        for path in made:
            place = self.target.parent / path.name
            if path.is_dir() and place.is_dir():
                place.rmdir()  # empty, or this fails
            path.replace(place)


class Clips:
    """Recordings as files that rows can name, relative to the output's folder.

    Args:
        stage: Of the output.
        root: Where relative paths of rows start.
        mode: "keep", "copy" or "embed".
    """

    def __init__(self, stage: Stage, root: Path, mode: str) -> None:
        self.stage, self.root, self.mode = stage, root, mode
        self.count = 0
        self._used: set[str] = set()
        self._copied: dict[str, str] = {}
        self._new: list[tuple[Path, str, str]] = []

    def accept(self) -> None:
        """The files written since the last time belong to a row that was written."""
        self.count += len(self._new)
        self._new.clear()

    def forget(self) -> None:
        """Remove the files written since the last time; their row was left out."""
        for path, name, source in self._new:
            path.unlink(missing_ok=True)
            self._used.discard(name)
            self._copied.pop(source, None)
        self._new.clear()

    def path(self, part: Audio, row: Conversation, cut: bool = True) -> str:
        """Name the recording of a part, written as a file if need be.

        Args:
            part: Of ``row``.
            row: Its id names the file.
            cut: The form has no start and end, so a part of a recording becomes a recording of its own.

        Returns:
            Path with "/" relative to the folder of the output.

        Raises:
            AudioError: It cannot be read, or the part has only tokens.
        """
        source = source_of(part, row)
        plain = source.get("path") if isinstance(source, Mapping) and source.get("bytes") is None else source
        is_file = isinstance(plain, str) and not plain.startswith("data:") and ARCHIVE not in plain
        is_cut = cut and bool(part.start_s or part.end_s is not None)
        if is_file and not is_cut and self.mode == "keep":
            return self.relative(str(plain))
        key = str(plain) if is_file and not is_cut else ""
        if key and key in self._copied:
            return self._copied[key]
        data, suffix = self.data(part, row, cut)
        return self.write(row.id, data, suffix, key)

    def write(self, name: str, data: bytes, suffix: str, source: str = "") -> str:
        """Write bytes as a file beside the output; returns its path as ``path`` does."""
        name = self.unique(safe_name(name), suffix)
        self.stage.clips.mkdir(exist_ok=True)
        file = self.stage.clips / name
        file.write_bytes(data)
        made = f"{self.stage.clips_name}/{name}"
        self._new.append((file, name, source))
        if source:
            self._copied[source] = made
        return made

    def unique(self, name: str, suffix: str) -> str:
        """A file name that no other row has."""
        found, number = f"{name}{suffix}", 1
        while found.lower() in self._used:
            number += 1
            found = f"{name}-{number}{suffix}"
        self._used.add(found.lower())
        return found

    def data(self, part: Audio, row: Conversation, cut: bool = True) -> tuple[bytes, str]:
        """The bytes of a part's file and its suffix; FLAC if the part had to be cut out.

        Raises:
            AudioError: It cannot be read, or the part has only tokens.
        """
        source = source_of(part, row)
        if source is None:
            raise AudioError("an audio part has tokens and no recording; decode them first.")
        data = read_bytes(source, self.root)
        if cut and (part.start_s or part.end_s is not None):
            waveform, rate = read_audio(io.BytesIO(data), None, part.start_s, part.end_s)
            return encode_flac(waveform, rate), ".flac"
        return data, suffix_of(data, source)

    def waveform(self, part: Audio, row: Conversation) -> tuple[np.ndarray, int]:
        """The part as float32 [S] and its sample rate in Hz."""
        data = read_bytes(source_of(part, row), self.root)
        return read_audio(io.BytesIO(data), None, part.start_s, part.end_s)

    def relative(self, path: str) -> str:
        """A path of a row, seen from the folder of the output."""
        found = os.path.relpath(self.root / path, self.stage.target.parent)
        return found.replace(os.sep, "/")


def safe_name(name: str) -> str:
    """A row's id as a file name without folders."""
    return _UNSAFE.sub("_", name).lstrip(".")[:100] or "clip"


def suffix_of(data: bytes, source: Any = None) -> str:
    """The suffix of a recording's file, by its first bytes; by the name of its source where these do not tell."""
    for mark, suffix in _KINDS:
        if data.startswith(mark):
            is_opus = suffix == ".ogg" and b"OpusHead" in data[:64]
            return ".opus" if is_opus else suffix
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return ".mp3"
    path = source.get("path") if isinstance(source, Mapping) else source
    suffix = Path(path).suffix.lower() if isinstance(path, str) and not path.startswith("data:") else ""
    return suffix or ".bin"


def is_json(path: Path) -> bool:
    """Whether a file is named as JSON lines or a JSON list."""
    return path.name.removesuffix(".gz").endswith((".jsonl", ".json", ".ndjson"))


def write_json(path: Path, values: Iterable[Any], lines: bool | None = None, key: str = "") -> None:
    """Write values as JSON lines or as a JSON list; ``.gz`` packs them.

    Args:
        path: To write.
        values: Made as they are taken.
        lines: Write lines; None writes a list if the name ends in ``.json``.
        key: Put the list into an object, under this key.
    """
    if lines is None:
        lines = not path.name.removesuffix(".gz").endswith(".json")
    before, between, after = ("", "\n", "\n") if lines else ("[\n", ",\n", "\n]\n")
    if key:
        before, after = f"{{{json.dumps(key)}: {before}", "\n]}\n"
    with path.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.name.endswith(".gz") else None
        file: Any = packed or raw
        file.write(before.encode())
        count = 0
        for count, value in enumerate(values, 1):
            file.write(f"{between if count > 1 else ''}{json.dumps(value, ensure_ascii=False)}".encode())
        file.write((after if count or not lines else "").encode())
        if packed is not None:
            packed.close()
        raw.flush()
        os.fsync(raw.fileno())
