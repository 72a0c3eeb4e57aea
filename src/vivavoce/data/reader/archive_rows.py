"""Rows of tar archives by number: WebDataset shards and Lhotse Shar folders, without reading archives through.

An archive's headers are read once; then a row is a few reads at known offsets, and the forms' own converters make a
conversation of it.
"""

from __future__ import annotations

import json
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vivavoce.base.errors import DataError, VivavoceError
from vivavoce.data.conversation import Conversation
from vivavoce.data.convert.archives import Member, is_inside
from vivavoce.data.convert.contract import Format, Options
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.shar import SharFormat, _filled  # the pairing of cut and recording is Shar's own
from vivavoce.data.convert.webdataset import WebDatasetFormat
from vivavoce.data.reader.index import Index, blocks_of, plain_weights
from vivavoce.data.reader.line_rows import weight_in

_SHARDS_HELD = 64


class Place(NamedTuple):
    """A file within an archive."""

    name: str
    offset: int
    size: int

    def read(self, path: Path) -> bytes:
        """Its bytes.

        Raises:
            DataError: The archive is shorter than it was.
        """
        with path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise DataError(f"{path.name} ends within {self.name!r}; copy it again.")
        return data


def places(path: Path) -> Iterator[Place | str]:
    """Files of an archive in order, by their headers; what cannot be read is a sentence.

    Raises:
        DataError: It is no archive, or is packed as a whole, so that nothing in it has a place.
    """
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115  (closed below)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{path} is no plain tar archive ({error}); unpack .tar.gz with gunzip, or vivavoce data convert it."
        ) from error
    size = path.stat().st_size
    with tar:
        while True:
            try:
                info = tar.next()
            except (OSError, tarfile.TarError, EOFError) as error:
                yield f"{path.name} is cut off or damaged: {error}"
                return
            # a list of all headers would grow with the archive
            tar.members = []  # type: ignore[attr-defined]
            if info is None:
                if tar.offset >= size:
                    yield f"{path.name} is cut off: it has no end mark"
                return
            if info.isdir():
                continue
            if not is_inside(info.name):
                yield f"{info.name!r} in {path.name} leads outside the archive"
            elif not info.isfile() or info.issparse():
                yield f"{info.name!r} in {path.name} is no plain file"
            elif info.offset_data + info.size > size:
                yield f"{path.name} is cut off: {info.name!r} ends early"
                return
            else:
                yield Place(info.name, info.offset_data, info.size)


class ArchiveRows:
    """Random access to rows of archives.

    Args:
        files: Archives, in order; of Shar the cuts' files, with the archives in ``archives``.
        archives: Recordings of each of ``files``, for Shar; () for WebDataset.
    """

    def __init__(self, files: Sequence[Path], archives: Sequence[Path] = ()) -> None:
        self.files, self.archives = list(files), list(archives)
        self._form: Format = SharFormat() if archives else WebDatasetFormat()
        self._tables: OrderedDict[int, list[Any]] = OrderedDict()
        self._cuts: OrderedDict[int, list[Item | BadItem]] = OrderedDict()

    def scan(self) -> Index:
        """Read the headers of all archives.

        Raises:
            DataError: One cannot be read at all.
        """
        tables, weights = [], []
        for i, path in enumerate(self.files):
            if self.archives:
                table: list[Any] = _pairs(self.archives[i], len(list(json_items(path))))
                weights += [1.0] * len(table)
            else:
                table = _groups(path)
                weights += [_weight(entry, path) for entry in table]
            tables.append(table)
        rows = np.array([len(table) for table in tables], dtype=np.int64)
        where = {
            f"table{i}": np.frombuffer(json.dumps(t).encode(), dtype=np.uint8) for i, t in enumerate(tables)
        }
        return Index(
            [p.name for p in self.files], rows, blocks_of(rows), plain_weights(np.array(weights)), where
        )

    def read(self, index: Index, number: int) -> Conversation:
        """One row.

        Raises:
            DataError: It cannot be read; its neighbours may.
        """
        shard, row = index.locate(number)
        entry = self._table(index, shard)[row]
        try:
            item = self._cut(shard, row, entry) if self.archives else self._group(shard, row, entry)
            made = list(self._form.conversations(item, Options(segments="parts")))
        except VivavoceError:
            raise
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise DataError(f"{type(error).__name__}: {error}") from error
        if len(made) != 1 or not isinstance(made[0], Conversation):
            faults = "; ".join(str(m) for m in made if not isinstance(m, Conversation))
            raise DataError(
                faults or f"it makes {len(made)} conversations, wanted one; vivavoce data convert first."
            )
        return made[0]

    def close(self) -> None:
        """Let go of what is remembered of archives."""
        self._tables.clear()
        self._cuts.clear()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": OrderedDict(), "_cuts": OrderedDict()}

    def _table(self, index: Index, shard: int) -> list[Any]:
        if shard not in self._tables:
            self._tables[shard] = json.loads(index.where[f"table{shard}"].tobytes())
            if len(self._tables) > _SHARDS_HELD:
                self._tables.popitem(last=False)
        self._tables.move_to_end(shard)
        return self._tables[shard]

    def _group(self, shard: int, row: int, entry: Any) -> Item:
        if isinstance(entry, str):
            raise DataError(entry)
        key, members = entry
        files = {suffix: Place(*place).read(self.files[shard]) for suffix, place in members.items()}
        return Item(row, key, (key, files))

    def _cut(self, shard: int, row: int, entry: Any) -> Item:
        if isinstance(entry, str):
            raise DataError(entry)
        if shard not in self._cuts:
            self._cuts[shard] = list(json_items(self.files[shard]))
            if len(self._cuts) > _SHARDS_HELD:
                self._cuts.popitem(last=False)
        self._cuts.move_to_end(shard)
        cut = self._cuts[shard][row]
        if not isinstance(cut, BadItem):
            found = [Place(*place) for place in entry]
            archive = self.archives[shard]
            cut = _filled(cut, [Member(place.name, place.read(archive)) for place in found], archive)
        if isinstance(cut, BadItem):
            raise DataError(cut.reason)
        return cut


def _groups(path: Path) -> list[Any]:
    """Rows of a WebDataset archive: key and files by suffix, or why there is none."""
    found: list[Any] = []
    key, files = "", dict[str, Place]()

    def finish() -> None:
        if files:
            found.append((key, dict(files)))
            files.clear()

    for place in places(path):
        if isinstance(place, str):
            finish()
            found.append(place)
            continue
        folder, _, name = place.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if not stem or not suffix:
            continue
        of = f"{folder}/{stem}".lstrip("/").removeprefix("./")
        if of != key or suffix in files:
            finish()
        key = of
        files[suffix] = place
    finish()
    return found


def _pairs(path: Path, count: int) -> list[Any]:
    """Recording and manifest of each cut, or why they are not there."""
    files, damage = places(path), ""
    found: list[Any] = []
    for _ in range(count):
        pair: list[Place] = []
        while len(pair) < 2 and not damage:
            place = next(files, f"{path.name} has no more members")
            if isinstance(place, str):
                damage = place
            else:
                pair.append(place)
        found.append(damage or pair)
    return found


def _weight(entry: Any, path: Path) -> float:
    about = None if isinstance(entry, str) else entry[1].get("json")
    if about is None:
        return 1.0
    data = about.read(path)
    return weight_in(data) if b'"weight"' in data else 1.0
