"""A first look at a file or folder, from which every format says how sure it is; reads the first rows only."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from vivavoce.base.errors import VivavoceError
from vivavoce.data.build.sources import AUDIO_SUFFIXES
from vivavoce.data.convert.json_rows import Item, json_items
from vivavoce.data.convert.tables import TABLE_SUFFIXES, table_files, table_items
from vivavoce.data.shards import import_pyarrow

_ROWS, _NAMES = 8, 200
_JSON = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True)
class Look:
    """What is seen at first.

    Attributes:
        path: The file or folder.
        kind: "json", "table", "tar", "folder" or "" for anything else.
        rows: The first rows that are objects, recordings inside them left out.
        names: Names of a folder's entries or of an archive's first members.
        list_key: Key under which one JSON object holds its rows, "" for none.
    """

    path: Path
    kind: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()
    names: tuple[str, ...] = ()
    list_key: str = ""
    columns: frozenset[str] = field(default_factory=frozenset)

    def all_have(self, *names: str) -> bool:
        """Whether every row has every one of the columns."""
        return bool(self.rows) and all(row.get(n) is not None for row in self.rows for n in names)

    def any_has(self, *names: str) -> bool:
        """Whether some row has one of the columns."""
        return any(row.get(n) is not None for row in self.rows for n in names)

    def messages(self, key: str = "messages") -> list[Mapping[str, Any]]:
        """All messages of the rows; [] unless every row has a list of objects there."""
        lists = [row.get(key) for row in self.rows]
        if not lists or not all(isinstance(found, list) and found for found in lists):
            return []
        found = [message for messages in lists for message in messages]  # type: ignore[union-attr]
        return found if all(isinstance(m, Mapping) for m in found) else []


def look(path: Path) -> Look:
    """Look at a file or folder; what cannot be read looks like nothing."""
    try:
        stat = path.stat()
    except OSError:
        return Look(path)
    return _look(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _look(path: Path, changed: int, size: int) -> Look:
    try:
        if path.is_dir():
            return _folder(path)
        name = path.name.lower()
        if name.endswith(_JSON):
            return _json(path)
        if name.endswith(TABLE_SUFFIXES):
            return _table(path)
        if name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(path) as tar:
                members = tuple(m.name for m in itertools.islice(tar, _NAMES) if m.isfile())
            return Look(path, "tar", names=members)
    except (VivavoceError, OSError, ValueError, EOFError, tarfile.TarError):
        pass
    return Look(path)


def _json(path: Path) -> Look:
    rows = _objects(json_items(path))
    if len(rows) == 1:
        for key in ("annotation", "data"):
            inner = rows[0].get(key)
            if isinstance(inner, list):
                kept = tuple(r for r in inner[:_ROWS] if isinstance(r, Mapping))
                return Look(path, "json", kept, (), key, frozenset(k for r in kept for k in r))
    return Look(path, "json", rows, columns=frozenset(k for row in rows for k in row))


def _table(path: Path) -> Look:
    if path.suffix.lower() == ".parquet":
        rows, columns = _parquet(path)
        return Look(path, "table", rows, columns=columns)
    rows = _objects(table_items(path))
    return Look(path, "table", rows, columns=frozenset(k for row in rows for k in row))


def _parquet(path: Path) -> tuple[tuple[Mapping[str, Any], ...], frozenset[str]]:
    """The first rows of a Parquet file; recordings stand there as empty objects."""
    pa = import_pyarrow()
    with pa.parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        heavy = [
            f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0
        ]
        light = [name for name in schema.names if name not in heavy and name != "audios"]
        batch = next(file.iter_batches(batch_size=_ROWS, columns=light), None)
        rows = [] if batch is None else batch.to_pylist()
        if not light:
            rows = [{} for _ in range(min(_ROWS, file.metadata.num_rows))]
    return tuple({name: {"path": ""} for name in heavy} | row for row in rows), frozenset(schema.names)


def _folder(path: Path) -> Look:
    names = tuple(sorted(p.name + "/" * p.is_dir() for p in itertools.islice(path.iterdir(), 20_000)))
    tables = [] if has_audio(names) else table_files(path)[:1]
    if tables:
        found = _table(tables[0])
        return Look(path, "folder", found.rows, names, columns=found.columns)
    return Look(path, "folder", names=names)


def has_audio(names: tuple[str, ...]) -> bool:
    """Whether recordings are among the names."""
    return any(PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES for name in names)


def _objects(items: Iterator[Any]) -> tuple[Mapping[str, Any], ...]:
    taken = itertools.islice(items, _ROWS)
    return tuple(i.value for i in taken if isinstance(i, Item) and isinstance(i.value, Mapping))
