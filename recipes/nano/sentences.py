"""Sentences outside the closed domain: some to be refused by the ears, some to teach the voice other words."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from domain import ONES, TENS, Item, number, vocabulary

WORDS = {
    "det": "the my your this that every some our another",
    "adj": "large strange wooden famous hungry careful modern frozen golden lazy clever gentle broken simple quick",
    "noun": "house garden river teacher doctor window letter machine computer picture story village mountain captain "
    "engine bottle kitchen paper student farmer bridge ocean candle pocket basket question language market circle",
    "verb": "found bought opened carried watched followed painted heard moved cleaned lifted dropped pushed changed "
    "needed liked visited touched measured noticed remembered wanted ordered borrowed fixed showed",
    "adv": "quickly slowly yesterday again today outside carefully together tomorrow almost suddenly",
    "prep": "under behind above with for without beside through before across",
    "pron": "he she they we nobody someone everyone john mary peter susan",
    "ask": "where when why how",
}
TABLE = {k: v.split() for k, v in WORDS.items()}
TEMPLATES = [
    "det adj noun verb det noun",
    "pron verb det adj noun adv",
    "pron verb det noun prep det adj noun",
    "please show me det noun prep det noun",
    "ask did pron put det adj noun",
    "det noun is adj",
    "pron verb det noun",
]


@cache
def dictionary() -> list[str]:
    """Plain words of CMUdict (from the pocketsphinx package), 3 to 9 letters, not of the domain."""
    import pocketsphinx

    path = Path(pocketsphinx.__file__).parent / "model/en-us/cmudict-en-us.dict"
    words = (line.split()[0] for line in path.read_text(errors="ignore").splitlines())
    known = set(vocabulary())
    return [w for w in words if re.fullmatch("[a-z]{3,9}", w) and w not in known]


def template(rng: random.Random) -> str:
    """A grammatical sentence of common words; the closed grammar of the speaking test is made of these."""
    if rng.random() < 0.12:
        clock = f"{number(rng.randrange(1, 13))} {rng.choice(ONES[10:] + TENS[:4])}"
        return f"it is {clock} and the {rng.choice(TABLE['noun'])} is {rng.choice(TABLE['adj'])}"
    return " ".join(rng.choice(TABLE[w]) if w in TABLE else w for w in rng.choice(TEMPLATES).split())


def unknown(rng: random.Random) -> str:
    """A sentence the ears must refuse: mostly words outside the domain, sometimes domain words in no known order."""
    u = rng.random()
    if u < 0.45:
        return template(rng)
    if u < 0.75:
        return " ".join(rng.choice(dictionary()) for _ in range(rng.randint(1, 5)))
    if u < 0.9:  # a question of the domain about something else
        lead = rng.choice(
            [
                "what is the opposite of",
                "how do you spell",
                "what is",
                "what comes after",
                "say",
                "tell me about",
            ]
        )
        return f"{lead} {rng.choice(dictionary())}"
    return " ".join(
        rng.choice(dictionary() if rng.random() < 0.6 else vocabulary()) for _ in range(rng.randint(2, 6))
    )


def to_speak(rng: random.Random, items: list[Item]) -> str:
    """A text for the voice: dictionary words (so that it learns all phones in all places), sentences, answers."""
    u = rng.random()
    if u < 0.35:
        return " ".join(rng.choice(dictionary()) for _ in range(rng.randint(2, 6)))
    if u < 0.65:
        return template(rng)
    item = rng.choice(items)
    if u < 0.8:
        return item.question
    if u < 0.9:
        return number(rng.randrange(1000))
    return (
        item.answer
        if len(item.answer.split()) > 1 or rng.random() < 0.5
        else f"{item.answer} {rng.choice(items).answer}"
    )
