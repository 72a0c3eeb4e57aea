"""A set of conversations, whatever it is stored as, with rows by number."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation
from vivavoce.data.manifest import MANIFEST, read_manifest
from vivavoce.data.reader.archive_rows import ArchiveRows
from vivavoce.data.reader.index import Index, cache_folder, indexed
from vivavoce.data.reader.line_rows import LineRows
from vivavoce.data.reader.parquet_rows import ParquetRows

_LINES = (".jsonl", ".ndjson")
_CUTS = re.compile(r"cuts(?:\.(\w+))?\.jsonl(?:\.gz)?")
_WANTED = (
    "wanted a folder of shards, .parquet, .jsonl, .tar (WebDataset), or a Lhotse Shar folder; other forms become one "
    "by: vivavoce data convert"
)
Rows = ParquetRows | LineRows | ArchiveRows


class DataSource:
    """Rows of a set by number, without reading more than the block they are in.

    Args:
        path: Folder with a manifest, or with files of one kind; or one ``.parquet``, ``.jsonl`` or ``.tar`` file.
        name: Of the set, in messages and states; the path's last part if None. The order of rows depends on it.
        recordings: Read the bytes of recordings in Parquet. Without them (their names stay) a training on tokens or
            text reads a small part of the file.
        memory_mb: Most megabytes of Parquet row groups to hold.
        cache: Folder for indexes that take long to make; "auto" is in the user's cache folder, None keeps none.

    Raises:
        DataError: There is no set that can be read so.
    """

    def __init__(
        self,
        path: Path | str,
        name: str | None = None,
        *,
        recordings: bool = True,
        memory_mb: float = 512.0,
        cache: Path | str | None = "auto",
    ) -> None:
        self.path = Path(path)
        self.root = self.path if self.path.is_dir() else self.path.parent
        self.name = name or self.path.name or str(self.path)
        self._cache = cache_folder() if cache == "auto" else None if cache is None else Path(cache)
        self.rows = self._rows(recordings, memory_mb)

    @cached_property
    def index(self) -> Index:
        """What is known of the set before rows are read."""
        files = [*self.rows.files, *(self.rows.archives if isinstance(self.rows, ArchiveRows) else ())]
        found = indexed(type(self.rows).__name__, files, self.rows.scan, self._cache)
        if isinstance(self.rows, ParquetRows) and (self.root / MANIFEST).is_file() and self.path.is_dir():
            promised = [shard.rows for shard in read_manifest(self.path).shards]
            if promised != found.shard_rows.tolist():
                wrong = int(np.argmax(np.array(promised) != found.shard_rows))
                raise DataError(
                    f"{found.names[wrong]} of {self.path} has {found.shard_rows[wrong]} rows, its manifest says "
                    f"{promised[wrong]}; copy the set again."
                )
        return found

    def __len__(self) -> int:
        """Rows, each counted once."""
        return len(self.index)

    def __getitem__(self, number: int) -> Conversation:
        """A row.

        Raises:
            DataError: It cannot be read; the message names it.
            IndexError: No such row.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        try:
            return self.rows.read(self.index, number)
        except DataError as error:
            raise DataError(f"{self.describe(number)} cannot be read: {error}") from error

    def row(self, shard: int, row: int) -> Conversation:
        """A row of a shard.

        Raises:
            DataError: It cannot be read; the message names it.
            IndexError: No such shard, or no such row in it.
        """
        if not 0 <= shard < len(self.index.names) or not 0 <= row < self.index.shard_rows[shard]:
            raise IndexError(f"row {row} of shard {shard}")
        return self[int(self.index.shard_starts[shard]) + row]

    def describe(self, number: int) -> str:
        """Name a row for people."""
        shard, row = self.index.locate(number)
        return f"row {row} of {self.index.names[shard]} in {self.name}"

    def close(self) -> None:
        """Let go of files and memory; the next row opens them again."""
        self.rows.close()

    def _rows(self, recordings: bool, memory_mb: float) -> Rows:
        if not self.path.exists():
            raise DataError(f"{self.path} does not exist; {_WANTED}.")
        if self.path.is_file():
            return self._of([self.path], recordings, memory_mb)
        if (self.path / MANIFEST).is_file():
            files = [self.path / shard.file for shard in read_manifest(self.path).shards]
            return ParquetRows(files, recordings, memory_mb)
        names = sorted(p for p in self.path.iterdir() if p.is_file() and not p.name.startswith("."))
        cuts = {m[1] or "": p for p in names if (m := _CUTS.fullmatch(p.name))}
        if cuts:
            archives = [self.path / f"recording{'.' * bool(key)}{key}.tar" for key in cuts]
            missing = [p.name for p in archives if not p.is_file()]
            if missing:
                raise DataError(
                    f"{self.path} has no {', '.join(missing)}; a Shar folder has one for each cuts file."
                )
            return ArchiveRows(list(cuts.values()), archives)
        kinds = {s: [p for p in names if p.suffix in ([s] if s != _LINES[0] else _LINES)]
                 for s in (".parquet", _LINES[0], ".tar")}  # fmt: skip
        found = [files for files in kinds.values() if files]
        if len(found) != 1:
            held = "files of several kinds" if found else "none of them"
            raise DataError(f"{self.path} has {held}; {_WANTED}.")
        return self._of(found[0], recordings, memory_mb)

    def _of(self, files: list[Path], recordings: bool, memory_mb: float) -> Rows:
        suffix = files[0].suffix
        if suffix == ".parquet":
            return ParquetRows(files, recordings, memory_mb)
        if suffix in _LINES:
            return LineRows(files)
        if suffix == ".tar":
            return ArchiveRows(files)
        raise DataError(f"{self.path} is not read by rows; {_WANTED}.")
