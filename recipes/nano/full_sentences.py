"""Answers in full sentences: the same facts, asked so that a sentence is wanted.

"what is seven plus five" is answered "twelve"; "tell me seven plus five" and "what is seven plus five in a sentence"
are answered "seven plus five is twelve". The way of asking decides, so short answers stay what they were.
"""

from __future__ import annotations

import random
import re
from functools import cache

from domain import Item, all_items

IN_A_SENTENCE = " in a sentence"
RULES = (
    (r"what is (.+ (?:plus|minus|times) .+)", "tell me {0}", "{0} is {a}"),
    (r"what comes (after|before) (.+)", "tell me what comes {0} {1}", "{a} comes {0} {1}"),
    (r"is (.+) even or odd", "tell me if {0} is even or odd", "{0} is {a}"),
    (r"what is (double|half of) (.+)", "tell me {0} {1}", "{0} {1} is {a}"),
    (r"which is (bigger|smaller) (.+) or (.+)", "tell me which is {0} {1} or {2}", "{a} is {0} than {other}"),
    (r"what (day|month|season) comes (after|before) (.+)", "tell me what {0} comes {1} {2}", "{a} comes {1} {2}"),
    (r"how many (\w+) are in (.+)", "tell me how many {0} are in {1}", "{1} has {a} {0}"),
    (r"what time is it (.+) after (.+)", "tell me what time it is {0} after {1}", "it is {a}"),
    (r"what is the (opposite|capital|plural) of (.+)", "tell me the {0} of {1}", "the {0} of {1} is {a}"),
    (r"how do you spell (.+)", "tell me how to spell {0}", "{0} is spelled {a}"),
    (r"what color is (.+)", "tell me what color {0} is", "{0} is {a}"),
    (r"what does a (.+) say", "tell me what a {0} says", "a {0} says {a}"),
    (r"what is a baby (.+) called", "tell me what a baby {0} is called", "a baby {0} is called a {a}"),
    (r"how many (\w+) does (.+) have", "tell me how many {0} {1} has", "{1} has {a} {0}"),
)  # fmt: skip


def in_full(item: Item) -> tuple[str, str] | None:
    """("tell me ...", the answer as a sentence) of a short question; None where no rule has it."""
    for pattern, ask, answer in RULES:
        if found := re.fullmatch(pattern, item.question):
            parts = found.groups()
            other = next((p for p in parts[1:] if p != item.answer), "")
            return ask.format(*parts), answer.format(*parts, a=item.answer, other=other)
    return None


@cache
def sentence_items() -> tuple[Item, ...]:
    """Every question that wants a sentence; ``fact`` is that of the short question, so hold-outs are shared."""
    rows: dict[str, Item] = {}
    for item in all_items():
        if full := in_full(item):
            ask, answer = full
            for question in (ask, item.question + IN_A_SENTENCE):
                rows.setdefault(question, Item(item.kind, question, answer, item.fact))
    return tuple(rows.values())


def held_out_sentence_questions(share: float = 0.08, seed: int = 11) -> set[str]:
    """Questions of this kind that are never heard in training."""
    questions = sorted(item.question for item in sentence_items())
    return set(random.Random(seed).sample(questions, int(len(questions) * share)))
