"""Splits for training, validation and test that stay as they are when rows are added, and keep speakers whole.

A name (of a speaker, or a row's id) belongs to a split by its hash alone. A conversation of speakers that belong to
different splits fits none, because either choice would let a speaker into two; it is left out.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.conversation import Conversation

By = Literal["speaker", "id"]


@dataclass(frozen=True)
class Split:
    """Where rows belong.

    Attributes:
        rows: Name of a split -> numbers of its rows, ascending.
        left_out: Numbers of rows with speakers of several splits.
    """

    rows: dict[str, list[int]]
    left_out: list[int]


@dataclass(frozen=True)
class SplitRule:
    """Tells which split a row belongs to.

    Attributes:
        shares: Name of a split -> its part of the names; they are scaled to a sum of 1.
        by: "speaker" keeps all rows of a speaker together; "id" goes by row.
        roles: Whose speakers count. A synthetic voice that answers in every row would tie all rows together, so it is
            the users' by default.
        unknown: What becomes of rows with audio and no speaker: "refuse", or "id" to go by the row. Rows without audio
            always go by their id.
        salt: Another salt is another split.

    Raises:
        ConfigError: The shares are not numbers above 0.
    """

    shares: Mapping[str, float]
    by: By = "speaker"
    roles: Sequence[str] = ("user",)
    unknown: Literal["refuse", "id"] = "refuse"
    salt: str = ""

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share < math.inf for share in self.shares.values()):
            raise ConfigError(f"shares are {dict(self.shares)}, wanted a number above 0 for each split.")
        if self.by not in ("speaker", "id") or self.unknown not in ("refuse", "id"):
            raise ConfigError(f"by is {self.by!r} and unknown {self.unknown!r}; wanted 'speaker' or 'id'.")

    def of(self, row: Conversation) -> str | None:
        """The split of a row; None if its speakers belong to several.

        Raises:
            DataError: The row has audio of nobody known.
        """
        found = {self.of_name(name) for name in self._names(row)}
        return found.pop() if len(found) == 1 else None

    def of_name(self, name: str) -> str:
        """The split of a speaker or id."""
        digest = hashlib.sha256(f"{self.salt}\x1f{name}".encode()).digest()
        at = int.from_bytes(digest[:8], "big") / 2**64 * sum(self.shares.values())
        ends = itertools.accumulate(self.shares.values())
        return next((s for s, end in zip(self.shares, ends, strict=True) if at < end), list(self.shares)[-1])

    def _names(self, row: Conversation) -> set[str]:
        parts = [p for m in row.messages if m.role in self.roles for p in m.audios]
        if self.by == "id" or not parts:
            return {f"id {row.id}"}
        names = {f"speaker {part.speaker}" for part in parts if part.speaker is not None}
        if any(part.speaker is None for part in parts):
            if self.unknown == "refuse":
                raise DataError(
                    f"row {row.id!r} has audio without a speaker, so it cannot be told whether the speaker is in "
                    "another split too; name speakers, or go by rows: unknown='id'."
                )
            names.add(f"id {row.id}")
        return names


def split(
    rows: Iterable[Conversation],
    shares: Mapping[str, float],
    by: By = "speaker",
    *,
    roles: Sequence[str] = ("user",),
    unknown: Literal["refuse", "id"] = "refuse",
    salt: str = "",
) -> Split:
    """Split rows.

    Args:
        rows: Looked at once; their recordings are not.
        shares, by, roles, unknown, salt: As of `SplitRule`.

    Raises:
        ConfigError: As of `SplitRule`.
        DataError: A row has audio of nobody known.
    """
    rule = SplitRule(shares, by, roles, unknown, salt)
    found: dict[str, list[int]] = {name: [] for name in shares}
    left_out: list[int] = []
    for number, row in enumerate(rows):
        name = rule.of(row)
        (left_out if name is None else found[name]).append(number)
    return Split(found, left_out)


@dataclass(frozen=True)
class InSplit:
    """Keeps the rows of one split, as `Filters.keep`; rows of no split are left out.

    Attributes:
        rule: Tells splits.
        name: The split to keep.
    """

    rule: SplitRule
    name: str

    def __post_init__(self) -> None:
        if self.name not in self.rule.shares:
            raise ConfigError(f"there is no split {self.name!r}; known: {', '.join(self.rule.shares)}.")

    def __call__(self, row: Conversation) -> bool:
        return self.rule.of(row) == self.name
