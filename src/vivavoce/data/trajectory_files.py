"""Files of dialogues to JSON values: lists, lines and single objects, told apart by what is in them.

A file that is broken in places gives what is whole, and a fault for each place.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vivavoce.base.errors import DataError

BROKEN_JSON, WRONG_ENCODING = "broken JSON", "wrong encoding"

_UTF16_OR_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPACE = re.compile(r"\s*")
_NEXT_ITEM = re.compile(r'\{\s*"dialogue_id"\s*:')
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Fault:
    """A row that could not be used.

    Attributes:
        place: Where it stands, "line 7" or "item 7 (line 80)".
        kind: The kind of fault, such as "broken JSON".
        reason: What was seen and what was wanted.
        id: Its dialogue id, "" if it could not be read.
    """

    place: str
    kind: str
    reason: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.place}{f' ({self.id})' if self.id else ''}: {self.kind}: {self.reason}"


class Item(NamedTuple):
    """A JSON value and where it stands in its file."""

    place: str
    value: Any


def read_items(path: Path, encoding: str = "utf-8") -> tuple[list[Item], list[Fault]]:
    """Read a JSON list, JSON lines, one JSON object, or ``{"annotation": [...]}``.

    Args:
        path: The file.
        encoding: Of its text, as Python names it; a byte order mark of UTF-8 is taken away.

    Returns:
        The values that are whole, and the faults of the rest, both in the order of the file.

    Raises:
        DataError: The file cannot be read, has nothing in it, or has no such encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    text = _decode(path, data, encoding)
    if not text.strip():
        raise DataError(f"{path} is empty; wanted dialogues as a JSON list or as JSON lines.")
    found = list(_values(text))
    hint = _hint(data, encoding) if _SURROGATE.search(text) else ""
    items, faults = [], []
    for entry in found:
        if isinstance(entry, Fault):
            faults.append(entry)
        elif _SURROGATE.search(json.dumps(entry.value, ensure_ascii=False)):
            faults.append(Fault(entry.place, WRONG_ENCODING, f"bytes that are no {encoding} text{hint}"))
        else:
            items.append(entry)
    return items, faults


def _decode(path: Path, data: bytes, encoding: str) -> str:
    """Text in which bytes that cannot be decoded stand as lone surrogates, to be found row by row."""
    if data.startswith(_UTF16_OR_32) and encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        raise DataError(f"{path} is UTF-16 or UTF-32, wanted UTF-8; say encoding='utf-16', or convert it.")
    try:
        return data.decode(encoding, errors="surrogateescape").removeprefix("\ufeff")
    except LookupError as error:
        raise DataError(
            f"{encoding!r} is no encoding that Python knows; try 'utf-8' or 'gb18030'."
        ) from error
    except UnicodeError as error:
        raise DataError(f"{path} is no {encoding} text: {error}; say another encoding.") from error


def _hint(data: bytes, encoding: str) -> str:
    try:
        data.decode("gb18030")
    except UnicodeError:
        return ""
    return "" if encoding == "gb18030" else "; the file reads as Chinese GB18030, say encoding='gb18030'"


def _values(text: str) -> Iterator[Item | Fault]:
    start = _SPACE.match(text)
    if start and text[start.end()] == "[":
        yield from _list_values(text, start.end() + 1)
        return
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):  # more than one value, or a broken one
        yield from _line_values(text)
        return
    if isinstance(whole, dict) and isinstance(whole.get("annotation"), list):
        yield from (Item(f"item {i}", value) for i, value in enumerate(whole["annotation"], 1))
    else:
        yield Item("line 1", whole)


def _line_values(text: str) -> Iterator[Item | Fault]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Item(f"line {number}", json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Fault(f"line {number}", BROKEN_JSON, str(error))


def _list_values(text: str, at: int) -> Iterator[Item | Fault]:
    """Values of a list one by one; after a broken one it goes on at the next dialogue it can see."""
    decoder, number = json.JSONDecoder(), 0
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            rest = text[at + 1 :].strip()
            if rest:
                yield Fault(
                    f"after item {number}", BROKEN_JSON, f"text after the end of the list: {rest[:40]!r}"
                )
            return
        number += 1
        place = f"item {number} (line {text.count(chr(10), 0, at) + 1})"
        try:
            if at == len(text):
                raise ValueError("the list is cut off: it has no closing ]")
            value, end = decoder.raw_decode(text, at)
            end = _skip(text, end)
            if text[end : end + 1] not in (",", "]"):
                raise ValueError("no comma or closing ] after this item")
        except (ValueError, RecursionError) as error:
            following = _NEXT_ITEM.search(text, at + 1)
            lost = "" if following or at == len(text) else "; nothing after it could be read"
            yield Fault(place, BROKEN_JSON, f"{error}{lost}")
            if not following:
                return
            at = following.start()
            continue
        yield Item(place, value)
        at = end + (text[end] == ",")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
