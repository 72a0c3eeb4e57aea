"""What a reader must know of a set before it reads a row: shards, blocks, where rows are, and which weigh more.

Scanning costs footers of Parquet, one pass over JSON lines, or the headers of archives. Where that is slow, the result
is kept in a cache folder under the names, sizes and times of the files, so that a restart reads one small file.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import DataError

VERSION = 1
BLOCK_ROWS = 64  # of kinds without blocks of their own
_WORTH_S = 0.2


@dataclass
class Index:
    """Shards and rows of a set.

    Attributes:
        names: Of the shards' files.
        shard_rows: int64 [shards].
        block_rows: Rows that are read at once, int64 [blocks]; a block is within one shard.
        weights: float32 [rows]; None if all are 1.
        where: More arrays that the kind needs to find rows.
    """

    names: list[str]
    shard_rows: np.ndarray
    block_rows: np.ndarray
    weights: np.ndarray | None = None
    where: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def _rows(self) -> int:
        return int(self.shard_rows.sum())

    @cached_property
    def shard_starts(self) -> np.ndarray:
        """Number of each shard's first row, int64 [shards]."""
        return np.cumsum(self.shard_rows) - self.shard_rows

    @cached_property
    def block_starts(self) -> np.ndarray:
        """Number of each block's first row, int64 [blocks]."""
        return np.cumsum(self.block_rows) - self.block_rows

    def locate(self, number: int) -> tuple[int, int]:
        """Shard of a row, and its place there."""
        shard = int(np.searchsorted(self.shard_starts, number, side="right")) - 1
        return shard, number - int(self.shard_starts[shard])

    def digest(self) -> str:
        """Hash of all that decides the order of rows."""
        found = hashlib.sha256("\n".join(self.names).encode())
        for array in (self.shard_rows, self.block_rows, self.weights):
            found.update(b"-" if array is None else array.tobytes())
        return found.hexdigest()[:16]


def blocks_of(shard_rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut shards into blocks of ``BLOCK_ROWS`` rows, the last of a shard shorter."""
    sizes: list[int] = []
    for rows in map(int, shard_rows):
        sizes += [BLOCK_ROWS] * (rows // BLOCK_ROWS) + [rows % BLOCK_ROWS] * (rows % BLOCK_ROWS > 0)
    return np.array(sizes, dtype=np.int64)


def plain_weights(weights: np.ndarray) -> np.ndarray | None:
    """Row weights, or None where all are 1."""
    return None if (weights == 1).all() else weights.astype(np.float32)


def cache_folder() -> Path:
    """Where indexes are kept unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vivavoce" / "indexes"


def indexed(kind: str, files: Sequence[Path], scan: Callable[[], Index], cache: Path | None) -> Index:
    """The index of some files, from the cache or by scanning.

    Args:
        kind: Part of the name in the cache.
        files: Whose names, sizes and times tell whether what is kept is still true.
        scan: Makes it.
        cache: Folder; None keeps nothing.

    Raises:
        DataError: A file is not there, or cannot be scanned.
    """
    try:
        facts = [f"{p.resolve()} {(s := p.stat()).st_size} {s.st_mtime_ns}" for p in files]
    except OSError as error:
        raise DataError(f"a file of the set is missing: {error}.") from error
    name = hashlib.sha256("\n".join([f"{kind} {VERSION}", *facts]).encode()).hexdigest()[:32]
    kept = None if cache is None else cache / f"{name}.npz"
    if kept is not None and kept.is_file():
        found = _load(kept)
        if found is not None:
            return found
    began = time.perf_counter()
    made = scan()
    if kept is not None and time.perf_counter() - began > _WORTH_S:
        _keep(made, kept)
    return made


def _load(path: Path) -> Index | None:
    """An index from the cache; None if the file is not whole, and it is made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        names = arrays.pop("names").tobytes().decode().split("\n")
        rows, blocks = arrays.pop("shard_rows"), arrays.pop("block_rows")
        return Index(names, rows, blocks, arrays.pop("weights", None), arrays)
    except (OSError, ValueError, KeyError, EOFError) as error:
        warnings.warn(f"the index {path} cannot be used and is made again: {error}", stacklevel=2)
        return None


def _keep(index: Index, path: Path) -> None:
    arrays: dict[str, Any] = {"shard_rows": index.shard_rows, "block_rows": index.block_rows, **index.where}
    if index.weights is not None:
        arrays["weights"] = index.weights
    arrays["names"] = np.frombuffer("\n".join(index.names).encode(), dtype=np.uint8)
    part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, **arrays)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        warnings.warn(f"the index of the set is not kept, so every start scans it: {error}", stacklevel=2)
