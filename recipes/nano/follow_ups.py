"""What can be asked about what was said before: "and times two", "what about june", "what was my first question".

``reply`` is the one place that knows the right answer: from the turns so far and the next question it makes the next
turn, or None where the question does not follow. Training draws conversations with it and tests score with it.
A step such as "and plus three" after "nine" is the fact "nine plus three": facts that the domain holds out are held
out here too, and a tenth of the steps that the domain does not have ("fifty two plus three").
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from domain import (
    CAPITALS,
    COLORS,
    DAYS,
    MONTHS,
    OPPOSITES,
    SHADES,
    SPELLINGS,
    Item,
    all_items,
    draw_open,
    held_out_facts,
    number,
    pairs,
    vocabulary,
)
from full_sentences import IN_A_SENTENCE, in_full, sentence_items

LARGEST = 100
UNKNOWN = "i do not know"
NAMES = "anna ben carla david emma frank grace henry julia kevin laura oscar".split()
OPERATIONS = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}
VALUES = {number(n): n for n in range(-LARGEST, LARGEST + 1)}
SPELLABLE = frozenset(
    [*SPELLINGS, *(number(n) for n in range(13)), *SHADES, *DAYS]
    + [word for table in (COLORS, CAPITALS) for _, word in pairs(table)]
    + [word for pair in pairs(OPPOSITES) for word in pair]
)
TEMPLATES = (
    *(f"{a}the {what} of {{}}" for what in ("capital", "opposite", "plural") for a in ("", "what is ", "tell me ")),
    "how many days are in {}", "tell me how many days are in {}", "what color is {}", "tell me what color {} is",
    "what does a {} say", "tell me what a {} says", "what is a baby {} called", "tell me what a baby {} is called",
    "how do you spell {}", "spell {}", "is {} even or odd", "what is double {}",
    *(f"how many {part} does {{}} have" for part in ("legs", "wheels", "sides")),
    *(f"what {what} comes {way} {{}}" for what in ("day", "month") for way in ("after", "before")),
)  # fmt: skip
"""Questions about one thing; "what about italy" asks the same about another."""

STEPS = ("and {op} {k}", "{op} {k}")
HALVES = {"and double that": "double", "and half of that": "half"}
NEXT = {"and after that": 1, "what comes after that": 1, "and before that": -1, "what comes before that": -1}
ABOUT = ("what about {}", "and {}")
AGAIN = ("say that again", "repeat that", "what did you say")
OPPOSITE = ("and the opposite", "what is the opposite of that")
SPELL = ("how do you spell that", "spell that")
ASKED = {"what was my first question": 0, "what was my last question": -1}
IN_FULL = "in a sentence"
TOLD = {
    "my name is {}": ("hello {}", "what is my name", "your name is {}"),
    "my favorite color is {}": ("{} is a nice color", "what is my favorite color", "your favorite color is {}"),
    "remember the number {}": ("i will remember {}", "what was the number", "the number was {}"),
}  # fmt: skip
"""What may be told: the reply, the later question and its answer."""

TELLABLE = {
    "my name is {}": NAMES, "my favorite color is {}": SHADES,
    "remember the number {}": [number(n) for n in range(100)],
}  # fmt: skip
FAMILIES = ("step", "half", "next", "about", "again", "opposite", "spell", "asked", "told", "full")


@dataclass(frozen=True)
class Turn:
    """A question with its answer and what later turns may build on.

    Attributes:
        family: "" for a question that needs nothing before it, else one of FAMILIES.
        short: The answer without its sentence; what "that" is.
        full: The answer as a sentence, "" where there is none.
        template: Of TEMPLATES, what "what about" repeats; "" if it cannot.
        fact: What must be known.
    """

    question: str
    answer: str
    short: str
    family: str = ""
    full: str = ""
    template: str = ""
    fact: str = ""

    @property
    def value(self) -> int | None:
        return VALUES.get(self.short)


@cache
def _closed() -> dict[str, Item]:
    return {item.question: item for item in all_items()}


@cache
def _in_sentences() -> dict[str, Item]:
    return {item.question: item for item in sentence_items()}


@cache
def _short_answers() -> dict[str, str]:
    """Short answers of the questions that want a sentence."""
    found = {}
    for item in all_items():
        if full := in_full(item):
            found[full[0]] = found[item.question + IN_A_SENTENCE] = item.answer
    return found


def _template_of(question: str) -> str:
    for template in TEMPLATES:
        before, after = template.split("{}")
        inner = question.removeprefix(before).removesuffix(after)
        if before + inner + after == question and about(template, inner):
            return template
    return ""


def about(template: str, thing: str) -> Item | None:
    """The question of a template about a thing, if the domain has it."""
    question = template.format(thing)
    return _closed().get(question) or _in_sentences().get(question)


@cache
def things(template: str) -> tuple[str, ...]:
    """What a template's question can be asked about."""
    before, after = template.split("{}")
    rows = [q for q in (*_closed(), *_in_sentences()) if not q.endswith(IN_A_SENTENCE)]
    found = (q[len(before) : len(q) - len(after)] for q in rows if q.startswith(before) and q.endswith(after))
    return tuple(sorted({thing for thing in found if about(template, thing)}))


