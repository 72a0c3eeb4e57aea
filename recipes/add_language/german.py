"""The worked example: a closed everyday domain in German, and how its sounds are written with the voice's phones.

Another language needs a module with the same five names: ``LANGUAGE``, ``VOICES``, ``items``, ``outside`` and
``PHONES_OF`` (espeak-ng's IPA -> phones of tokens/phones.py). Words are written twice: as they are spelled, for the
synthesizer, and folded to a-z as the product folds typed text ("fünf" -> "funf"), for tokens.
"""

# ruff: noqa: RUF001 - IPA
from __future__ import annotations

import random
from collections.abc import Iterator

from domain import Item

from vivavoce.tokens.spoken_tables import fold

LANGUAGE = "german"
SPEAKER = "de"
"""The espeak-ng voice that the model learns to speak with."""

VOICES = tuple(f"de+{v}" for v in "m1 m3 m5 m7 f1 f2 f4 Alex Andy Annie Gene Lee klatt2 Mike".split())
NEW_VOICES = ("de+linda", "de+max", "de+m8")
"""Never heard in training."""

ONES = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
DAYS = "montag dienstag mittwoch donnerstag freitag samstag sonntag".split()
MONTHS = "januar februar märz april mai juni juli august september oktober november dezember".split()
OPPOSITES = (
    "heiß kalt, groß klein, alt jung, schnell langsam, hell dunkel, gut schlecht, schwarz weiß, nass trocken, "
    "hart weich, laut leise, reich arm, stark schwach, voll leer, früh spät, hoch tief, schwer leicht, "
    "oben unten, links rechts"
)
COLORS = (
    "das gras grün, der himmel blau, der schnee weiß, das blut rot, die banane gelb, die kohle schwarz, "
    "die zitrone gelb, "
    "die tomate rot, die schokolade braun, die sonne gelb"
)
CAPITALS = (
    "frankreich paris, england london, italien rom, spanien madrid, deutschland berlin, japan tokio, "
    "polen warschau"
)
TALK = (
    ("hallo", "hallo"), ("guten morgen", "guten morgen"), ("guten abend", "guten abend"), ("gute nacht", "gute nacht"),
    ("wie geht es dir", "mir geht es gut danke"), ("wer bist du", "ich bin nano eine sehr kleine stimme"),
    ("wie heißt du", "ich heiße nano"), ("danke", "bitte"), ("auf wiedersehen", "auf wiedersehen"),
    ("kannst du mich hören", "ja ich kann dich hören"), ("wie viele tage hat eine woche", "sieben"),
    ("wie viele monate hat ein jahr", "zwölf"), ("wie viele stunden hat ein tag", "vierundzwanzig"),
)  # fmt: skip
OUTSIDE = {
    "wer": "der lehrer|die ärztin|mein bruder|unsere katze|niemand|jeder|peter|eine frau",
    "tut": "findet|öffnet|kauft|sieht|malt|sucht|bringt|vergisst|zeigt|trägt",
    "was": "das fenster|den schlüssel|ein buch|die brücke|seinen mantel|eine flasche|das bild|den brief",
    "wann": "heute|gestern|im garten|auf der straße|ohne licht|am fluss|hinter dem haus|im winter",
}

PHONES_OF = {
    "aɪ": "ay", "aʊ": "aw", "ɔø": "oy", "ɔʏ": "oy", "ɔɪ": "oy", "tʃ": "ch", "dʒ": "jh", "ts": "t s", "pf": "p f",
    "a": "aa", "ɑ": "aa", "ɐ": "ar", "ə": "ax", "ɜ": "ar", "ɛ": "eh", "e": "ee", "i": "iy", "ɪ": "ih", "o": "oo",
    "ɔ": "ao", "u": "uw", "ʊ": "uh", "y": "ue", "ʏ": "ue", "ø": "oe", "œ": "oe", "b": "b", "d": "d", "f": "f", "ɡ": "g",
    "g": "g", "h": "hh", "j": "y", "k": "k", "l": "l", "m": "m", "n": "n", "ŋ": "ng", "p": "p", "r": "rr",
    "ɾ": "rr", "ʁ": "rr",
    "s": "s", "ʃ": "sh", "t": "t", "v": "v", "w": "v", "x": "ach", "ç": "ich", "z": "z", "ʒ": "zh", "θ": "th",
}  # fmt: skip
"""IPA of espeak-ng -> phones; the longest match counts, lengths and stresses are dropped."""


LIKE_PHONES = {
    "ue": "iy uw", "oe": "er ow", "ee": "ey ih", "oo": "ow ao", "ich": "sh hh", "ach": "hh k",
    "rr": "r hh", "ar": "er ah",
}  # fmt: skip
"""Phones of ADDED_PHONES -> older ones that they start like."""

