"""German: a closed everyday domain, and how its sounds are written with the voice's phones."""

# ruff: noqa: RUF001 - IPA
from __future__ import annotations

from functools import partial

from language import Forms, Language, closed_questions

VARIANTS = "m1 m3 m5 m7 f1 f2 f4 Alex Andy Annie Gene Lee klatt2 Mike".split()
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


def number(n: int) -> str:
    """The word of 0 to 99."""
    if n < 13:
        return ONES[n]
    if n < 20:
        return {16: "sech", 17: "sieb"}.get(n, ONES[n - 10]) + "zehn"
    ten = TENS[n // 10 - 2]
    return ten if n % 10 == 0 else f"{'ein' if n % 10 == 1 else ONES[n % 10]}und{ten}"


FORMS = Forms(
    operations=("plus", "minus", "mal"),
    sums=("was ist {}", "wie viel ist {}"),
    next_number="was kommt nach {}",
    calendars=(
        (DAYS, "welcher tag kommt nach {}", "welcher tag kommt vor {}"),
        (MONTHS, "welcher monat kommt nach {}", "welcher monat kommt vor {}"),
    ),
    opposites=("was ist das gegenteil von {}", "das gegenteil von {}"),
    color="welche farbe hat {}",
    capital="was ist die hauptstadt von {}",
)
ITEMS = partial(closed_questions, FORMS, number, TALK, OPPOSITES, COLORS, CAPITALS)

GERMAN = Language(
    name="german", speaker="de", voices=tuple(f"de+{v}" for v in VARIANTS), new_voices=("de+linda", "de+max", "de+m8"),
    number=number, items=ITEMS, outside_words=OUTSIDE, phones_of=PHONES_OF, meaning_pairs=MEANINGS,
)  # fmt: skip
