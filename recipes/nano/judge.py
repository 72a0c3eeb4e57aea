"""An independent reader of speech: pocketsphinx with a closed grammar of everything the voice is asked to say.

The grammar is written from the same tables as the sentences (domain.py, sentences.py), so it covers exactly their
language: any number where a number stands, any noun where a noun stands. A closed grammar makes a small old
recogniser a fair judge of clear speech; its error on the synthesizer's originals is the floor to read ours against.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from domain import ANIMALS, ONES, SHADES, TENS, all_items
from sentences import TABLE, TEMPLATES

JUDGE_RATE = 16_000
PAD_S = 0.3
PAD_NOISE = 4 / 32768  # faint, so that no frame is digital silence, which the features cannot take
PEAK = 0.6

_ONES, _TENS = "|".join(ONES[1:]), "|".join(TENS)
_BELOW_HUNDRED = rf"(?:(?:{_TENS})(?: (?:{'|'.join(ONES[1:10])}))?|{_ONES})"
_NUMBER = re.compile(
    rf"\b(?:(?:{'|'.join(ONES[1:10])}) hundred(?: {_BELOW_HUNDRED})?|{_BELOW_HUNDRED}|zero)\b"
)

NUMBER_RULES = f"""
<digit> = {" | ".join(ONES[1:10])};
<teen> = {" | ".join(ONES[10:])};
<tens> = {" | ".join(TENS)} ;
<below> = <digit> | <teen> | <tens> [<digit>];
<num> = zero | <below> | <digit> hundred [<below>];
"""


def number_slots(text: str) -> str:
    """The text with every number replaced by the rule for any number."""
    return _NUMBER.sub("<num>", text)


@cache
def domain_patterns() -> tuple[list[str], list[str]]:
    """All questions and all answers of the domain, numbers opened; those to repeat and to spell by rule."""
    items = [i for i in all_items() if i.kind != "spelling"]
    questions = {number_slots(i.question) for i in items} | {"how do you spell <word>", "spell <word>"}
    questions |= {"(say | repeat) <repeat>", "<number>"}
    answers = {number_slots(i.answer) for i in items} | {"<letters>", "<repeat>"}
    return sorted(questions), sorted(answers)


def _any(rows: Iterable[str]) -> str:
    return " | ".join(rows)


@cache
def grammar() -> str:
    """The closed grammar (JSGF) of sentences, questions, answers and numbers."""
    questions, answers = domain_patterns()
    spelled = [i for i in all_items() if i.kind == "spelling"]
    rules = [NUMBER_RULES]
    rules += [f"<t_{name}> = {_any(words)};\n" for name, words in TABLE.items()]
    rules.append(f"<word> = {_any(sorted({i.question.split()[-1] for i in spelled}))};\n")
    rules.append(f"<letters> = {_any(sorted({i.answer for i in spelled}))};\n")
    rules.append(
        f"<repeat> = the ({_any(SHADES)}) ({_any(ANIMALS)}) | <num> ({_any(SHADES)}) (birds | cats | dogs) | <num>+;\n"
    )
    rules.append("<number> = <num>+;\n")
    forms = [" ".join(f"<t_{w}>" if w in TABLE else w for w in t.split()) for t in TEMPLATES]
    forms.append("it is <num> <num> and the <t_noun> is <t_adj>")
    rules.append(f"<sentence> = {_any(forms)};\n")
    rules.append(f"<question> = {_any(questions)};\n<answer> = {_any(answers)};\n")
    rules.append("public <spoken> = <sentence> | <question> | <answer> [<answer>];\n")
    return "#JSGF V1.0;\ngrammar nano;\n" + "".join(rules)