MEANINGS = (
    "null zero, eins one, zwei two, drei three, vier four, fünf five, sechs six, sieben seven, acht eight, neun nine, "
    "zehn ten, elf eleven, zwölf twelve, dreizehn thirteen, vierzehn fourteen, fünfzehn fifteen, sechzehn sixteen, "
    "siebzehn seventeen, achtzehn eighteen, neunzehn nineteen, zwanzig twenty, dreißig thirty, vierzig forty, "
    "fünfzig fifty, sechzig sixty, siebzig seventy, achtzig eighty, neunzig ninety, mal times, ist is, was what, "
    "montag monday, dienstag tuesday, mittwoch wednesday, donnerstag thursday, freitag friday, samstag saturday, "
    "sonntag sunday, januar january, februar february, märz march, mai may, juni june, juli july, oktober october, "
    "dezember december, nach after, vor before, tag day, monat month, kommt comes, heiß hot, kalt cold, groß big, "
    "klein small, alt old, jung young, gut good, schlecht bad, schwarz black, weiß white, rot red, grün green, "
    "blau blue, gelb yellow, braun brown, hallo hello, farbe color, hauptstadt capital, gegenteil opposite"
)
"""Words whose embedding starts like that of an English one; all others start at the mean. Optional."""


def words_of(text: str) -> str:
    """Spelled text as the words that tokens name: folded, lower case."""
    return fold(text.lower())[0]


def number(n: int) -> str:
    """The word of 0 to 99."""
    if n < 13:
        return ONES[n]
    if n < 20:
        return {16: "sech", 17: "sieb"}.get(n, ONES[n - 10]) + "zehn"
    ten = TENS[n // 10 - 2]
    return ten if n % 10 == 0 else f"{'ein' if n % 10 == 1 else ONES[n % 10]}und{ten}"


def items() -> list[Item]:
    """Every closed question."""
    rows = [Item("talk", q, a, q) for q, a in TALK]
    sums = [("plus", a, b, a + b) for a in range(11) for b in range(11)]
    sums += [("minus", a, b, a - b) for a in range(11) for b in range(a + 1)]
    sums += [("mal", a, b, a * b) for a in range(10) for b in range(10)]
    for op, a, b, c in sums:
        body = f"{number(a)} {op} {number(b)}"
        rows += [Item("sum", f"{form}{body}", number(c), body) for form in ("was ist ", "wie viel ist ")]
    for n in range(99):
        rows.append(Item("neighbour", f"was kommt nach {number(n)}", number(n + 1), f"nach {n}"))
        rows.append(Item("number", number(n), number(n), f"zahl {n}"))
    for names, what in ((DAYS, "welcher tag"), (MONTHS, "welcher monat")):
        for i, name in enumerate(names):
            rows.append(
                Item("calendar", f"{what} kommt nach {name}", names[(i + 1) % len(names)], f"nach {name}")
            )
            rows.append(Item("calendar", f"{what} kommt vor {name}", names[i - 1], f"vor {name}"))
    for a, b in _pairs(OPPOSITES):
        for x, y in ((a, b), (b, a)):
            for form in ("was ist das gegenteil von", "das gegenteil von"):
                rows.append(Item("opposite", f"{form} {x}", y, f"gegenteil {x}"))
    rows += [
        Item("color", f"welche farbe hat {thing}", color, f"farbe {thing}") for thing, color in _pairs(COLORS)
    ]
    for country, city in _pairs(CAPITALS):
        rows.append(Item("capital", f"was ist die hauptstadt von {country}", city, f"hauptstadt {country}"))
    return rows


def outside(rng: random.Random) -> str:
    """A sentence that must be refused."""
    return " ".join(rng.choice(OUTSIDE[slot].split("|")) for slot in ("wer", "tut", "was", "wann"))


def held_out_facts(share: float = 0.1, seed: int = 7) -> set[str]:
    """Sums that are never trained, typed or spoken."""
    facts = sorted({i.fact for i in items() if i.kind == "sum"})
    return set(random.Random(seed).sample(facts, int(len(facts) * share)))


def held_out_questions(share: float = 0.12, seed: int = 8) -> set[str]:
    """Questions that are never heard in training; every word of theirs is heard in others."""
    questions = sorted({i.question for i in items() if i.kind in ("sum", "neighbour", "opposite")})
    kept = set(random.Random(seed).sample(questions, int(len(questions) * share)))
    heard = {word for i in items() if i.question not in kept for word in i.question.split()}
    return {q for q in kept if set(q.split()) <= heard}


def meanings() -> dict[str, str]:
    """Folded word -> the English word that its embedding starts like."""
    return {words_of(a): b for a, b in _pairs(MEANINGS)}


def vocabulary() -> list[str]:
    """All words, folded, sorted."""
    rows = [words_of(f"{i.question} {i.answer}") for i in items()]
    return sorted(set(" ".join(rows).split()))


def phones(ipa: str) -> list[str]:
    """Phones of espeak-ng's IPA.

    Raises:
        ValueError: A sign that PHONES_OF lacks.
    """
    return list(_phones(ipa))


def _phones(ipa: str) -> Iterator[str]:
    at = 0
    while at < len(ipa):
        size = next((n for n in (2, 1) if ipa[at : at + n] in PHONES_OF), 0)
        if size:
            yield from PHONES_OF[ipa[at : at + size]].split()
        elif ipa[at] not in "ˈˌː?ʔ_.-\u0303\u032f\u0329 \u0361":
            raise ValueError(f"IPA {ipa[at]!r} in {ipa!r} has no phone; add it to PHONES_OF.")
        at += size or 1


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in (row.strip().rsplit(" ", 1) for row in text.split(","))]
