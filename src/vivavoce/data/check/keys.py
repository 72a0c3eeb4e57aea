"""Keys by which equal rows, recordings and texts are found, in memory that does not grow with the set.

A key is 64 bits of a hash; at ten million keys one false pair is expected in a million sets. Keys go to files on disk,
sorted into buckets by their first bits, and one bucket at a time is read back.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.data.check.typed import normal_words
from vivavoce.data.conversation import Audio, Conversation, hash_json

ID, ROW, AUDIO, TEXT = range(4)
KEY = np.dtype([("what", "u1"), ("key", "u8"), ("more", "u8"), ("row", "i8")])
BUCKETS = 64
HELD = 200_000  # keys in memory before they go to disk


def row_keys(
    conversation: Conversation, digests: Sequence[str], number: int
) -> list[tuple[int, int, int, int]]:
    """Keys of a row: its id, its content, each recording with what is said in it, and all its words.

    Args:
        conversation: The row.
        digests: Hash of each audio part's recording, in order; "" where there is none.
        number: Of the row.
    """
    parts = list(conversation.audio_parts())
    keys = [
        (ID, _hash(conversation.id), 0, number),
        (ROW, _hash(_content(conversation, parts, digests)), 0, number),
    ]
    for part, digest in zip(parts, digests, strict=True):
        if digest:
            said = normal_words(part.transcript or "").replace(" ", "")
            keys.append((AUDIO, _hash(digest), _hash(said) if said else 0, number))
    words = [f"{m.role} {normal_words(m.words)}" for m in conversation.messages]
    if any(word.partition(" ")[2] for word in words):
        keys.append((TEXT, _hash("\n".join(words)), 0, number))
    return keys


def _content(conversation: Conversation, parts: Sequence[Audio], digests: Sequence[str]) -> str:
    """Hash of all that is learned from a row, wherever its recordings are stored and whatever it is called."""
    row = conversation.row()
    kept: dict[str, Any] = {k: v for k, v in row.items() if k in ("messages", "tools", "task")}
    found = iter(zip(parts, digests, strict=True))
    for message in kept["messages"]:
        if isinstance(message["content"], list):
            for part in message["content"]:
                if part["type"] == "audio":
                    own, digest = next(found)
                    inside = conversation.audios[own.audio] if isinstance(own.audio, int) else own.audio
                    part["audio"] = digest or inside
    return hash_json(kept)


def _hash(text: str) -> int:
    """64 bits of a text; never 0, which stands for nothing."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") or 1


@dataclass
class Equal:
    """What is equal.

    Attributes:
        count: Rows that repeat something of an earlier row, or of the other set.
        examples: (row, the first row with the same), by row; the second is of the other set for overlaps.
    """

    count: int = 0
    examples: list[tuple[int, int]] = field(default_factory=list)


class KeyStore:
    """Collects keys of one or two sets and finds equal ones; a context manager.

    Args:
        most: Examples that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: list[np.ndarray] = []
        self._number = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> KeyStore:
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, keys: np.ndarray, other: bool = False) -> None:
        """Add keys, an array of ``KEY``.

        Args:
            keys: Of rows, numbered from 0.
            other: They are of the set to compare with.
        """
        if other:
            keys = keys.copy()
            keys["row"] = -1 - keys["row"]  # the other set's rows have negative numbers
        self._held.append(keys)
        self._number += len(keys)
        if self._number > HELD:
            self._spill()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="vivavoce-keys-")
        keys = np.concatenate(self._held) if self._held else np.zeros(0, KEY)
        buckets = keys["key"] % BUCKETS
        for bucket in np.unique(buckets):
            with (Path(self._folder.name) / str(bucket)).open("ab") as file:
                file.write(keys[buckets == bucket].tobytes())
        self._held, self._number = [], 0

    def _buckets(self) -> Iterator[np.ndarray]:
        if self._folder is None:
            yield np.concatenate(self._held) if self._held else np.zeros(0, KEY)
            return
        self._spill()
        for bucket in range(BUCKETS):
            path = Path(self._folder.name) / str(bucket)
            if path.is_file():
                yield np.fromfile(path, KEY)

    def equal(self) -> dict[str, Equal]:
        """Find what is equal: "id", "row", "audio", "text" within the set, "conflict" for recordings with other words
        there, and "row", "audio", "text" with "overlap " before it between the sets.
        """
        names = {ID: "id", ROW: "row", AUDIO: "audio", TEXT: "text"}
        pairs: dict[str, list[np.ndarray]] = {}
        for keys in self._buckets():
            for what, name in names.items():
                own = keys[keys["what"] == what]
                inside = own[own["row"] >= 0]
                pairs.setdefault(name, []).append(_repeats(inside))
                if what == AUDIO:
                    pairs.setdefault("conflict", []).append(_conflicts(inside))
                if what != ID:
                    pairs.setdefault(f"overlap {name}", []).append(_overlaps(inside, own[own["row"] < 0]))
        found = {name: self._equal(np.concatenate(some)) for name, some in pairs.items()}
        return {name: equal for name, equal in found.items() if equal.count}

    def _equal(self, pairs: np.ndarray) -> Equal:
        """Rows that repeat something, each once with the first row that has it, int64 [N, 2] of (row, first)."""
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        once = np.ones(len(pairs), bool)
        once[1:] = pairs[1:, 0] != pairs[:-1, 0]
        pairs = pairs[once]
        return Equal(len(pairs), [(int(row), int(first)) for row, first in pairs[: self.most]])


def _repeats(keys: np.ndarray) -> np.ndarray:
    """(row, first) of rows whose key an earlier row has, int64 [N, 2]."""
    keys = keys[np.lexsort((keys["row"], keys["key"]))]
    new = np.ones(len(keys), bool)
    new[1:] = keys["key"][1:] != keys["key"][:-1]
    first = (
        keys["row"][np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))]
        if len(keys)
        else keys["row"]
    )
    again = ~new & (keys["row"] != first)
    return np.stack([keys["row"][again], first[again]], axis=1)


def _conflicts(keys: np.ndarray) -> np.ndarray:
    """(row, first) of rows that say something else of a recording than the first row that says anything."""
    keys = keys[keys["more"] != 0]
    keys = keys[np.lexsort((keys["row"], keys["key"]))]
    new = np.ones(len(keys), bool)
    new[1:] = keys["key"][1:] != keys["key"][:-1]
    if not len(keys):
        return np.zeros((0, 2), np.int64)
    at = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    other = keys["more"] != keys["more"][at]
    return np.stack([keys["row"][other], keys["row"][at][other]], axis=1)


def _overlaps(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(row, row of the other set) of rows whose key the other set has."""
    others = others[np.lexsort((-others["row"], others["key"]))]
    at = np.searchsorted(others["key"], keys["key"])
    inside = at < len(others)
    hit = np.zeros(len(keys), bool)
    hit[inside] = others["key"][at[inside]] == keys["key"][inside]
    return np.stack([keys["row"][hit], -1 - others["row"][at[hit]]], axis=1)
