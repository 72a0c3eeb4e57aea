"""Words to phones for the aligned voice: the phone set, spoken forms, the shipped lexicon and its fallback.

The phone set is the one that flite's American voices use; the embedded voice was trained on it, so its order is
fixed. Text goes through ``spoken_form`` (or ``spoken_words``, which keeps places and breaks), each word through
``Lexicon.phones``, each phone through ``phone_ids``.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from vivavoce.base.errors import VocabularyError
from vivavoce.tokens.letter_to_sound import load_letter_to_sound
from vivavoce.tokens.spoken_text import SpokenWord, normalise

__all__ = [
    "ADDED_PHONES", "ALL_PHONES", "PHONES", "Lexicon", "SpokenStream", "SpokenWord", "letter_name_phones",
    "letter_word", "load_lexicon", "phone_ids", "possessive", "split_phrases", "spoken_form", "spoken_words",
    "voice_lexicons", "words_to_phones",
]  # fmt: skip

PHONES: tuple[str, ...] = tuple(
    "pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z "
    "zh".split()
)
"""Index 0 is silence ("pau"); 41 phones in all."""

ADDED_PHONES: tuple[str, ...] = tuple("ue oe ee oo ich ach rr ar".split())
"""Sounds of other languages, in the order they came (recipes/add_language): German y, ø, long e and o, ç, x, r, ɐ."""

ALL_PHONES = (*PHONES, *ADDED_PHONES)
"""A voice knows the first ``num_phones`` of these; new ones are only ever put at the end."""

LEXICON_PATH = Path(__file__).parents[1] / "bundle" / "nano" / "lexicon.txt.gz"
LETTER_TO_SOUND_PATH = LEXICON_PATH.with_name("letter_to_sound.npz")

Source = Literal["extra", "lexicon", "letter-to-sound"]

_INDEX = {phone: index for index, phone in enumerate(ALL_PHONES)}
_WORD = re.compile(r"[a-z']*[a-z][a-z']*")
_LETTER_A = "ay"  # how the letter's name is written; the word "a" is the article


def phone_ids(phones: Iterable[str]) -> list[int]:
    """Turn phones into ids in [0, len(ALL_PHONES)).

    Raises:
        VocabularyError: A phone is not in ALL_PHONES; the message names it and its position.
    """
    ids = []
    for position, phone in enumerate(phones):
        if phone not in _INDEX:
            known = ", ".join(ALL_PHONES)
            raise VocabularyError(f"phone {phone!r} at position {position} is unknown; use one of {known}")
        ids.append(_INDEX[phone])
    return ids


class Lexicon:
    """Word -> phones: user additions first, then the shipped table, then letter-to-sound.

    The table stays one block of text (a few MB) that is searched by bisection, so that opening it costs some 20 ms.

    Args:
        extra: Additional pronunciations, word -> phones of ALL_PHONES without "pau".

    Raises:
        VocabularyError: An additional word is not of [a-z'], or its phones are empty, unknown or "pau".
    """

    def __init__(self, extra: Mapping[str, Sequence[str]] | None = None) -> None:
        self._extra = {word: list(phones) for word, phones in (extra or {}).items()}
        for word, phones in self._extra.items():
            _check_word(word)
            if not phones or "pau" in phones:
                raise VocabularyError(f"phones of {word!r} are {phones}; give at least one, and no 'pau'")
            phone_ids(phones)

    def __contains__(self, word: str) -> bool:
        return self._known(word) is not None

    def phones(self, word: str) -> list[str]:
        """Pronounce one spoken word, [a-z'] with at least one letter; never empty, never "pau".

        Raises:
            VocabularyError: The word has other characters (a capital, a digit); ``spoken_form`` removes them.
        """
        _check_word(word)
        return self._known(word) or self._guess(word)

    def source(self, word: str) -> Source:
        """Tell where the pronunciation of a word comes from; a possessive follows its base word.

        Raises:
            VocabularyError: As ``phones``.
        """
        _check_word(word)
        if word in self._extra or (_base(word) in self._extra and _look_up(word) is None):
            return "extra"
        return "lexicon" if self._known(word) else "letter-to-sound"

    def words(self) -> list[str]:
        """List the words of the shipped table and the additions, sorted."""
        shipped = (line.split(" ", 1)[0] for line in _table().decode("ascii").split("\n")[1:-1])
        return sorted({*shipped, *self._extra})

    def own_words(self) -> list[str]:
        """List the additions alone, sorted."""
        return sorted(self._extra)

    def _known(self, word: str) -> list[str] | None:
        phones = self._extra.get(word) or _look_up(word)
        if phones is None and (base := _base(word)):
            phones = self._extra.get(base) or _look_up(base)
            phones = phones and possessive(word, phones)
        return list(phones) if phones else None

    def _guess(self, word: str) -> list[str]:
        base = _base(word)
        if base:
            return possessive(word, self._guess(base))
        if not re.search("[aeiouy]", word):  # "pdf": nobody can say it but by its letters
            return [phone for letter in word if letter != "'" for phone in letter_name_phones(letter)]
        return load_letter_to_sound(LETTER_TO_SOUND_PATH).phones(word)


def load_lexicon(path: Path) -> Lexicon:
    """Read pronunciations that a model folder ships for a voice: lines of ``word phone phone``, UTF-8.

    Raises:
        VocabularyError: A line without phones, or as ``Lexicon``; the message names the file.
    """
    extra = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word, *phones = line.split()
        if not phones:
            raise VocabularyError(f"{path.name}, line {number}: {line!r} has no phones; write 'word ph ph'.")
        extra[word] = phones
    try:
        return Lexicon(extra)
    except VocabularyError as error:
        raise VocabularyError(f"{path.name}: {error}") from error


def voice_lexicons(folder: str | Path | None) -> dict[str, Lexicon]:
    """Pronunciations that a model folder ships, ``lexicon_NAME.txt``, by the name of their voice.

    Raises:
        VocabularyError: As ``load_lexicon``.
    """
    found = sorted(Path(folder).glob("lexicon_*.txt")) if folder else ()
    return {path.stem.removeprefix("lexicon_"): load_lexicon(path) for path in found}


def words_to_phones(words: Sequence[str], lexicon: Lexicon | None = None) -> list[list[str]]:
    """Phones of each spoken word, by the shipped lexicon unless another is given.

    Raises:
        VocabularyError: A word is not in spoken form.
    """
    lexicon = lexicon or default_lexicon()
    return [lexicon.phones(word) for word in words]


def spoken_words(text: str, lexicon: Lexicon | None = None, *, name_letters: bool = True) -> list[SpokenWord]:
    """Normalise text to spoken English words with their places and breaks.

    Args:
        text: Any English text; letters of other scripts are refused, emoji and markup are dropped.
        lexicon: Decides which words in capitals are words ("NASA") and which are spelled ("FBI").
        name_letters: Write the letter "a" as "ay", so that it is pronounced as a letter; False leaves "a", which
            is what a language model should read.

    Raises:
        VocabularyError: A letter of an unknown script; the message names it and its position.
    """
    return normalise(text, (lexicon or default_lexicon()).__contains__, _LETTER_A if name_letters else "a")


def spoken_form(text: str, lexicon: Lexicon | None = None, *, name_letters: bool = True) -> list[str]:
    """Normalise text to spoken words: ["three", "thirty"] for "3:30". As ``spoken_words``, without the places."""
    return [item.word for item in spoken_words(text, lexicon, name_letters=name_letters)]


class SpokenStream:
    """Normalise text that arrives in pieces, as ``spoken_words`` does for the whole.

    What a word is can hang on its neighbours ("a" in "c a t" is a letter, "5" may be "5 million"), so pieces must not
    be normalised one by one. State: the text since the last sentence break but one. Look-ahead: a word is given out
    once the next one, set off by white space, is complete. Only what hangs on text further ahead can differ from the
    whole: "5/8 of it = 2" is known to be arithmetic at its "=", and a first line in capitals may turn out no shout.
    """

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self._lexicon = lexicon
        self._text = ""
        self._before = 0  # characters of the whole text before _text
        self._given = 0  # characters of _text whose words were given out

    def push(self, piece: str) -> list[SpokenWord]:
        """Take more text; return the words that are now final, with places in the whole text."""
        self._text += piece
        complete = list(re.finditer(r"\S*\w\S*(?=\s)", self._text))
        return self._give(complete[-1].end(), complete[-1].start()) if len(complete) > 1 else []

    def flush(self) -> list[SpokenWord]:
        """Return the words still held back; the stream can then begin a new text."""
        words = self._give(len(self._text), len(self._text))
        self._text, self._before, self._given = "", 0, 0
        return words

    def _give(self, seen: int, until: int) -> list[SpokenWord]:
        items = spoken_words(self._text[:seen], self._lexicon)
        ready = [item for item in items if item.start >= self._given and item.end <= until]
        moved = [
            replace(item, start=item.start + self._before, end=item.end + self._before) for item in ready
        ]
        if ready:
            self._given = ready[-1].end
        sentences = [item.end for item in items if item.mark in (".", "?", "!") and item.end <= self._given]
        if len(sentences) > 1:  # one whole sentence stays as context
            self._text, gone = self._text[sentences[-2] :], sentences[-2]
            self._before, self._given = self._before + gone, self._given - gone
        return moved


def split_phrases(text: str, lexicon: Lexicon | None = None) -> list[list[str]]:
    """Spoken words grouped by the phrases that punctuation makes; no phrase is empty. Raises as ``spoken_words``."""
    phrases: list[list[str]] = [[]]
    for item in spoken_words(text, lexicon):
        phrases[-1].append(item.word)
        if item.mark:
            phrases.append([])
    return [phrase for phrase in phrases if phrase]


def letter_word(letter: str) -> str:
    """The spoken word that names a letter: itself, but "ay" for "a" (the word "a" is the article)."""
    return _LETTER_A if letter.lower() == "a" else letter.lower()


def letter_name_phones(letter: str) -> list[str]:
    """Phones of a letter's name: ["b", "iy"] for "b", ["ey"] for "a".

    Raises:
        VocabularyError: Not one letter of a-z or A-Z.
    """
    if not re.fullmatch("[A-Za-z]", letter):
        raise VocabularyError(f"{letter!r} is not a letter of a-z; give one letter")
    return default_lexicon().phones(letter_word(letter))


def possessive(word: str, base_phones: Sequence[str]) -> list[str]:
    """Phones of "cats'" or "cat's" from those of its base word: as they are, or with "s", "z" or "ax z"."""
    if word.endswith("'"):
        return list(base_phones)
    if base_phones[-1] in ("s", "z", "sh", "zh", "ch", "jh"):
        return [*base_phones, "ax", "z"]
    return [*base_phones, "s" if base_phones[-1] in ("p", "t", "k", "f", "th") else "z"]


@cache
def default_lexicon() -> Lexicon:
    """The shipped lexicon without additions."""
    return Lexicon()


def _check_word(word: str) -> None:
    if not _WORD.fullmatch(word):
        raise VocabularyError(
            f"{word!r} is not a spoken word (lower-case letters and apostrophes); pass text through spoken_form first"
        )


def _base(word: str) -> str | None:
    base = re.sub(r"'s?$", "", word)
    return base if base != word and _WORD.fullmatch(base) else None


@cache
def _table() -> bytes:
    try:
        return b"\n" + gzip.decompress(LEXICON_PATH.read_bytes())
    except (OSError, EOFError) as error:
        raise VocabularyError(
            f"the shipped lexicon {LEXICON_PATH.name} cannot be read: {error}; reinstall vivavoce"
        ) from error


def _look_up(word: str) -> list[str] | None:
    """Find a word's line by bisection; lines are ``\\nword ph ph``, in byte order."""
    table, key = _table(), word.encode("ascii")
    low, high = 0, len(table) - 1  # both at a newline; the line, if there is one, starts in between
    while low < high:
        start = table.rfind(b"\n", low, (low + high) // 2 + 1)
        end = table.find(b"\n", start + 1)
        found, _, phones = table[start + 1 : end].partition(b" ")
        if found == key:
            return phones.decode("ascii").split()
        if found < key:
            low = end
        else:
            high = start
    return None
