"""Text as it is spoken: words with their places in the text and the breaks between them.

One pass of one regular expression over the text, folded to ASCII first; each match becomes words, a break or nothing.
English only. What cannot be said (emoji, markup, decoration) is dropped; a letter of another script is an error,
because dropping it would change what is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vivavoce.tokens import spoken_numbers as say
from vivavoce.tokens import spoken_tables as tables

BREAKS = ("", ",", ".", "!", "?")
"""Breaks from none to strongest."""

_AROUND = 40  # characters looked at before and after a match, so that long texts stay linear
_MONTH = "|".join(say.MONTHS)
_MONTH_OR_SHORT = _MONTH + "|" + r"(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?"
_NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)"
_HALF = r"[ ]?[aApP](?:\.[mM]\b\.?|[mM]\b)"
_TOKEN = re.compile(
    rf"""
    (?P<tag></?[A-Za-z][^<>\n]*>)
  | (?P<url>\b(?:https?://|www\.)[^\s"<>]*[\w/])
  | (?P<email>\b[\w.+-]{{1,64}}@[\w-]+(?:\.[\w-]+)+)
  | (?P<date>\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}}/\d{{1,2}}/\d{{4}}\b)
  | (?P<phone>(?<![\w-])(?:\d{{3}}-)?\d{{3}}-\d{{4}}\b)
  | (?P<clock>\b\d{{1,2}}:[0-5]\d\b(?:{_HALF})?|\b\d{{1,2}}{_HALF})
  | (?P<money>[$€£¥][ ]?{_NUMBER}(?:[ ](?:thousand|million|billion|trillion)\b|(?:bn|[kKmMbBtT])\b)?)
  | (?P<ordinal>\b\d[\d,]{{0,14}}(?:st|nd|rd|th)\b)
  | (?P<decade>\b(?:\d\d)?\d0'?s\b)
  | (?P<version>(?<![\d.])\d{{1,9}}(?:\.\d{{1,9}}){{2,}})
  | (?P<fraction>(?<![\d/.])\d/\d\d?(?![\d/]))
  | (?P<measure>{_NUMBER}[ ]?(?:km/h|m/s|kmh|km|cm|mm|kg|mg|lbs?|oz|ml|ms|[kKMG]?[hH]z|[kKMGT]B|mph|kW|hrs?|mins)\b)
  | (?P<number>{_NUMBER})
  | (?P<times>(?<=\d)[ ]?[xX](?![A-Za-z']))
  | (?P<title>\b(?:[Mm]rs?|[Dd]r|[Pp]rof)\b\.?|\b(?:M[st]|Rev|Capt|Gen|Sen|Rep|Gov|Lt|Sgt|Col)\.(?=[ ][A-Z]))
  | (?P<abbreviation>\b(?i:jr|sr|vs|etc|approx|dept|inc|ltd|corp|blvd)\.|\b(?:Ave|Rd|Co)\.|\bvs\b|\betc\b
      |\b(?i:fig|vol|no|ch)\.(?=[ ]?\d)|\b(?:Mon|Tues|Wed|Thurs|Fri)\.
      |\b(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)(?:\.|(?=[ ]\d)))
  | (?P<saint>\bSt\.)
  | (?P<dotted>\b(?:[A-Za-z]\.){{2,}}(?:[A-Za-z]\b)?)
  | (?P<letters>(?<![\w'])[A-Za-z](?![\w'])(?:(?:-|,?[ ])[A-Za-z](?![\w']))+)
  | (?P<word>(?:(?<!\w)')?[A-Za-z]+(?:'[A-Za-z]+)*)
  | (?P<compare>[<>]=?)
  | (?P<mark>\.{{2,}}|--+|(?<=[ ])-(?=[ ])|[.,;:!?()\[\]{{}}])
  | (?P<line>[ ]*\n[ \n]*(?:(?:[-*+]|\#+|>+)[ ]+|(?=\d+[.)][ ]))?)
  | (?P<sign>[-+*/^=&@\#%~])
    """,
    re.VERBOSE,
)
_ARITHMETIC = re.compile(
    r"=|\d *[+*^] *\d|\d +[-/] +\d|\d *[xX] *\d"
    r"|\b(what is|what's|how much is|calculate|compute|solve|minus|plus|times)\b",
    re.IGNORECASE,
)
_YEAR_CUE = re.compile(
    r"(\b(in|since|year|until|till|before|after|during|around|circa|early|late|mid|spring|summer|autumn|winter)[ -]"
    rf"|\b(summer|year|class|war|revolution) of |\b({_MONTH_OR_SHORT})( \d+(st|nd|rd|th)?,?)? )$",
    re.IGNORECASE,
)


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


def normalise(text: str, is_word: Callable[[str], bool], letter_a: str = "ay") -> list[SpokenWord]:
    """Make spoken words of text.

    Args:
        text: English text.
        is_word: Tells whether a lower-case word is in the lexicon; long words in capitals that are not are spelled.
        letter_a: The word for the letter "a"; "ay" for voices, since the word "a" is the article.

    Raises:
        VocabularyError: A letter of a script that cannot be written in Latin letters; the message names it.
    """
    folded, places = tables.fold(text)
    items = _Reader(folded, is_word, letter_a).read()
    return [SpokenWord(word, places[start], places[end - 1] + 1, mark) for word, start, end, mark in items]


class _Reader:
    """Turns one folded text into (word, start, end, mark); a method ``read_KIND`` for each kind of token."""

    def __init__(self, text: str, is_word: Callable[[str], bool], letter_a: str) -> None:
        self.text = text
        self.is_word = is_word
        self.letter_a = letter_a
        self.shouting = not re.search("[a-z]", text) and len(re.findall("[A-Z]{2,}", text)) > 1
        self.items: list[tuple[str, int, int, str]] = []

    def read(self) -> list[tuple[str, int, int, str]]:
        """Read the whole text."""
        for match in _TOKEN.finditer(self.text):
            words: list[str] = getattr(self, f"read_{match.lastgroup}")(match)
            spans = [match.span()] * len(words)
            if match.lastgroup == "letters":
                spans = [
                    letter.span() for letter in re.compile("[A-Za-z]").finditer(self.text, *match.span())
                ]
            self.items += [(word, *span, "") for word, span in zip(words, spans, strict=True)]
            abbreviated = match.lastgroup in ("clock", "abbreviation", "dotted", "saint") and words != [
                "saint"
            ]
            if (
                abbreviated
                and match.group().endswith(".")
                and re.match(r"\W*($|[A-Z]|\n)", self.after(match))
            ):
                self.end_phrase(".")
        return self.items

    def spell(self, letters: str) -> list[str]:
        """The words that name letters."""
        return [self.letter_a if letter == "a" else letter for letter in letters.lower()]

    def end_phrase(self, mark: str) -> None:
        """Put a break after the last word, unless a stronger one is there."""
        if self.items and BREAKS.index(mark) > BREAKS.index(self.items[-1][3]):
            self.items[-1] = (*self.items[-1][:3], mark)

    def before(self, match: re.Match[str]) -> str:
        """The text shortly before a match."""
        return self.text[max(0, match.start() - _AROUND) : match.start()]

    def after(self, match: re.Match[str]) -> str:
        """The text shortly after a match."""
        return self.text[match.end() : match.end() + _AROUND]

    def begins_phrase(self) -> bool:
        """Tell whether no word of the current phrase was read yet."""
        return not self.items or bool(self.items[-1][3])

    def last_word(self) -> str:
        """The last word of the current phrase, or ""."""
        return "" if self.begins_phrase() else self.items[-1][0]

    def arithmetic(self, match: re.Match[str]) -> bool:
        """Tell whether the text around a match calculates."""
        return bool(_ARITHMETIC.search(self.before(match) + match.group() + self.after(match)))

    def between_numbers(self, match: re.Match[str]) -> bool:
        """Tell whether a number or a bracket stands on either side."""
        before, after = self.before(match), self.after(match)
        return bool(re.search(r"[\d)%] *$", before) and re.match(r" *[-(]?[$€£]?\.?\d| *\(", after))

    # Numbers

    def read_date(self, match: re.Match[str]) -> list[str]:
        parts = [int(part) for part in re.findall(r"\d+", match.group())]
        year, month, day = parts if "-" in match.group() else (parts[2], parts[0], parts[1])
        if 1 <= month <= 12 and 1 <= day <= 31:
            return say.date(day, month, year)
        return say.joined(parts)

    def read_phone(self, match: re.Match[str]) -> list[str]:
        if self.arithmetic(match):
            return say.joined([int(part) for part in match.group().split("-")], "minus")
        return say.digits(match.group())

    def read_clock(self, match: re.Match[str]) -> list[str]:
        text = match.group().lower()
        hour, minute = (*(int(part) for part in re.findall(r"\d+", text)), 0)[:2]
        if hour > 24:
            return say.joined([hour, minute], "to")
        return (
            say.clock(hour, minute)
            if text[-1].isdigit()
            else [*say.clock(hour, minute, exact=False), *self.spell("am" if "a" in text else "pm")]
        )

    def read_money(self, match: re.Match[str]) -> list[str]:
        amount, scale = _split_number(match.group()[1:])
        unit, hundredths = tables.CURRENCIES[match.group()[0]]
        return say.money(amount, unit, hundredths, tables.SCALES.get(scale.lower(), scale))

    def read_ordinal(self, match: re.Match[str]) -> list[str]:
        return say.ordinal(int(match.group()[:-2].replace(",", "")))

    def read_decade(self, match: re.Match[str]) -> list[str]:
        return say.decade(int(re.findall(r"\d+", match.group())[0]))

    def read_version(self, match: re.Match[str]) -> list[str]:
        return say.joined([int(part) for part in match.group().split(".")], "point")

    def read_fraction(self, match: re.Match[str]) -> list[str]:
        above, below = (int(part) for part in match.group().split("/"))
        if self.arithmetic(match):
            return say.joined([above, below], "divided by")
        words = say.FRACTIONS.get((above, below), "").split()
        if words and re.search(r"\d $", self.before(match)):
            return ["and", *words]  # "4 1/2"
        return words or say.joined([above, below], "over")

    def read_measure(self, match: re.Match[str]) -> list[str]:
        number, unit = _split_number(match.group())
        name, *rest = tables.UNITS[unit.lower()].split()
        plural = name if number == "1" or name.endswith("hertz") else name + "s"
        return [*say.number_words(number), plural, *rest]

    def read_number(self, match: re.Match[str]) -> list[str]:
        text, before = match.group(), self.before(match)
        value = int(text) if text.isdigit() and len(text) <= 4 else -1
        verb = re.search(r"\b(may|march) $", before)
        if 1 <= value <= 31 and not verb and re.search(rf"\b({_MONTH_OR_SHORT}) $", before, re.IGNORECASE):
            return say.ordinal(value)
        ranged = re.match(r"-[12]\d{3}\b", self.after(match)) or re.search(
            r"\b[12]\d{3}( to | or |-)$", before
        )
        dated = _YEAR_CUE.search(before) or (ranged and not self.arithmetic(match))
        if dated and (1100 <= value < 2000 or 2010 <= value < 2100):
            return say.year(value)
        return say.number_words(text)

    def read_times(self, match: re.Match[str]) -> list[str]:
        return ["times"]

    # Words

    def read_tag(self, match: re.Match[str]) -> list[str]:
        return []

    def read_url(self, match: re.Match[str]) -> list[str]:
        return _say_address(re.sub(r"^(https?://)?(www\.)?", "", match.group()).split("/")[0])

    def read_email(self, match: re.Match[str]) -> list[str]:
        return _say_address(match.group())

    def read_title(self, match: re.Match[str]) -> list[str]:
        return [tables.TITLES[match.group().rstrip(".").lower()]]

    def read_abbreviation(self, match: re.Match[str]) -> list[str]:
        return tables.ABBREVIATIONS[match.group().rstrip(".").lower()].split()

    def read_saint(self, match: re.Match[str]) -> list[str]:
        named = (
            bool(self.items)
            and self.text[match.start() - 1] == " "
            and self.text[self.items[-1][1]].isupper()
        )
        return ["saint"] if not named and re.match(" [A-Z]", self.after(match)) else ["street"]

    def read_dotted(self, match: re.Match[str]) -> list[str]:
        letters = match.group().replace(".", "").lower()
        return tables.DOTTED.get(letters) or self.spell(letters)

    def read_letters(self, match: re.Match[str]) -> list[str]:
        letters = "".join(re.findall("[A-Za-z]", match.group()))
        if letters in ("Ia", "ia"):  # "am I a", "I, a sailor"
            return ["i", "a"]
        if (
            len(letters) == 2
            and letters[0] == "a"
            and self.last_word() not in ("", "spelled", "letters", "spell")
        ):
            return ["a", *self.spell(letters[1])]  # "is there a b in cab"
        return self.spell(letters)

    def read_word(self, match: re.Match[str]) -> list[str]:
        text = match.group()
        if text.startswith("'") and not self.is_word(text.lower()):
            text = text[1:]
        word = text.lower()
        if text in tables.ROMAN and (words := self.roman(tables.ROMAN[text])):
            return words
        if text in ("C", "F") and self.last_word() == "degrees":
            return ["celsius" if text == "C" else "fahrenheit"]
        if word == "a":
            return self.spell("a") if self.is_letter_a(match) else ["a"]
        capitals = re.fullmatch(r"([A-Z]{2,})('?s)?", text)
        if capitals and not self.said(capitals[1].lower()):
            *letters, last = self.spell(capitals[1])
            return [*letters, last + "'s" if capitals[2] else last]
        return ["okay" if word == "ok" else word]

    def is_letter_a(self, match: re.Match[str]) -> bool:
        """Tell the letter from the article: "vitamin A", "plan A.", "the letter a"."""
        if self.last_word() in ("letter", "letters") or not re.match(r"[ \n\"'(*_]*[\w$]", self.after(match)):
            return True
        first = not self.items or self.items[-1][3] in (".", "!", "?")
        return match.group() == "A" and not first and not self.shouting and self.items[-1][3] != ","

    def said(self, word: str) -> bool:
        """Tell whether a word in capitals is said as a word: a known or a long one."""
        if word in tables.WORDS_IN_CAPITALS:
            return True
        if self.is_word(word):
            return self.shouting or len(word) > 3
        return len(word) > 4 and bool(re.search("[aeiouy]", word))

    def roman(self, number: int) -> list[str]:
        """Say a Roman numeral after a capitalised word: "World War II", "Henry VIII"."""
        if self.begins_phrase() or not self.text[self.items[-1][1]].isupper():
            return []
        return say.cardinal(number) if self.last_word() in tables.COUNTED else ["the", *say.ordinal(number)]

    # Breaks and signs

    def read_mark(self, match: re.Match[str]) -> list[str]:
        text = match.group()
        before, after = self.before(match)[-1:], self.after(match)[:1]
        if text == "-" and self.between_numbers(match):
            return ["minus"]
        if text == ":" and before.isdigit() and after.isdigit():
            return ["to"]  # a ratio
        if text == "." and before.isalnum() and after.isalnum():
            return ["dot"]  # "example.com"
        self.end_phrase("." if text[0] == "." else text if text in "!?" else ",")
        return []

    def read_line(self, match: re.Match[str]) -> list[str]:
        text = match.group()
        listed = re.search(r"[-*+#>] +$", text) or re.match(r"\d+[.)] ", self.after(match))
        if listed or text.count("\n") > 1:
            self.end_phrase(".")
        return []

    def read_compare(self, match: re.Match[str]) -> list[str]:
        if not re.search(r"\w *$", self.before(match)) or not re.match(r" *-?[\w.]", self.after(match)):
            return []
        words = ["less" if match.group()[0] == "<" else "greater", "than"]
        return [*words, "or", "equal", "to"] if match.group().endswith("=") else words

    def read_sign(self, match: re.Match[str]) -> list[str]:
        sign, between = match.group(), self.between_numbers(match)
        before, after = self.before(match), self.after(match)
        if sign == "-":
            if between and before[-1:] != "-":
                spaced = before.endswith(" ") or self.arithmetic(match)
                return ["minus"] if spaced else ["to"]
            return ["minus"] if re.match(r"[$€£]?\.?\d", after) and not re.search(r"[\w-]$", before) else []
        if sign == "/":
            spaced = before.endswith(" ") or self.arithmetic(match)
            return [] if not between else ["divided", "by"] if spaced else ["over"]
        if sign == "=":
            return ["equals"] if re.search(r"[\w)%] *$", before) and re.match(r" *[-\w(?$.]", after) else []
        if sign == "*":
            return ["times"] if between else []
        if sign == "^":
            return ["to", "the", "power", "of"] if re.search(r"[\w)]$", before) else []
        if sign == "#":
            return ["number"] if after[:1].isdigit() else ["sharp"] if re.search(r"\b[A-G]$", before) else []
        if sign == "~":
            return ["about"] if after[:1].isdigit() else []
        if sign == "%":
            return ["percent"] if re.search(r"[\d)] ?$", before) else []
        return {"+": ["plus"], "&": ["and"], "@": ["at"]}[sign]


def _split_number(text: str) -> tuple[str, str]:
    """Split "5.2 km" into the number and what follows it."""
    number = re.search(_NUMBER, text)
    assert number is not None, text
    return number.group(), text[number.end() :].strip()


def _say_address(text: str) -> list[str]:
    """Say a web or mail address: "dot", "at", "dash"; parts as words."""
    signs = {".": "dot", "@": "at", "-": "dash", "_": "underscore", "+": "plus"}
    words: list[str] = []
    for part in re.findall(r"[A-Za-z]+|\d+|[.@_+-]", text):
        words += say.number_words(part) if part.isdigit() else [signs.get(part, part.lower())]
    return words
