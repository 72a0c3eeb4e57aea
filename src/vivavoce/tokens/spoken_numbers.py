"""Numbers as American English says them, in lower-case words without "and" or hyphens."""

from __future__ import annotations

import re

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ ten twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = ("", "thousand", "million", "billion", "trillion")
MAX_DIGITS = 15  # up to hundreds of trillions; longer numbers are said digit by digit
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
MONTHS = ("january february march april may june july august september october november december").split()
FRACTIONS = {
    (1, 2): "one half",
    (1, 3): "one third",
    (2, 3): "two thirds",
    (1, 4): "one quarter",
    (3, 4): "three quarters",
    (1, 5): "one fifth",
    (1, 8): "one eighth",
    (1, 10): "one tenth",
}


def cardinal(number: int) -> list[str]:
    """Say an integer: 1,205 is ["one", "thousand", "two", "hundred", "five"]; below zero "minus" comes first."""
    if number < 0:
        return ["minus", *cardinal(-number)]
    if len(str(number)) > MAX_DIGITS:
        return digits(str(number))
    if number < 20:
        return [ONES[number]]
    words: list[str] = []
    for power in range(len(SCALES) - 1, -1, -1):
        group = number // 1000**power % 1000
        if group:
            words += _below_thousand(group)
            if power:
                words.append(SCALES[power])
    return words


def digits(text: str) -> list[str]:
    """Say every digit of a string by itself."""
    return [ONES[int(digit)] for digit in text if digit.isdigit()]


def number_words(text: str) -> list[str]:
    """Say a number as it is written: "1,000", "007" (digit by digit), "3.14", ".5", with or without a "-"."""
    text = text.replace(",", "")
    if text.startswith("-"):
        return ["minus", *number_words(text[1:])]
    whole, point, rest = text.partition(".")
    by_digits = len(whole) > MAX_DIGITS or re.match("0.", whole)
    words = digits(whole) if by_digits else cardinal(int(whole)) if whole else []
    return [*words, "point", *digits(rest)] if point else words


def joined(numbers: list[int], joint: str = "") -> list[str]:
    """Say integers with words in between: "three to two"."""
    first, *rest = [cardinal(number) for number in numbers]
    return first + [word for words in rest for word in (*joint.split(), *words)]


def ordinal(number: int) -> list[str]:
    """Say an ordinal: 21 is ["twenty", "first"]."""
    *words, last = cardinal(number)
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return [*words, ORDINALS.get(last, regular)]


def year(number: int) -> list[str]:
    """Say a year of four digits: 1999 "nineteen ninety nine", 1905 "nineteen oh five", 2005 "two thousand five"."""
    century, rest = divmod(number, 100)
    if not 1000 <= number <= 9999 or (century % 10 == 0 and rest < 10):
        return cardinal(number)
    if rest == 0:
        return [*cardinal(century), "hundred"]
    return [*cardinal(century), *(["oh"] if rest < 10 else []), *cardinal(rest)]


def decade(number: int) -> list[str]:
    """Say a decade: 1990 is ["nineteen", "nineties"], 90 is ["nineties"], 2000 is ["two", "thousands"]."""
    *words, last = year(number) if number >= 1000 else cardinal(number)
    return [*words, last[:-1] + "ies" if last.endswith("y") else last + "s"]


def clock(hour: int, minute: int, exact: bool = True) -> list[str]:
    """Say a time of day: 5:00 "five o'clock", 3:05 "three oh five", 3:30 "three thirty".

    Args:
        hour: 0 to 24.
        minute: 0 to 59.
        exact: Say "o'clock" (after 12 "hundred") at full hours; False where "a m" or "p m" follows.
    """
    words = cardinal(hour)
    if minute:
        return [*words, *(["oh"] if minute < 10 else []), *cardinal(minute)]
    return [*words, "o'clock" if hour <= 12 else "hundred"] if exact else words


def date(day: int, month: int, year_number: int | None = None) -> list[str]:
    """Say a date: "november twentieth twenty twenty six"."""
    return [MONTHS[month - 1], *ordinal(day), *(year(year_number) if year_number is not None else [])]


def money(amount: str, unit: str, subunit: str, scale: str = "") -> list[str]:
    """Say an amount: "5.25" dollars is "five dollars and twenty five cents", with scale "million" a decimal.

    Args:
        amount: Digits, perhaps with commas and a decimal point.
        unit: Singular of the currency ("dollar"); yen and the like do not change in the plural.
        subunit: Plural of its hundredth ("cents"), or "" where there is none.
        scale: A word after the number, or "".
    """
    plural = unit if unit in ("yen", "won") else unit + "s"
    whole, _, rest = amount.replace(",", "").partition(".")
    if scale or len(whole) > MAX_DIGITS:
        return [*number_words(amount), *scale.split(), plural]
    if subunit and len(rest) == 2:
        units, parts = int(whole or 0), int(rest)
        words = [*cardinal(units), unit if units == 1 else plural] if units or not parts else []
        if parts:
            words += ["and"] if words else []
            words += [*cardinal(parts), _singular(subunit) if parts == 1 else subunit]
        return words
    return [*number_words(amount), unit if amount == "1" else plural]


def _singular(plural: str) -> str:
    return "penny" if plural == "pence" else plural.removesuffix("s")


def _below_thousand(number: int) -> list[str]:
    words = [ONES[number // 100], "hundred"] if number >= 100 else []
    rest = number % 100
    if rest >= 20:
        words.append(TENS[rest // 10])
        rest %= 10
        if rest:
            words.append(ONES[rest])
    elif rest:
        words.append(ONES[rest])
    return words