@cache
def opening(question: str, answer: str = "") -> Turn:
    """A turn that needs nothing before it; ``answer`` is for what the closed tables do not have (digits, "say")."""
    if item := _closed().get(question):
        full = in_full(item)
        return Turn(
            question, item.answer, item.answer, "", full[1] if full else "", _template_of(question), item.fact
        )
    if item := _in_sentences().get(question):
        short, asked = _short_answers()[question], question
        if question.endswith(IN_A_SENTENCE):  # "what about italy" then wants a sentence too
            full = in_full(_closed()[question.removesuffix(IN_A_SENTENCE)])
            asked = full[0] if full else question
        return Turn(question, item.answer, short, "", item.answer, _template_of(asked), item.fact)
    if told := _told(question):
        return told
    return Turn(question, answer, answer)


def _told(question: str) -> Turn | None:
    for form, (reply_form, _, _) in TOLD.items():
        thing = question.removeprefix(form.removesuffix("{}"))
        if thing != question and thing in TELLABLE[form]:
            return Turn(question, reply_form.format(thing), "" if thing in NAMES else thing)
    return None


@cache
def held_out_steps(share: float = 0.1, seed: int = 9) -> frozenset[str]:
    """Facts of steps that are never trained: the domain's, and a tenth of those it does not have."""
    domain = {item.fact for item in all_items() if item.kind == "arithmetic"}
    steps = sorted(f for f in (_step_fact(v, op, k) for v in range(LARGEST + 1) for op, k in _amounts()) if f)
    new = [fact for fact in steps if fact not in domain]
    return frozenset(held_out_facts(all_items())) | set(
        random.Random(seed).sample(new, int(len(new) * share))
    )


def _amounts() -> list[tuple[str, int]]:
    return [(op, k) for op in OPERATIONS for k in range(2 if op == "times" else 1, 11)]


def _step_fact(value: int, op: str, k: int) -> str:
    """The fact of a step; "" if its result is not within what is said."""
    return f"{number(value)} {op} {number(k)}" if 0 <= OPERATIONS[op](value, k) <= LARGEST else ""


