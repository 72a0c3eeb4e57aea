"""Rows of a set block by block, good and bad ones: what one worker reads in one go.

A bad row is an error in its place; the rows after it are still read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation, read_conversation
from vivavoce.data.manifest import MANIFEST, read_manifest
from vivavoce.data.shards import read_rows, row_groups

BLOCK_ROWS = 64
_LINES = (".jsonl", ".json", ".ndjson")

Row = Conversation | DataError


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of one file.

    Attributes:
        file: Where they are.
        first: Number of the first one in the set.
        start: Where to begin: its number in a shard, or its byte in a file of lines.
        rows: How many.
    """

    file: Path
    first: int
    start: int
    rows: int


@dataclass
class Plan:
    """What is to be read.

    Attributes:
        root: Where relative paths of recordings start.
        blocks: In order.
        faults: Files that cannot be read: (name, reason).
        content_hash: That the manifest promises; "" without manifest.
    """

    root: Path
    blocks: list[Block]
    faults: list[tuple[str, str]]
    content_hash: str = ""

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)


def plan(path: Path) -> Plan:
    """Find the files of a set and cut them into blocks; reads footers of shards, and lines to count them.

    Args:
        path: Folder with a manifest or with Parquet files, a ``.parquet`` file, or a file of JSON lines.

    Raises:
        DataError: There is nothing of the kind.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; wanted a folder of shards, a .parquet or a .jsonl file.")
    root = path if path.is_dir() else path.parent
    if path.is_file() and path.suffix in _LINES:
        return Plan(root, _line_blocks(path), [])
    promised: dict[Path, int | None] = {}
    content_hash = ""
    if (path / MANIFEST).is_file():
        manifest = read_manifest(path)
        promised, content_hash = {path / s.file: s.rows for s in manifest.shards}, manifest.content_hash
    else:
        files = (
            [path] if path.suffix == ".parquet" else sorted(path.glob("*.parquet")) if path.is_dir() else []
        )
        promised = dict.fromkeys(files)
    if not promised and not content_hash:
        raise DataError(
            f"{path} has no shards; wanted .parquet files, or a file of JSON lines. Other published forms are read by "
            "vivavoce data convert."
        )
    found = Plan(root, [], [], content_hash)
    number = 0
    for file, rows in promised.items():
        try:
            groups = row_groups(file)
        except DataError as error:
            found.faults.append((file.name, str(error)))
            number += rows or 0
            continue
        if rows is not None and rows != sum(groups):
            found.faults.append((file.name, f"it has {sum(groups)} rows, the manifest says {rows}"))
        found.blocks += _group_blocks(file, number, groups)
        number += sum(groups)
    return found


def read_block(block: Block) -> Iterator[tuple[int, Row]]:
    """The rows of a block with their numbers in the set.

    Raises:
        DataError: The file is damaged, or is no set.
    """
    if block.file.suffix in _LINES:
        yield from _read_lines(block)
        return
    for at, row in read_rows(block.file, block.start):
        if at >= block.start + block.rows:
            return
        yield block.first + at - block.start, row


def read_any(row: Any, number: int) -> Row:
    """A row as a conversation, whatever is wrong with it as an error.

    Args:
        row: A conversation, or the JSON object of one.
        number: Its place in the set.
    """
    if isinstance(row, Conversation):
        return row
    try:
        return read_conversation(row, number)
    except DataError as error:
        return error
    except (ValueError, TypeError, AttributeError) as error:
        return DataError(f"row {number} has a value of another type than rows have: {error}")


def list_rows(rows: Sequence[Any], first: int) -> Iterator[tuple[int, Row]]:
    """Rows that are in memory, with their numbers from ``first`` on."""
    for number, row in enumerate(rows, first):
        yield number, read_any(row, number)


def _group_blocks(file: Path, number: int, groups: Sequence[int]) -> list[Block]:
    """Blocks of whole row groups, because a group is read as a whole."""
    blocks: list[Block] = []
    start = at = 0
    for i, rows in enumerate(groups):
        at += rows
        if at - start >= BLOCK_ROWS or i + 1 == len(groups):
            if at > start:
                blocks.append(Block(file, number + start, start, at - start))
            start = at
    return blocks


def _line_blocks(file: Path) -> list[Block]:
    blocks: list[Block] = []
    start = at = number = rows = 0
    with file.open("rb") as lines:
        for line in lines:
            if number == 0 and rows == 0 and line.lstrip().startswith(b"["):
                raise DataError(
                    f"{file} is one JSON list; wanted one JSON object a line. Convert it first: vivavoce data convert."
                )
            at += len(line)
            rows += bool(line.strip())
            if rows == BLOCK_ROWS:
                blocks.append(Block(file, number, start, rows))
                start, number, rows = at, number + rows, 0
    if rows:
        blocks.append(Block(file, number, start, rows))
    return blocks


def _read_lines(block: Block) -> Iterator[tuple[int, Row]]:
    number = block.first
    with block.file.open("rb") as lines:
        lines.seek(block.start)
        while number < block.first + block.rows:
            line = lines.readline()
            if not line:
                raise DataError(f"{block.file} was cut off while it was read.")
            if not line.strip():
                continue
            try:
                yield number, read_any(json.loads(line), number)
            except ValueError as error:
                yield number, DataError(f"row {number} of {block.file.name} is not JSON: {error}")
            number += 1
