"""Scripts and speeds of languages: which letters a language has, and how fast they can be spoken."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

# script by the first word of its letters' Unicode names -> languages that are written in it, but for Latin ones
_LANGUAGES = {
    "CYRILLIC": "ru uk be bg mk sr kk ky tg mn tt ba cv os ab",
    "GREEK": "el",
    "ARABIC": "ar fa ur ps sd ug ckb",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne sa kok mai bho",
    "BENGALI": "bn as",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "ORIYA": "or",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "LAO": "lo",
    "TIBETAN": "bo dz",
    "MYANMAR": "my",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "ETHIOPIC": "am ti",
    "KHMER": "km",
    "HANGUL": "ko",
    "CJK": "zh yue cmn ja ko wuu nan",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
}
_LATIN = (
    "af az bs ca cs cy da de en es et eu fi fil fr ga gl ha haw hr ht hu id ig is it jv kk la lb ln lt lv mg mi ms mt "
    "nb nl nn no oc pl pt ro rw sk sl sn so sq sr su sv sw tl tr uz vi wo xh yo zu eng deu fra spa ita por nld vie"
)
# letters a second: the fastest and slowest speech that is believed; a script whose letters are syllables or words is
# spoken with fewer of them
_FASTEST = {"CJK": 10.0, "HIRAGANA": 16.0, "KATAKANA": 16.0, "HANGUL": 11.0, "ARABIC": 22.0, "HEBREW": 22.0}
_SLOWEST = {"CJK": 1.0, "HIRAGANA": 2.0, "KATAKANA": 2.0, "HANGUL": 1.0, "ARABIC": 2.0, "HEBREW": 2.0}
FASTEST, SLOWEST = 30.0, 3.0
PAUSE_S = 3.0  # silence that a slow recording may have besides
DIGIT_LETTERS = 5  # a digit is about so many letters long when spoken


def scripts_of(language: str) -> frozenset[str] | None:
    """Scripts in which a language is written, by the first words of Unicode names; None if it is not known here."""
    code = language.replace("_", "-").partition("-")[0].lower()
    found = {script for script, codes in _LANGUAGES.items() if code in codes.split()}
    if code in _LATIN.split():
        found.add("LATIN")
    return frozenset(found) or None


@lru_cache(maxsize=20_000)
def script(letter: str) -> str:
    """Script of a letter, by the first word of its Unicode name; "" for what is no letter."""
    if not unicodedata.category(letter).startswith("L"):
        return ""
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "").split(" ")[0]
    return {"FULLWIDTH": "LATIN", "MODIFIER": "", "IDEOGRAPHIC": "CJK"}.get(name, name)


def letters(text: str) -> Counter[str]:
    """Script -> letters of a text."""
    return Counter(found for c in text if (found := script(c)))


def spoken_s(text: str) -> tuple[float, float]:
    """Shortest and longest time in seconds that a text can believably take; (0, inf) without words.

    Digits may be short or long when spoken ("2000", "1789"), so they count for the longest time only.
    """
    counts = letters(text)
    digits = sum(c.isdigit() for c in text)
    if not counts and not digits:
        return 0.0, float("inf")
    least = sum(n / _FASTEST.get(s, FASTEST) for s, n in counts.items())
    most = sum(n / _SLOWEST.get(s, SLOWEST) for s, n in counts.items())
    return least, most + DIGIT_LETTERS * digits / SLOWEST + PAUSE_S
