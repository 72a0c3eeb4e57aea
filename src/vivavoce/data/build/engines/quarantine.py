"""What is put aside, and what is not: lines of the quarantine file, and errors that are no row's fault."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError, ModelError
from vivavoce.data.build.contract import Fault
from vivavoce.data.conversation import Conversation

# wrong settings, a model that cannot be loaded, a missing package: these stop the run
RUN_ERRORS = (ConfigError, ModelError, MissingExtraError)
CRASHED = Fault("crashed", "the process that worked on this row died twice, perhaps for want of memory")


def put_aside(stage: str, fault: Fault, row: Conversation | None) -> dict[str, Any]:
    """A line of the quarantine file; recordings in memory are left out."""
    return {
        "stage": stage,
        "kind": _writable(fault.kind),
        "reason": _writable(fault.reason),
        "filtered": fault.filtered,
        "row": None if row is None else _without_bytes(row.row()),
    }


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is no space left."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def refuse_all_crashed(crashed: int, rows: int) -> None:
    """Do not blame rows if every one of a block killed its process.

    Raises:
        DataError: That is so, in a block of several rows.
    """
    if crashed == rows >= 4:
        raise DataError(
            f"each of {rows} rows killed the process that worked on it, which is hardly their fault; give models more "
            "memory, or take workers=0 to see what happens."
        )


def _without_bytes(value: Any) -> Any:
    """JSON with the number of bytes in the place of bytes."""
    if isinstance(value, Mapping):
        sized = {"num_bytes": len(value["bytes"])} if isinstance(value.get("bytes"), bytes) else {}
        return {k: _without_bytes(v) for k, v in value.items() if k != "bytes" or not sized} | sized
    if isinstance(value, list | tuple):
        return [_without_bytes(v) for v in value]
    if isinstance(value, str) and value.startswith("data:"):
        return f"{value[:40]}... ({len(value)} characters)" if len(value) > 200 else value
    return _writable(value) if isinstance(value, str) else value


def _writable(text: str) -> str:
    """Text that UTF-8 can hold; halves of characters are shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
