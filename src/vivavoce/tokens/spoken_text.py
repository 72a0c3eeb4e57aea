"""Text as it is spoken: words with their places in the text and the breaks between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SpokenWord:
    """One spoken word, the characters of the text it came from, and the break that follows it.

    Args:
        word: Lower case, letters and apostrophes only ([a-z']+).
        start: First character in the original text; words made from one number share their range.
        end: Character after the last one.
        mark: "" inside a phrase; "," ends a phrase; ".", "?" or "!" ends a sentence.
    """

    word: str
    start: int
    end: int
    mark: str = ""


def normalise(text: str, is_word: Callable[[str], bool]) -> list[SpokenWord]:
    """Make spoken words of text."""
    return [
        SpokenWord(found[1].lower(), found.start(), found.end(1), found[2])
        for found in re.finditer(r"([A-Za-z']+)([,.?!]?)", text)
    ]
