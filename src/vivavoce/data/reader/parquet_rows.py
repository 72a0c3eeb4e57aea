"""Rows of Parquet shards by number: only the row group of a row is read, and the last few groups stay in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation
from vivavoce.data.reader.index import Index, plain_weights
from vivavoce.data.shards import decode_row, import_pyarrow

if TYPE_CHECKING:
    import pyarrow

_OPEN_FILES = 32
_SCANNERS = 8


class ParquetRows:
    """Random access to rows.

    Args:
        files: Shards, in order.
        recordings: Read the bytes of recordings; without them their names stay.
        memory_mb: Most megabytes of row groups to hold; the newest group always stays.
    """

    def __init__(self, files: Sequence[Path], recordings: bool, memory_mb: float) -> None:
        self.files, self.recordings, self.memory = list(files), recordings, int(memory_mb * 1e6)
        self.groups_read = 0
        self._files: OrderedDict[int, pyarrow.parquet.ParquetFile] = OrderedDict()
        self._tables: OrderedDict[int, tuple[pyarrow.Table, int]] = OrderedDict()
        self._held = 0

    def scan(self) -> Index:
        """Look at the footers of all shards.

        Raises:
            DataError: A file is no shard of conversations.
        """
        import_pyarrow()
        with ThreadPoolExecutor(_SCANNERS) as pool:
            found = list(pool.map(_facts, self.files))
        blocks = [groups for groups, _ in found]
        rows = np.array([int(groups.sum()) for groups in blocks], dtype=np.int64)
        weights = None
        if any(w is not None for _, w in found):
            pieces = [np.ones(n) if w is None else w for n, (_, w) in zip(rows, found, strict=True)]
            weights = plain_weights(np.concatenate(pieces))
        empty = [np.zeros(0, dtype=np.int64)]
        return Index([p.name for p in self.files], rows, np.concatenate(blocks + empty), weights)

    def read(self, index: Index, number: int) -> Conversation:
        """One row.

        Raises:
            DataError: It cannot be read; its neighbours may.
        """
        shard, row = index.locate(number)
        block = int(np.searchsorted(index.block_starts, number, side="right")) - 1
        begin = int(index.block_starts[block])
        first = int(np.searchsorted(index.block_starts, index.shard_starts[shard], side="left"))
        found = self._table(shard, block, block - first).slice(number - begin, 1).to_pylist()
        if not found:
            raise DataError(
                f"row {row} of {self.files[shard].name} is not there: the file is not the one indexed."
            )
        made = decode_row(found[0], row)
        if isinstance(made, DataError):
            raise made
        return made

    def close(self) -> None:
        """Let go of files and memory; the next row opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._tables.clear()
        self._held = 0

    def __getstate__(self) -> dict[str, Any]:
        empty = {"_files": OrderedDict(), "_tables": OrderedDict(), "_held": 0}
        return self.__dict__ | empty

    def _table(self, shard: int, block: int, group: int) -> pyarrow.Table:
        if block in self._tables:
            self._tables.move_to_end(block)
            return self._tables[block][0]
        pa, path = import_pyarrow(), self.files[shard]
        try:
            table = self._file(shard, path).read_row_group(group, self._columns(shard), use_threads=False)
        except (pa.ArrowInvalid, OSError, IndexError) as error:
            raise DataError(f"{path.name} is damaged: {str(error).splitlines()[0]}") from error
        self.groups_read += 1
        self._tables[block] = table, table.nbytes
        self._held += table.nbytes
        while self._held > self.memory and len(self._tables) > 1:
            self._held -= self._tables.popitem(last=False)[1][1]
        return table

    def _file(self, shard: int, path: Path) -> pyarrow.parquet.ParquetFile:
        if shard not in self._files:
            self._files[shard] = import_pyarrow().parquet.ParquetFile(path, pre_buffer=False)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(shard)
        return self._files[shard]

    def _columns(self, shard: int) -> list[str] | None:
        """Columns to read; None for all."""
        if self.recordings:
            return None
        names = _column_names(self._files[shard].metadata)
        return [name for name in names if not (name.startswith("audios.") and name.endswith(".bytes"))]


def _column_names(metadata: pyarrow.parquet.FileMetaData) -> list[str]:
    return [metadata.schema.column(i).path for i in range(metadata.num_columns)]


def _facts(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of each row group of a shard, and weights of its rows where they are not all 1."""
    pa = import_pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            metadata, names = file.metadata, file.schema_arrow.names
            missing = sorted({"id", "messages"} - set(names))
            if missing:
                raise DataError(
                    f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}. Convert it first: "
                    "vivavoce data convert."
                )
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            sizes = np.array([group.num_rows for group in groups], dtype=np.int64)
            if "weight" not in names:
                return sizes, None
            column = _column_names(metadata).index("weight")
            if all(_all_ones(group.column(column).statistics) for group in groups):
                return sizes, None
            found = file.read(["weight"], use_threads=False).column(0)
            weights = np.array([1.0 if w is None else w for w in found.to_pylist()], dtype=np.float64)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    usable = np.isfinite(weights) & (weights >= 0)  # reading the row tells what is wrong with another
    return sizes, np.where(usable, weights, 1.0)


def _all_ones(statistics: Any) -> bool:
    return statistics is not None and statistics.has_min_max and statistics.min == statistics.max == 1.0
