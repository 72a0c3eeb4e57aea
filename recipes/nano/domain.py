"""What the bundle talks about: a closed everyday domain, generated from small tables of facts.

Every row is (kind, question, answer) in spoken lower-case words. The model never sees these tables at run time;
it learns the answers. Arithmetic facts are split once, by a fixed seed: a tenth is never trained, in text or
speech, so that "answers on facts never trained" can be measured.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DIGITS = ONES[:10]
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january february march april may june july august september october november december".split()
MONTH_DAYS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
OPPOSITES = (
    "hot cold, big small, tall short, old young, fast slow, happy sad, light dark, open closed, up down, "
    "left right, yes no, good bad, day night, black white, wet dry, hard soft, loud quiet, rich poor, "
    "strong weak, full empty, early late, high low, near far, clean dirty, heavy light, inside outside, "
    "begin end, push pull, win lose, buy sell, thick thin, sweet sour, true false, always never, first last"
)
SPELLINGS = (
    "cat dog sun cup hat red bed pen box fish bird book tree milk moon star ball cake hand rain snow blue green "
    "apple house water happy horse bread chair table music lemon river tiger mother sister garden yellow orange"
).split()
COLORS = (
    "grass green, the sky blue, snow white, blood red, a banana yellow, coal black, a lemon yellow, a tomato red, "
    "chocolate brown, the sun yellow, a cherry red, milk white, a carrot orange, a leaf green"
)
SOUNDS = (
    "dog woof, cat meow, cow moo, duck quack, sheep baa, pig oink, lion roar, bee buzz, snake hiss, owl hoot"
)
BABIES = "dog puppy, cat kitten, cow calf, sheep lamb, horse foal, bear cub, duck duckling, hen chick"
CAPITALS = (
    "france paris, england london, italy rome, spain madrid, germany berlin, japan tokyo, china beijing, "
    "russia moscow, greece athens, egypt cairo, vietnam hanoi, cuba havana, norway oslo, poland warsaw, "
    "austria vienna, ireland dublin"
)
PLURALS = (
    "mouse mice, foot feet, tooth teeth, child children, man men, woman women, goose geese, leaf leaves, "
    "knife knives, box boxes, baby babies, fish fish, sheep sheep, wolf wolves, city cities, cat cats"
)
COUNTS = (
    "legs|a spider|eight, legs|a dog|four, legs|a bird|two, legs|an ant|six, wheels|a car|four, wheels|a bike|two, "
    "sides|a triangle|three, sides|a square|four, fingers|a hand|five, eyes|a cat|two, arms|an octopus|eight"
)
FIXED = [
    ("hello", "hello"),
    ("good morning", "good morning"),
    ("good night", "good night"),
    ("how are you", "i am fine thank you"),
    ("who are you", "i am nano a very small voice"),
    ("what is your name", "my name is nano"),
    ("thank you", "you are welcome"),
    ("goodbye", "goodbye"),
    ("can you hear me", "yes i can hear you"),
    ("what can you do", "i can count spell and answer simple questions"),
    ("how many days are in a week", "seven"),
    ("how many months are in a year", "twelve"),
    ("how many hours are in a day", "twenty four"),
    ("how many minutes are in an hour", "sixty"),
    ("how many seconds are in a minute", "sixty"),
    ("what season comes after winter", "spring"),
    ("what season comes after spring", "summer"),
    ("what season comes after summer", "autumn"),
    ("what season comes after autumn", "winter"),
]


def pairs(text: str) -> list[tuple[str, str]]:
    """Read a table of the form "a dog four, a bird two"; the last word of each row is the answer."""
    rows = [row.strip().rsplit(" ", 1) for row in text.split(",")]
    return [(a, b) for a, b in rows]


def number(n: int) -> str:
    """Words of an integer in [-999, 999]."""
    if n < 0:
        return "minus " + number(-n)
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + ("" if n % 10 == 0 else " " + ONES[n % 10])
    return ONES[n // 100] + " hundred" + ("" if n % 100 == 0 else " " + number(n % 100))


@dataclass(frozen=True)
class Item:
    """One question with its answer; ``fact`` names what must be known, shared by all its phrasings."""

    kind: str
    question: str
    answer: str
    fact: str


def _arithmetic() -> list[Item]:
    rows = []
    facts = [("plus", a, b, a + b) for a in range(21) for b in range(21)]
    facts += [("minus", a, b, a - b) for a in range(21) for b in range(a + 1)]
    facts += [("times", a, b, a * b) for a in range(11) for b in range(11)]
    for op, a, b, c in facts:
        body = f"{number(a)} {op} {number(b)}"
        for form in (f"what is {body}", f"how much is {body}", body):
            rows.append(Item("arithmetic", form, number(c), body))
    return rows


def _numbers() -> list[Item]:
    rows = []
    for n in range(100):
        rows.append(Item("neighbour", f"what comes after {number(n)}", number(n + 1), f"after {n}"))
        if n:
            rows.append(Item("neighbour", f"what comes before {number(n)}", number(n - 1), f"before {n}"))
        if n <= 30:
            parity = "odd" if n % 2 else "even"
            rows.append(Item("parity", f"is {number(n)} even or odd", parity, f"parity {n}"))
    for n in range(1, 21):
        rows.append(Item("double", f"what is double {number(n)}", number(2 * n), f"double {n}"))
        rows.append(Item("double", f"what is half of {number(2 * n)}", number(n), f"half {2 * n}"))
    for a in range(21):
        for b in range(21):
            if a != b:
                big, small = number(max(a, b)), number(min(a, b))
                rows.append(
                    Item("compare", f"which is bigger {number(a)} or {number(b)}", big, f"big {a} {b}")
                )
                rows.append(
                    Item("compare", f"which is smaller {number(a)} or {number(b)}", small, f"small {a} {b}")
                )
    for a in range(1, 16):
        for b in range(a + 2, min(a + 6, 21)):
            up = " ".join(number(n) for n in range(a, b + 1))
            rows.append(Item("count", f"count from {number(a)} to {number(b)}", up, f"count {a} {b}"))
    for b in range(3, 9):
        rows.append(Item("count", f"count to {number(b)}", " ".join(ONES[1 : b + 1]), f"count {b}"))
    return rows


def _calendar() -> list[Item]:
    rows = []
    for names, what in ((DAYS, "day"), (MONTHS, "month")):
        for i, name in enumerate(names):
            after, before = names[(i + 1) % len(names)], names[i - 1]
            rows.append(Item("calendar", f"what {what} comes after {name}", after, f"after {name}"))
            rows.append(Item("calendar", f"what {what} comes before {name}", before, f"before {name}"))
    for month, days in MONTH_DAYS.items():
        rows.append(Item("calendar", f"how many days are in {month}", number(days), f"days {month}"))
    for hours in range(1, 7):
        for hour in range(1, 13):
            then = (hour + hours - 1) % 12 + 1
            unit = "hour" if hours == 1 else "hours"
            question = f"what time is it {number(hours)} {unit} after {number(hour)} o'clock"
            rows.append(Item("clock", question, f"{number(then)} o'clock", f"clock {hours} {hour}"))
    return rows


def _words() -> list[Item]:
    rows = []
    seen: set[str] = set()
    for a, b in pairs(OPPOSITES):
        for x, y in ((a, b), (b, a)):
            if x not in seen:  # "light" opposes both dark and heavy: the first pair counts
                seen.add(x)
                for form in (f"what is the opposite of {x}", f"the opposite of {x}"):
                    rows.append(Item("opposite", form, y, f"opposite {x}"))
    for word in SPELLINGS:
        for form in (f"how do you spell {word}", f"spell {word}"):
            rows.append(Item("spelling", form, " ".join(word), f"spell {word}"))
    for thing, color in pairs(COLORS):
        rows.append(Item("color", f"what color is {thing}", color, f"color {thing}"))
    for animal, sound in pairs(SOUNDS):
        rows.append(Item("animal", f"what does a {animal} say", sound, f"sound {animal}"))
    for animal, baby in pairs(BABIES):
        rows.append(Item("animal", f"what is a baby {animal} called", baby, f"baby {animal}"))
    for country, city in pairs(CAPITALS):
        for form in (f"what is the capital of {country}", f"the capital of {country}"):
            rows.append(Item("capital", form, city, f"capital {country}"))
    for one, many in pairs(PLURALS):
        for form in (f"what is the plural of {one}", f"the plural of {one}"):
            rows.append(Item("plural", form, many, f"plural {one}"))
    for row in COUNTS.split(", "):
        part, thing, n = row.split("|")
        rows.append(Item("count of", f"how many {part} does {thing} have", n, f"{part} {thing}"))
    rows += [Item("talk", q, a, q) for q, a in FIXED]
    return rows


def all_items() -> list[Item]:
    """Every closed question of the domain (digit strings and "say ..." are drawn by ``draw_open``)."""
    return _arithmetic() + _numbers() + _calendar() + _words()


ANIMALS = [a for a, _ in pairs(SOUNDS)] + ["horse", "bear", "bird", "fish", "mouse"]
SHADES = "red blue green yellow black white brown orange".split()


def draw_open(rng: random.Random) -> Item:
    """A digit string, a number, or a sentence to repeat; the answer repeats what was said."""
    u = rng.random()
    if u < 0.35:
        text = " ".join(rng.choice(DIGITS) for _ in range(rng.randint(2, 6)))
        return Item("digits", text, text, text)
    if u < 0.5:
        text = number(rng.randrange(1000))
        return Item("number", text, text, text)
    verb = rng.choice(["say", "repeat"])
    if u < 0.7:
        text = f"the {rng.choice(SHADES)} {rng.choice(ANIMALS)}"
    elif u < 0.85:
        text = " ".join(rng.choice(DIGITS) for _ in range(rng.randint(1, 4)))
    else:
        text = f"{number(rng.randint(2, 20))} {rng.choice(SHADES)} {rng.choice(['birds', 'cats', 'dogs'])}"
    return Item("say", f"{verb} {text}", text, text)


def held_out_facts(items: list[Item], share: float = 0.1, seed: int = 7) -> set[str]:
    """Arithmetic facts that are never trained, in text or speech."""
    facts = sorted({i.fact for i in items if i.kind == "arithmetic"})
    return set(random.Random(seed).sample(facts, int(len(facts) * share)))


def held_out_questions(items: list[Item], share: float = 0.08, seed: int = 8) -> set[str]:
    """Spoken sentences that are never heard in training (their facts are, in text or another phrasing)."""
    questions = sorted({i.question for i in items if i.kind not in ("talk", "digits", "say", "number")})
    return set(random.Random(seed).sample(questions, int(len(questions) * share)))


def vocabulary() -> list[str]:
    """All words of the domain, sorted; letters and digits included."""
    rng = random.Random(0)
    text = " ".join(f"{i.question} {i.answer}" for i in all_items())
    text += " " + " ".join(f"{i.question} {i.answer}" for i in (draw_open(rng) for _ in range(4000)))
    text += " " + " ".join(chr(c) for c in range(ord("a"), ord("z") + 1)) + " hundred"
    return sorted(set(text.split()))