def _step(value: int | None, question: str) -> Turn | None:
    if half := HALVES.get(question):
        if (
            value is None
            or value < 0
            or (half == "half" and value % 2)
            or (half == "double" and value > LARGEST // 2)
        ):
            return None
        answer = number(value * 2 if half == "double" else value // 2)
        return Turn(question, answer, answer, "half", fact=f"{half} {value}")
    found = re.fullmatch(r"(?:and )?(plus|minus|times) (.+)", question)
    if not found or value is None or found[2] not in VALUES or value < 0:
        return None
    op, k = found[1], VALUES[found[2]]
    fact = _step_fact(value, op, k) if (op, k) in _amounts() else ""
    if not fact:
        return None
    answer = number(OPERATIONS[op](value, k))
    return Turn(question, answer, answer, "step", f"{fact} is {answer}", fact=fact)


def _after(short: str, by: int) -> str | None:
    for names in (DAYS, MONTHS):
        if short in names:
            return names[(names.index(short) + by) % len(names)]
    value = VALUES.get(short)
    return number(value + by) if value is not None and 0 <= value + by <= LARGEST else None


def reply(turns: Sequence[Turn], question: str) -> Turn | None:
    """The turn that a question makes after ``turns``; None if it does not follow from them.

    A step counts on from the latest number that was an answer; "that" is the latest answer.
    """
    last = turns[-1] if turns else None
    if last is None:
        return None
    value = next((t.value for t in reversed(turns) if t.value is not None), None)
    if made := _step(value, question):
        return made
    if question in NEXT and (then := _after(last.short, NEXT[question])):
        return Turn(question, then, then, "next")
    if question in AGAIN:
        return Turn(question, last.answer, last.short, "again", last.full, last.template)
    if question in OPPOSITE and (item := about("the opposite of {}", last.short)):
        return Turn(question, item.answer, item.answer, "opposite", template="the opposite of {}")
    if question in SPELL and last.short in SPELLABLE:
        answer = " ".join(last.short)
        return Turn(question, answer, "", "spell", f"{last.short} is spelled {answer}")
    if question in ASKED:
        return Turn(question, turns[ASKED[question]].question, "", "asked")
    if question == IN_FULL and last.full and last.answer != last.full:
        return Turn(question, last.full, last.short, "full", last.full, last.template)
    for form, (_, later, answer_form) in TOLD.items():
        if question == later:
            start = form.removesuffix("{}")
            said = next((t.question for t in reversed(turns) if t.question.startswith(start)), "")
            return Turn(question, answer_form.format(said.removeprefix(start)), "", "told") if said else None
    if last.template:
        thing = question.removeprefix("what about ").removeprefix("and ")
        if thing != question and (item := about(last.template, thing)):
            made = opening(item.question)
            return Turn(question, made.answer, made.short, "about", made.full, last.template, item.fact)
    return None


def without(turns: Sequence[Turn], question: str) -> Turn | None:
    """The turn of a question that has nothing to build on: at the start, or about what was never told."""
    later = {value[1] for value in TOLD.values()}
    if reply(turns, question) is None and needs_before(question) and (not turns or question in later):
        return Turn(question, UNKNOWN, "")
    return None


def needs_before(question: str) -> bool:
    """Whether a question means nothing by itself."""
    fixed = {*HALVES, *NEXT, *AGAIN, *OPPOSITE, *SPELL, *ASKED, IN_FULL, *(v[1] for v in TOLD.values())}
    return question in fixed or bool(re.match(r"(and|what about|plus|minus|times) ", question))


def draw_follow_up(rng: random.Random, turns: Sequence[Turn]) -> Turn | None:
    """A turn that builds on the last ones, or None if the drawn kind does not fit; never a held-out fact."""
    family, last = rng.choices(FAMILIES, (40, 5, 9, 14, 5, 5, 6, 8, 10, 6))[0], turns[-1]
    question = ""
    if family == "step":
        op, k = rng.choice(_amounts())
        question = rng.choice(STEPS).format(op=op, k=number(k))
    elif family == "about" and last.template:
        question = rng.choice(ABOUT).format(rng.choice(things(last.template)))
    elif family == "told":
        question = rng.choice([later for _, later, _ in TOLD.values()])
    elif family == "full":
        question = IN_FULL
    elif family != "about":
        tables = {
            "half": HALVES,
            "next": NEXT,
            "again": AGAIN,
            "opposite": OPPOSITE,
            "spell": SPELL,
            "asked": ASKED,
        }
        question = rng.choice(list(tables[family]))
    turn = reply(turns, question) if question else None
    return turn if turn and turn.fact not in held_out_steps() else None


def draw_told(rng: random.Random) -> Turn:
    """Something to remember: a name, a color or a number."""
    form = rng.choice(list(TOLD))
    return opening(form.format(rng.choice(TELLABLE[form])))


def follow_up_questions() -> list[str]:
    """Every question that needs something before it, in all its forms, sorted."""
    texts = {form.format(op=op, k=number(k)) for form in STEPS for op, k in _amounts()}
    texts |= {form.format(thing) for form in ABOUT for t in TEMPLATES for thing in things(t)}
    fixed = [*HALVES, *NEXT, *AGAIN, *OPPOSITE, *SPELL, *ASKED, IN_FULL, *(v[1] for v in TOLD.values())]
    return sorted(texts | set(fixed))


def told_questions() -> list[str]:
    """Everything that may be told, sorted."""
    return sorted(form.format(thing) for form, rows in TELLABLE.items() for thing in rows)


def held_out_follow_ups(share: float = 0.06, seed: int = 12) -> set[str]:
    """Follow-ups never heard in training (typed ones are read): steps and "what about", their words heard elsewhere."""
    texts = [
        t for t in follow_up_questions() if re.match(r"(and |what about )", t) and t not in {*NEXT, *HALVES}
    ]
    return set(random.Random(seed).sample(texts, int(len(texts) * share)))


@cache
def added_words() -> tuple[str, ...]:
    """Words of this file and of full_sentences.py that the first vocabulary lacks, sorted."""
    rows = [f"{item.question} {item.answer}" for item in sentence_items()]
    rows += [*follow_up_questions(), *told_questions(), UNKNOWN]
    rows += [form.format("") for told in TOLD.values() for form in told]
    return tuple(sorted(set(" ".join(rows).split()) - set(vocabulary())))


def draw_opening(rng: random.Random) -> Turn:
    """A digit string, a number or something to repeat, as a turn."""
    item = draw_open(rng)
    return Turn(item.question, item.answer, item.answer, fact=item.fact)
