"""Rows of a set by number, whatever it is stored as: a folder of shards, one Parquet file, or JSONL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation, read_conversation
from vivavoce.data.manifest import MANIFEST, read_manifest
from vivavoce.data.shards import num_rows, read_shard


class RowFile:
    """Random access to the rows of a set; reads what it is asked for.

    Args:
        path: Folder with a manifest or with Parquet files, a ``.parquet`` file, or a ``.jsonl`` file.

    Raises:
        DataError: There is nothing of the kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.root = self.path if self.path.is_dir() else self.path.parent
        if not self.path.exists():
            raise DataError(f"{path} does not exist; wanted a folder of shards, a .parquet or a .jsonl file.")
        if not self._is_jsonl and not self._shards:
            raise DataError(f"{path} has no shards; wanted .parquet files, or a .jsonl file.")
        self._open: tuple[Path, int, Iterator[Conversation]] | None = None

    @property
    def _is_jsonl(self) -> bool:
        return self.path.suffix in (".jsonl", ".json", ".ndjson") and self.path.is_file()

    @cached_property
    def _shards(self) -> list[tuple[Path, int]]:
        """Files with their numbers of rows."""
        if self.path.is_file():
            return [(self.path, num_rows(self.path))] if self.path.suffix == ".parquet" else []
        if (self.path / MANIFEST).is_file():
            return [(self.path / s.file, s.rows) for s in read_manifest(self.path).shards]
        return [(p, num_rows(p)) for p in sorted(self.path.glob("*.parquet"))]

    @cached_property
    def _offsets(self) -> list[int]:
        """Where each line of a JSONL file begins."""
        offsets, at = [], 0
        with self.path.open("rb") as file:
            for line in file:
                if line.strip():
                    offsets.append(at)
                at += len(line)
        return offsets

    def __len__(self) -> int:
        return len(self._offsets) if self._is_jsonl else sum(rows for _, rows in self._shards)

    def __getitem__(self, number: int) -> Conversation:
        """One row.

        Raises:
            DataError: The row cannot be read; its neighbours can.
            IndexError: No such row.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        if self._is_jsonl:
            return self._line(number)
        at = number
        for path, rows in self._shards:
            if at < rows:
                return self._from_shard(path, at)
            at -= rows
        raise IndexError(number)

    def __iter__(self) -> Iterator[Conversation]:
        for number in range(len(self)):
            yield self[number]

    def _line(self, number: int) -> Conversation:
        with self.path.open("rb") as file:
            file.seek(self._offsets[number])
            line = file.readline()
        try:
            return read_conversation(json.loads(line), number)
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError(f"row {number} of {self.path.name} is not JSON: {error}") from error

    def _from_shard(self, path: Path, at: int) -> Conversation:
        """A row of a shard; rows asked for in order are read in one go."""
        if self._open is None or self._open[:2] != (path, at):
            self._open = (path, at, read_shard(path, at))
        rows, self._open = self._open[2], None  # a row that cannot be read ends them
        row = next(rows)
        self._open = (path, at + 1, rows)
        return row

    def fingerprint(self) -> str:
        """Hash of the rows' manifest, or of the files' bytes."""
        if (self.path / MANIFEST).is_file():
            return read_manifest(self.path).content_hash
        found = hashlib.sha256()
        for path in [self.path] if self.path.is_file() else [p for p, _ in self._shards]:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()
