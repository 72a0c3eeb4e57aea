"""Storing the rows of a block: recordings come in, and what a set cannot hold is put aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vivavoce.base.errors import AudioError, DataError
from vivavoce.data.build.contract import Fault
from vivavoce.data.build.engines.quarantine import RUN_ERRORS, is_disk_full, put_aside
from vivavoce.data.build.pipeline import Parcel
from vivavoce.data.conversation import Conversation
from vivavoce.data.recordings import hoist
from vivavoce.data.shards import read_rows, write_shard

LARGEST_ROW = 2**31 - 2**20  # bytes of recordings; what an Arrow column of bytes can hold

Numbered = list[tuple[int, Conversation]]


def store(path: Path, made: Parcel, root: Path) -> Numbered:
    """Write rows to a shard from which they can be read again.

    Args:
        path: Of the shard; not written without rows.
        made: Its rows are changed; those that cannot be stored are added to what it has put aside.
        root: Where relative paths of recordings start.

    Returns:
        The rows in the shard, each with the number of its source row.
    """

    def keep(rows: Numbered, check: Callable[[Conversation], Fault | None]) -> Numbered:
        kept = []
        for number, row in rows:
            fault = check(row)
            if fault:
                made.aside.append({"number": number, **put_aside("store", fault, row)})
            else:
                kept.append((number, row))
        return kept

    kept = keep(made.kept, lambda row: _bring_in(row, root))
    if kept and _write_and_read(path, [row for _, row in kept]):
        kept = keep(kept, lambda row: _write_and_read(path, [row]))
        if kept:
            write_shard(path, [row for _, row in kept])
    return kept


def _bring_in(row: Conversation, root: Path) -> Fault | None:
    """Put the row's recordings into it, or say why not."""
    try:
        hoist(row, root)
    except AudioError as error:
        if is_disk_full(error):
            raise
        return Fault("unreadable", str(error))
    size = sum(len(a.get("bytes") or b"") for a in row.audios)
    if size > LARGEST_ROW:
        return Fault("too_big", f"its recordings have {size} bytes, at most {LARGEST_ROW} fit into a row")
    return None


def _write_and_read(path: Path, rows: list[Conversation]) -> Fault | None:
    """Write rows and read them again; a fault if one of them cannot be stored."""
    try:
        write_shard(path, rows)
        wrong = next((row for _, row in read_rows(path) if isinstance(row, DataError)), None)
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, RUN_ERRORS) or is_disk_full(error):
            raise
        wrong = DataError(f"{type(error).__name__}: {error}")
    return Fault("unstorable", str(wrong)) if wrong else None
