"""Tar archives of small files: read as a stream, written the same for the same contents."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import NamedTuple

from vivavoce.base.errors import DataError


class Member(NamedTuple):
    """A file in an archive, and its bytes."""

    name: str
    data: bytes


class Damage(NamedTuple):
    """Where an archive cannot be read on."""

    reason: str


def members(path: Path) -> Iterator[Member | Damage]:
    """The files of an archive in their order; nothing is unpacked to disk.

    A member whose name leads outside the archive, or that is a link or a device, is damage and is passed over; where
    the archive is cut off, the last thing is damage.

    Raises:
        DataError: It is no archive.
    """
    try:
        tar = tarfile.open(path)  # noqa: SIM115  (closed below)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is no readable tar archive: {error}") from error
    with tar:
        while True:
            try:
                info = tar.next()
                if info is None:
                    if _is_cut(tar, path):
                        yield Damage(f"{path.name} is cut off: it has no end mark")
                    return
                if info.isdir():
                    continue
                if not is_inside(info.name):
                    yield Damage(f"{info.name!r} in {path.name} leads outside the archive")
                    continue
                opened = tar.extractfile(info) if info.isfile() else None
                if opened is None:
                    yield Damage(f"{info.name!r} in {path.name} is no plain file")
                    continue
                data = opened.read()
                if len(data) != info.size:
                    raise tarfile.ReadError(f"{info.name!r} ends early")
                yield Member(info.name, data)
            except (OSError, tarfile.TarError, EOFError) as error:
                yield Damage(f"{path.name} is cut off or damaged: {error}")
                return


def _is_cut(tar: tarfile.TarFile, path: Path) -> bool:
    """Whether a plain archive ends without its block of zeros; a packed one has its own check."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return False
        file.seek(tar.offset)
        return not file.read(512)


def is_inside(name: str) -> bool:
    """Whether a member's name stays within its archive."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


class ArchiveWriter:
    """A tar archive that grows; no times, owners or modes but fixed ones, so same contents are same bytes.

    Args:
        path: To write.
    """

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115

    def add(self, name: str, data: bytes) -> None:
        """Add a file."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        self._tar.addfile(info, io.BytesIO(data))

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()
