"""Files of JSON to values, one by one: lines, lists and single objects, plain or gzipped.

A file that is broken in places gives what is whole, and says where it is not.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from vivavoce.base.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")
_WIDE = ("utf16", "utf32")
_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPACE = re.compile(r"\s*")


class Item(NamedTuple):
    """A raw row: its number from 0, its place for people, and its value."""

    number: int
    place: str
    value: Any


class BadItem(NamedTuple):
    """A place that gives no value."""

    number: int
    place: str
    kind: str
    reason: str


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, unpacked if it is gzipped whatever its name.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    with file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file


def json_items(path: Path, encoding: str = "utf-8", key: str = "") -> Iterator[Item | BadItem]:
    """Read the values of a JSON list, of JSON lines, or of a list inside one JSON object.

    Args:
        path: The file; ``.gz`` is unpacked.
        encoding: Of its text.
        key: Of the list inside an object; "" for none.

    Raises:
        DataError: There is no such file or encoding, or it is UTF-16 and was not said to be.
    """
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise DataError(
            f"{encoding!r} is no encoding that Python knows; try 'utf-8' or 'gb18030'."
        ) from error
    with open_text(path) as opened:
        file: BinaryIO = opened
        if encoding.lower().replace("-", "").replace("_", "").startswith(_WIDE):
            file, encoding = _narrow(path, opened, encoding), "utf-8"
        head, cut = _first(file)
        if head.startswith(_MARKS):
            raise DataError(f"{path} is UTF-16 or UTF-32, wanted {encoding}; say encoding='utf-16'.")
        start = head.removeprefix(codecs.BOM_UTF8).strip()
        after = b""
        if start.endswith(b"]") and cut is None:  # a list may be a line among others
            after, cut = _first(file)
        head += after
        if not after.strip() and (start.startswith(b"[") or (start.startswith(b"{") and not _is_line(start))):
            yield from _whole(path, head, file, cut, encoding, key)
        else:
            yield from _lines(path, head, file, cut, encoding, key)


def _narrow(path: Path, file: BinaryIO, encoding: str) -> BinaryIO:
    """A file of wide characters as UTF-8."""
    try:
        return io.BytesIO(file.read().decode(encoding).encode("utf-8"))
    except (UnicodeError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no {encoding} text: {error}; say another encoding.") from error


def _first(file: BinaryIO) -> tuple[bytes, Exception | None]:
    """The next line with something in it, what is empty before it, and why nothing more can be read."""
    found = b""
    try:
        for line in file:
            found += line
            if line.strip():
                break
    except (OSError, EOFError, zlib.error) as error:
        return found, error
    return found, None


def _is_line(start: bytes) -> bool:
    """Whether a line is a JSON value of its own, so that others may follow, or is broken beyond its end."""
    try:
        json.loads(start)
    except ValueError:
        return start.endswith(b"}")  # a broken line, not the beginning of an object over several lines
    return True


def _lines(
    path: Path, head: bytes, file: BinaryIO, cut: Exception | None, encoding: str, key: str
) -> Iterator[Item | BadItem]:
    number, line_number = 0, 0
    lines = chain(io.BytesIO(head), file if cut is None else ())
    while True:
        try:
            line = next(lines, None)
        except (OSError, EOFError, zlib.error) as error:
            line, cut = None, error
        if line is None:
            break
        line_number += 1
        place = f"line {line_number}"
        data = line.removeprefix(codecs.BOM_UTF8) if line_number == 1 else line
        if not data.strip():
            continue
        value = _value(data, encoding)
        if isinstance(value, BadItem):
            yield value._replace(number=number, place=place)
        elif key and isinstance(value, dict) and isinstance(value.get(key), list):
            yield from (Item(i, f"item {i + 1}", inner) for i, inner in enumerate(value[key]))
        else:
            yield Item(number, place, value)
        number += 1
    if cut is not None:
        reason = f"{path.name} is cut off or damaged after line {line_number}: {cut}"
        yield BadItem(number, f"line {line_number + 1}", "cut off", reason)


def _value(data: bytes, encoding: str) -> Any:
    try:
        value = json.loads(data.decode(encoding))
    except UnicodeDecodeError as error:
        return BadItem(0, "", "encoding", f"bytes that are no {encoding} text ({error.reason})")
    except (ValueError, RecursionError) as error:
        return BadItem(0, "", "json", f"broken JSON: {error}")
    if b"\\ud" in data.lower() and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        return BadItem(0, "", "encoding", "half a character, such as \\ud83d alone")
    return value


def _whole(
    path: Path, head: bytes, file: BinaryIO, cut: Exception | None, encoding: str, key: str
) -> Iterator[Item | BadItem]:
    """A list or one object over many lines, which is read at once."""
    pieces = [head]
    read: Any = getattr(file, "read1", file.read)  # gives what there is before it fails
    try:
        while cut is None and (piece := read(1 << 20)):
            pieces.append(piece)
    except (OSError, EOFError, zlib.error) as error:
        cut = error
    text = b"".join(pieces).decode(encoding, errors="surrogateescape").removeprefix("\ufeff")
    start = _skip(text, 0)
    values = _list(text, start + 1) if text[start : start + 1] == "[" else _object(text, key)
    for number, (place, value) in enumerate(values):
        if isinstance(value, BadItem):
            kind, reason = value.kind, value.reason
            if cut is not None:
                kind, reason = "cut off", f"{path.name} is cut off or damaged: {cut}"
            yield BadItem(number, place, kind, reason)
        elif _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            yield BadItem(number, place, "encoding", f"bytes that are no {encoding} text")
        else:
            yield Item(number, place, value)


def _object(text: str, key: str) -> Iterator[tuple[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [(f"line {i}", _value(line.encode("utf-8", "surrogateescape"), "utf-8"))
                 for i, line in enumerate(text.split("\n"), 1) if line.strip()]  # fmt: skip
        if any(isinstance(value, dict) for _, value in lines[1:]):  # lines, of which the first is broken
            yield from lines
        else:
            yield "the file", BadItem(0, "", "json", f"broken JSON: {error}")
        return
    if key and isinstance(value, dict) and isinstance(value.get(key), list):
        yield from ((f"item {i + 1}", inner) for i, inner in enumerate(value[key]))
    else:
        yield "the file", value


def _list(text: str, at: int) -> Iterator[tuple[str, Any]]:
    decoder, number = json.JSONDecoder(), 0
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                reason = f"text after the end of the list: {text[at + 1 :].strip()[:40]!r}"
                yield f"after item {number}", BadItem(0, "", "json", reason)
            return
        number += 1
        try:
            if at == len(text):
                raise ValueError("the list has no closing ]")
            value, end = decoder.raw_decode(text, at)
            end = _skip(text, end)
            if text[end : end + 1] not in (",", "]"):
                raise ValueError(f"no comma or closing ] after item {number}")
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, at) + 1
            reason = f"broken JSON at line {line}: {error}; nothing after it can be read"
            yield f"item {number}", BadItem(0, "", "json", reason)
            return
        yield f"item {number}", value
        at = end + (text[end] == ",")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
