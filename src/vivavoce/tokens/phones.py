"""Words to phones for the aligned voice: the phone set, spoken forms, the shipped lexicon and its fallback.

The phone set is the one that flite's American voices use; the embedded voice was trained on it, so its order is fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vivavoce.base.errors import VocabularyError

PHONES: tuple[str, ...] = (
    "pau",
    *("aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy"),
    *("jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z"),
    "zh",
)
"""Index 0 is silence ("pau"); 41 phones in all."""

_INDEX = {phone: index for index, phone in enumerate(PHONES)}


def phone_ids(phones: Iterable[str]) -> list[int]:
    """Turn phones into ids in [0, len(PHONES)).

    Raises:
        VocabularyError: A phone is not in PHONES; the message names it and its position.
    """
    ids = []
    for position, phone in enumerate(phones):
        if phone not in _INDEX:
            raise VocabularyError(f"phone {phone!r} at position {position} is unknown; use one of {', '.join(PHONES)}")
        ids.append(_INDEX[phone])
    return ids


@dataclass(frozen=True)
class SpokenWord:
    """One spoken word, the characters of the text it came from, and the break that follows it.

    Args:
        word: Lower case, letters and apostrophes only ([a-z']+).
        start, end: Character range in the original text, end exclusive; words made from one number share it.
        mark: "" inside a phrase; "," ends a phrase; ".", "?" or "!" ends a sentence.
    """

    word: str
    start: int
    end: int
    mark: str = ""


def spoken_words(text: str) -> list[SpokenWord]:
    """Normalise text to spoken English words with their places and breaks."""
    raise NotImplementedError


def spoken_form(text: str) -> list[str]:
    """Normalise text to spoken words: ["three", "thirty"] for "3:30"."""
    return [item.word for item in spoken_words(text)]


def split_phrases(text: str) -> list[list[str]]:
    """Spoken words grouped by the phrases that punctuation makes; no empty phrase."""
    raise NotImplementedError


class Lexicon:
    """Word -> phones: user additions first, then the shipped table, then letter-to-sound.

    Args:
        extra: Additional pronunciations, word -> phones of PHONES without "pau".
    """

    def __init__(self, extra: Mapping[str, Sequence[str]] | None = None) -> None:
        raise NotImplementedError

    def phones(self, word: str) -> list[str]:
        """Pronounce one spoken word ([a-z']+); never empty."""
        raise NotImplementedError

    def source(self, word: str) -> Literal["extra", "lexicon", "letter-to-sound"]:
        """Tell where the pronunciation of a word comes from."""
        raise NotImplementedError


def words_to_phones(words: Sequence[str]) -> list[list[str]]:
    """Phones of each spoken word, by the shipped lexicon."""
    raise NotImplementedError


def letter_word(letter: str) -> str:
    """The spoken word that names a letter: itself, but "ay" for "a" (the word "a" is the article)."""
    return "ay" if letter.lower() == "a" else letter.lower()


def letter_name_phones(letter: str) -> list[str]:
    """Phones of a letter's name: ["b", "iy"] for "b", ["ey"] for "a"."""
    raise NotImplementedError
