"""Blocks: fixed runs of source rows that are made together and written once, whichever process makes them.

A block is done when its JSON file is there; its rows were written before. So a kill at any moment loses at most the
blocks in the making, and a later run makes just those again, with the same result.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vivavoce.base.errors import DataError
from vivavoce.data.build.pipeline import Chain
from vivavoce.data.conversation import Conversation
from vivavoce.data.recordings import hoist
from vivavoce.data.shards import read_shard, write_shard


@dataclass(frozen=True)
class Block:
    """Rows [start, stop) of the source."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"block-{self.number:06d}"


def plan_blocks(num_rows: int, block_rows: int) -> list[Block]:
    """All blocks of a source, in order; they depend on nothing else."""
    starts = range(0, num_rows, block_rows)
    return [Block(i, start, min(start + block_rows, num_rows)) for i, start in enumerate(starts)]


class Workspace:
    """The folder in which blocks of one result are kept until all are there.

    Args:
        out: Folder of the result.
        key: Of pipeline and source; another key has another workspace.
    """

    def __init__(self, out: Path, key: str) -> None:
        self.out, self.key, self.folder = out, key, out / f".making-{key[:16]}"

    def open(self) -> TextIO:
        """Make the folder and keep other runs out of it, until the file that is returned is closed.

        Raises:
            DataError: Another run is making this result.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise DataError(f"another run is writing {self.out}; wait for it, or stop it.") from error
        return lock

    def done(self, block: Block) -> bool:
        return (self.folder / f"{block.name}.json").is_file()

    def make(self, block: Block, source: Any, chain: Chain) -> dict[str, Any]:
        """Make a block and write it; returns its numbers.

        Raises:
            DataError: It cannot be written (a full disk); what was finished before stays.
        """
        kept, aside = chain.run(source.rows(block.start, block.stop))
        return self.write(block, kept, aside, chain.context.root)

    def write(
        self, block: Block, kept: list[Conversation], aside: list[dict[str, Any]], root: Path
    ) -> dict[str, Any]:
        """Write what was made of a block."""
        for row in kept:
            hoist(row, root)
        counts = {"source": block.stop - block.start, "rows": len(kept), "aside": len(aside)}
        try:
            if kept:
                write_shard(self.folder / f"{block.name}.parquet", kept)
            part = self.folder / f".{block.name}.json.part"
            with part.open("w", encoding="utf-8") as file:
                json.dump({"counts": counts, "aside": aside}, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / f"{block.name}.json")
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DataError(
                    f"no space left for {self.folder}; free some and run the same command again, finished blocks "
                    "are kept."
                ) from error
            raise
        return counts

    def rows(self, blocks: list[Block]) -> Iterator[Conversation]:
        """All rows of finished blocks, in order."""
        for block in blocks:
            path = self.folder / f"{block.name}.parquet"
            if path.is_file():
                yield from read_shard(path)

    def aside(self, blocks: list[Block]) -> Iterator[dict[str, Any]]:
        """What was put aside, in order."""
        for block in blocks:
            yield from json.loads((self.folder / f"{block.name}.json").read_text(encoding="utf-8"))["aside"]
