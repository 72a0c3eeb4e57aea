"""What ``spoken_text`` knows about English writing: characters, abbreviations, units, words in capitals."""

# ruff: noqa: RUF001 - the look-alikes are the point
from __future__ import annotations

import unicodedata

from vivavoce.base.errors import VocabularyError


def _pairs(text: str) -> dict[str, str]:
    """Read "mr=mister mrs=misses"; "_" stands for a space."""
    return {key: value.replace("_", " ") for key, _, value in (pair.partition("=") for pair in text.split())}


FOLDS = {
    **dict.fromkeys("‘’ʼ`´′", "'"),
    **dict.fromkeys("“”„«»″", '"'),
    **dict.fromkeys("‐‑‒–−", "-"),
    **dict.fromkeys("—―", " -- "),
    **dict.fromkeys("•·●▪■◦‣", ". "),
    **{"…": "...", "×": "*", "÷": " divided by ", "±": " plus or minus ", "≈": " about "},
    **{"≤": " <= ", "≥": " >= ", "√": " square root of ", "∞": " infinity ", "°": " degrees "},
    **{"½": " one half ", "¼": " one quarter ", "¾": " three quarters ", "²": " squared ", "³": " cubed "},
    **{"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "th", "þ": "th", "ı": "i"},
    **{"Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D", "Þ": "Th", "€": "€", "£": "£", "¥": "¥"},
    **{
        letter: f" {name} "
        for letter, name in _pairs(
            "α=alpha β=beta γ=gamma δ=delta Δ=delta θ=theta λ=lambda μ=mu µ=mu π=pi σ=sigma ω=omega Ω=omega"
        ).items()
    },
}
"""Characters outside ASCII that have a meaning; other Latin letters lose their accents."""

CURRENCIES = {"$": ("dollar", "cents"), "€": ("euro", "cents"), "£": ("pound", "pence"), "¥": ("yen", "")}
SCALES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion", "t": "trillion"}

TITLES = _pairs(
    "mr=mister mrs=misses ms=miz dr=doctor prof=professor rev=reverend capt=captain gen=general sen=senator "
    "rep=representative gov=governor lt=lieutenant sgt=sergeant col=colonel mt=mount"
)
"""Before a name: their full stop never ends a sentence."""

ABBREVIATIONS = _pairs(
    "jr=junior sr=senior vs=versus etc=et_cetera approx=approximately dept=department inc=incorporated ltd=limited "
    "corp=corporation ave=avenue blvd=boulevard rd=road co=company fig=figure vol=volume no=number ch=chapter "
    "jan=january feb=february mar=march apr=april jun=june jul=july aug=august sep=september sept=september "
    "oct=october nov=november dec=december mon=monday tues=tuesday wed=wednesday thurs=thursday fri=friday"
)
DOTTED = {"eg": ["for", "example"], "ie": ["that", "is"]}
"""Abbreviations with inner full stops that are not spelled."""

UNITS = _pairs(
    "km=kilometer cm=centimeter mm=millimeter kg=kilogram mg=milligram lb=pound lbs=pound oz=ounce ml=milliliter "
    "ms=millisecond hz=hertz khz=kilohertz mhz=megahertz ghz=gigahertz kb=kilobyte mb=megabyte gb=gigabyte "
    "tb=terabyte mph=mile_per_hour kmh=kilometer_per_hour km/h=kilometer_per_hour m/s=meter_per_second "
    "kw=kilowatt hr=hour hrs=hour mins=minute"
)

WORDS_IN_CAPITALS = frozenset(
    "a i add all and any are bad be big but by can do for get gif go god had has he her hi him his how i if in is it's "
    "lol me my new no not now of off oh ok on one or our out pin ram rom see she sim so ten the to too two up was way "
    "we why wow yes you".split()
)
"""Short words that stay words in capitals ("I did NOT"); other capitals of two or three letters are spelled."""

ROMAN = {
    "II": 2,
    "III": 3,
    "IV": 4,
    "VI": 6,
    "VII": 7,
    "VIII": 8,
    "IX": 9,
    "XI": 11,
    "XII": 12,
    "XIV": 14,
    "XVI": 16,
}
COUNTED = frozenset(
    "war part chapter act volume type phase level book section title episode figure table".split()
)
"""Words after which a Roman numeral is a number; after other capitalised words it is a king's ordinal."""


def fold(text: str) -> tuple[str, list[int]]:
    """Fold text to ASCII (and currency signs); also tell the original position of every folded character.

    Raises:
        VocabularyError: A letter of a script that cannot be written in Latin letters; the message names it.
    """
    pieces = [_fold_character(character, position) for position, character in enumerate(text)]
    return "".join(pieces), [position for position, piece in enumerate(pieces) for _ in piece]


def _fold_character(character: str, position: int) -> str:
    if character in FOLDS:
        return FOLDS[character]
    if character.isascii():
        return character if character.isprintable() or character == "\n" else " "
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    plain = "".join(part for part in unicodedata.normalize("NFKD", character) if part.isascii())
    if plain:
        return plain
    if category[0] == "L":
        name = unicodedata.name(character, "without a name")
        raise VocabularyError(
            f"letter {character!r} ({name}) at position {position} is not Latin, and this voice speaks English only; "
            "write it in Latin letters"
        )
    return "" if category[0] in "MC" else " "
