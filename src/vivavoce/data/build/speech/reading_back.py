"""Do what was said and what was heard agree? Letters compared after both texts were brought to one form."""

from __future__ import annotations

import unicodedata
from contextlib import suppress

import numpy as np

from vivavoce.base.errors import VocabularyError
from vivavoce.tokens.phones import spoken_form


def letters_of(text: str, language: str | None = None) -> str:
    """A text as letters and digits only: lower case, no spaces or signs; English numbers and abbreviations as words.

    Spaces go too, so that "can not" is "cannot".
    """
    if language == "en":
        with suppress(VocabularyError):  # letters of another script: compared as they are
            text = " ".join(spoken_form(text, name_letters=False))
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum() or unicodedata.category(c).startswith("M"))


def edit_distance(left: str, right: str) -> int:
    """Fewest letters to put in, leave out or exchange; time grows with the product of the lengths."""
    codes = np.array([ord(c) for c in right], np.int64)
    steps = np.arange(len(right) + 1)
    row = steps.copy()
    for number, letter in enumerate(left, 1):
        best = np.empty_like(row)
        best[0] = number
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(letter)))
        row = np.minimum.accumulate(best - steps) + steps  # letters put in, all at once
    return int(row[-1])


def character_error_rate(said: str, heard: str, language: str | None = None) -> float:
    """Edits per letter of what was said; 0 is perfect, above 1 is possible."""
    wanted, found = letters_of(said, language), letters_of(heard, language)
    return edit_distance(wanted, found) / max(1, len(wanted))
