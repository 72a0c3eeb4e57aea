"""Texts with placeholders for recordings, and small checks of values from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from vivavoce.data.conversation import Audio, Message, Text
from vivavoce.data.convert.contract import RowError, Unfit


class Slots:
    """Hands out a row's recordings to its placeholders, in order.

    Args:
        marks: What stands for a recording in text, such as "<audio>".
        recordings: Of the row.
    """

    def __init__(self, marks: Sequence[str], recordings: Sequence[Any]) -> None:
        self._pattern = re.compile("(" + "|".join(map(re.escape, marks)) + ")")
        self.marks, self.recordings, self.used = marks, list(recordings), 0

    def parts(self, text: str) -> list[dict[str, Any]]:
        """A text with placeholders as JSON parts."""
        parts: list[dict[str, Any]] = []
        for i, piece in enumerate(self._pattern.split(text)):
            if i % 2:
                found = self.recordings[self.used] if self.used < len(self.recordings) else None
                parts.append({"type": "audio", "audio": found})
                self.used += 1
            elif piece:
                parts.append({"type": "text", "text": piece})
        return parts

    def check(self) -> None:
        """Refuse a row whose placeholders and recordings do not match.

        Raises:
            RowError: With both numbers.
        """
        if self.used != len(self.recordings):
            raise RowError(
                "placeholders",
                f"{self.used} times {' or '.join(self.marks)} in the text and {len(self.recordings)} recordings; "
                "wanted as many of each.",
            )


def with_marks(message: Message, mark: str, others: Sequence[str] = ()) -> Iterator[str | Audio]:
    """The text of a message with placeholders, and its recordings as they come.

    Args:
        message: To write.
        mark: Stands for a recording.
        others: What a reader would take for placeholders too.

    Raises:
        Unfit: The text has the placeholder's letters in it.
    """
    for part in message.parts:
        if isinstance(part, Audio):
            if part.audio is None:
                raise Unfit("an audio part has only tokens")
            yield part
            yield mark
        elif found := [m for m in (mark, *others) if m in part.text]:
            raise Unfit(f"a text has {found[0]!r} in it")
        else:
            yield part.text


def text_of(row: Mapping[str, Any], *names: str, default: str | None = None) -> str:
    """The first of the columns that is there, as text.

    Raises:
        RowError: None is there and there is no default, or it is no text.
    """
    name, value = next(((n, row[n]) for n in names if row.get(n) is not None), ("", default))
    if value is None:
        raise RowError("malformed", f"no {' or '.join(names)} among {', '.join(map(str, row)) or 'no keys'}.")
    if not isinstance(value, str):
        raise RowError("malformed", f"{name} is {str(value)[:60]!r}, wanted text.")
    return value


def optional_text(row: Mapping[str, Any], *names: str) -> str | None:
    """As ``text_of``, None where there is none; numbers become text."""
    value = next((row[n] for n in names if row.get(n) is not None), None)
    return None if value is None else str(value)


def seconds_of(row: Mapping[str, Any], name: str) -> float | None:
    """A column of seconds, None where there is none.

    Raises:
        RowError: It is no number of 0 or more.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise RowError("malformed", f"{name} is {str(value)[:60]!r}, wanted seconds.")
    return float(value)


def object_of(value: Any) -> Mapping[str, Any]:
    """A row that is a JSON object.

    Raises:
        RowError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise RowError(
            "malformed", f"the row is {type(value).__name__} {str(value)[:40]!r}, wanted an object."
        )
    return value


def rest(row: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """The columns that have no place of their own."""
    return {k: v for k, v in row.items() if k not in known and v is not None}


def question_text(parts: Sequence[Text | Audio], audio_first: bool) -> str:
    """The typed words of a question, for forms where these stand on one side of the recordings.

    Raises:
        Unfit: They stand on both sides or between, or on the other side of several recordings.
    """
    sides = [is_text for is_text, _ in groupby(parts, lambda part: isinstance(part, Text))]
    num_recordings = sum(isinstance(part, Audio) for part in parts)
    if len(sides) > 2 or (len(sides) == 2 and sides[0] is audio_first and num_recordings > 1):
        raise Unfit("typed words between recordings, or on both sides of one")
    return typed(parts)


def typed(parts: Sequence[Text | Audio]) -> str:
    """The typed text of parts."""
    return "".join(p.text for p in parts if isinstance(p, Text))
