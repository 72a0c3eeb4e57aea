"""Blocks: fixed runs of source rows that are made together and written once, whichever process makes them.

A block is done when its JSON file is there; its rows were written before. So a kill at any moment loses at most the
blocks in the making, and a later run makes just those again, with the same result.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vivavoce.base.errors import DataError, VivavoceError
from vivavoce.base.whole_files import write_whole
from vivavoce.data.build.engines.quarantine import is_disk_full
from vivavoce.data.build.engines.storing import store
from vivavoce.data.build.pipeline import Chain, Parcel, changes
from vivavoce.data.conversation import Conversation
from vivavoce.data.shards import read_shard

LEAST_FREE = 1 << 20


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
        key: Names pipeline, source and size of blocks; a result of another key needs another folder.
        settings: What the key stands for, for messages.
    """

    def __init__(self, out: Path, key: str, settings: Mapping[str, Any] | None = None) -> None:
        self.out, self.key, self.settings = out, key, settings
        self.folder = out.absolute() / f".making-{key}"  # for workers that run elsewhere

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep other runs out of the folder; if it ends without a finished block, nothing stays.

        Raises:
            DataError: Another run is writing here, the folder holds something else, or it cannot be written to.
        """
        existed = self.out.exists()
        with self.watching_space():
            lock = self._lock()
        try:
            with self.watching_space():
                self._claim()
            yield
        finally:
            if not self.folder.is_dir() or not any(self.folder.glob("*.json")):
                self.clear()
                if not existed and not any(self.out.iterdir()):
                    self.out.rmdir()
            lock.close()

    def tidy(self) -> None:
        """Remove what a run left that was killed after its set was finished."""
        if any(self.out.glob(".making-*")) or (self.out / ".lock").exists():
            try:
                lock = self._lock()
            except (DataError, OSError):
                return  # a run that is about to do it, or a folder for reading only
            self.clear()
            lock.close()

    def clear(self) -> None:
        """Remove the workspace and the lock file."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.out / ".lock").unlink(missing_ok=True)

    def _lock(self) -> TextIO:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise DataError(f"{self.out} is a file; wanted a folder.") from error
        path = self.out / ".lock"
        while True:
            lock = path.open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.close()
                raise DataError(f"another run is writing {self.out}; wait for it, or stop it.") from error
            if _is_at(lock, path):
                return lock
            lock.close()  # the run before removed the file that we locked

    def _claim(self) -> None:
        """Make the workspace, unless the folder belongs to something else."""
        for other in self.out.glob(".making-*"):
            if other.name == self.folder.name:
                continue
            if any(other.glob("block-*.json")):
                known = other / "settings"
                changed = changes(json.loads(known.read_text()) if known.is_file() else None, self.settings)
                raise DataError(
                    f"{self.out} holds an unfinished run of another pipeline or source ({changed}); go on with that "
                    f"one, choose another folder, or delete {other}."
                )
            shutil.rmtree(other)
        if (self.out / "manifest.json").exists() or (self.folder / "settings").is_file():
            return
        found = sorted(path.name for path in self.out.glob("data-*.parquet"))
        if found:
            raise DataError(f"{self.out} has {found[0]}, which no run here made; choose another folder.")
        self.folder.mkdir(exist_ok=True)
        write_whole(self.folder / "settings", json.dumps(self.settings, default=str))

    def done(self, block: Block) -> bool:
        return (self.folder / f"{block.name}.json").is_file()

    def make(self, block: Block, source: Any, chain: Chain) -> dict[str, Any]:
        """Make a block and write it; returns its numbers.

        Raises:
            DataError: It cannot be written (a full disk); what was finished before stays.
        """
        return self.write(block, self.run(block.start, block.stop, source, chain), chain.context.root)

    def run(self, start: int, stop: int, source: Any, chain: Chain) -> Parcel:
        """Run the chain over rows [start, stop) of the source.

        Raises:
            DataError: The source cannot be read any more, or the disk is full.
            VivavoceError: A stage cannot begin: a model is missing, or does not fit the settings.
        """
        with self.watching_space("load the models for"):
            chain.make_builders()
        with self.watching_space("read the source of"):
            return chain.run(source.rows(start, stop), start)

    def write(self, block: Block, made: Parcel, root: Path) -> dict[str, Any]:
        """Write what was made of a block; rows that cannot be stored are put aside.

        Raises:
            DataError: No space is left, or the folder cannot be written to.
        """
        with self.watching_space():
            kept = store(self.folder / f"{block.name}.parquet", made, root)
            aside = sorted(made.aside, key=lambda line: line["number"])
            self._refuse_full(Path(tempfile.gettempdir()), [a for a in aside if not a["filtered"]])
            passed = {number for number, _ in kept}
            counts = {
                "source": block.stop - block.start, "passed": len(passed), "rows": len(kept), "aside": len(aside),
            }  # fmt: skip
            told = passed | {line["number"] for line in aside}
            assert told == set(range(block.start, block.stop)), "every row has an outcome"
            part = self.folder / f".{block.name}.{secrets.token_hex(4)}.part"
            with part.open("w", encoding="utf-8") as file:
                json.dump({"counts": counts, "aside": aside}, file, ensure_ascii=False, default=str)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / f"{block.name}.json")
        return counts

    @contextmanager
    def watching_space(self, doing: str = "write") -> Iterator[None]:
        """Turn the errors of a full disk, and others of the machine's files, into one that says what to do."""
        try:
            yield
        except (OSError, VivavoceError) as error:
            again = "run the same command again, finished blocks are kept."
            if is_disk_full(error):
                raise DataError(f"no space left for {self.out}; free some and {again}") from error
            if isinstance(error, OSError):
                raise DataError(f"cannot {doing} {self.out}: {error}; put that right and {again}") from error
            raise

    def _refuse_full(self, folder: Path, faults: list[dict[str, Any]]) -> None:
        """Do not blame rows for a full folder of temporary files: synthesizers say nothing of it."""
        if faults and shutil.disk_usage(folder).free < LEAST_FREE:
            raise DataError(
                f"no space left in {folder}, and {len(faults)} rows failed, the first with: {faults[0]['reason']} Free "
                "some and run the same command again, finished blocks are kept."
            )

    def counts(self, block: Block) -> dict[str, Any]:
        """Numbers of a finished block."""
        found: dict[str, Any] = self._read(block)["counts"]
        return found

    def rows(self, blocks: list[Block]) -> Iterator[Conversation]:
        """All rows of finished blocks, in order."""
        for block in blocks:
            path = self.folder / f"{block.name}.parquet"
            if self.counts(block)["rows"]:
                yield from read_shard(path)

    def aside(self, blocks: list[Block]) -> Iterator[dict[str, Any]]:
        """What was put aside, in order."""
        for block in blocks:
            yield from self._read(block)["aside"]

    def _read(self, block: Block) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"{block.name}.json").read_text(encoding="utf-8"))
        return found


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
