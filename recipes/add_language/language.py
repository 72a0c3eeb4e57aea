"""What the recipe asks of a language: a closed domain, voices to say it, and how its sounds are written.

Words are written twice: as they are spelled, for the synthesizer, and folded to a-z as the product folds typed text
("fünf" -> "funf"), for tokens. german.py and spanish.py are examples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from domain import Item

from vivavoce.tokens.spoken_tables import fold

SIGNS = "ˈˌː?ʔ_.-\u0303\u032f\u0329 \u0361"  # noqa: RUF001 - of IPA that are no sounds
SHUFFLED = ("sum", "neighbour", "opposite")  # kinds of which some questions are never heard


@dataclass(frozen=True)
class Language:
    """A closed domain in one language.

    Attributes:
        name: Of the voice too, and of ``lexicon_NAME.txt``.
        speaker: espeak-ng voice that the model learns to speak with.
        voices: Those it learns to hear.
        new_voices: Never heard in training.
        number: The word of 0 to 99.
        items: Makes every closed question.
        outside_words: Who, does, what, when: sentences that must be refused, choices split by ``|``.
        phones_of: espeak-ng's IPA -> phones of tokens/phones.py; the longest match counts, lengths and stresses are
            dropped.
        meaning_pairs: "word meaning, ...": words whose embedding starts like that of an English one.
    """

    name: str
    speaker: str
    voices: tuple[str, ...]
    new_voices: tuple[str, ...]
    number: Callable[[int], str]
    items: Callable[[], list[Item]]
    outside_words: Mapping[str, str]
    phones_of: Mapping[str, str]
    meaning_pairs: str = ""

    @staticmethod
    def words_of(text: str) -> str:
        """Spelled text as the words that tokens name: folded, lower case."""
        return fold(text.lower())[0]

    def outside(self, rng: random.Random) -> str:
        """A sentence that must be refused."""
        return " ".join(rng.choice(choices.split("|")) for choices in self.outside_words.values())

    def held_out_facts(self, share: float = 0.1, seed: int = 7) -> set[str]:
        """Sums that are never trained, typed or spoken."""
        facts = sorted({i.fact for i in self.items() if i.kind == "sum"})
        return set(random.Random(seed).sample(facts, int(len(facts) * share)))

    def held_out_questions(self, share: float = 0.12, seed: int = 8) -> set[str]:
        """Questions that are never heard in training; every word of theirs is heard in others."""
        questions = sorted({i.question for i in self.items() if i.kind in SHUFFLED})
        kept = set(random.Random(seed).sample(questions, int(len(questions) * share)))
        heard = {word for i in self.items() if i.question not in kept for word in i.question.split()}
        return {q for q in kept if set(q.split()) <= heard}

    def meanings(self) -> dict[str, str]:
        """Folded word -> the English word that its embedding starts like."""
        return {self.words_of(a): b for a, b in pairs(self.meaning_pairs)} if self.meaning_pairs else {}

    def spelled(self) -> dict[str, str]:
        """Folded word -> as it is spelled, of all that is asked, answered or refused."""
        texts = [f"{i.question} {i.answer}" for i in self.items()]
        texts += [choices.replace("|", " ") for choices in self.outside_words.values()]
        return {self.words_of(word): word for text in texts for word in text.split()}

    def vocabulary(self) -> list[str]:
        """All words of the domain, folded, sorted."""
        rows = [self.words_of(f"{i.question} {i.answer}") for i in self.items()]
        return sorted(set(" ".join(rows).split()))

    def phones(self, ipa: str) -> list[str]:
        """Phones of espeak-ng's IPA.

        Raises:
            ValueError: A sign that ``phones_of`` lacks.
        """
        return list(self._phones(ipa))

    def _phones(self, ipa: str) -> Iterator[str]:
        at = 0
        while at < len(ipa):
            size = next((n for n in (2, 1) if ipa[at : at + n] in self.phones_of), 0)
            if size:
                yield from self.phones_of[ipa[at : at + size]].split()
            elif ipa[at] not in SIGNS:
                raise ValueError(f"IPA {ipa[at]!r} in {ipa!r} has no phone; add it to phones_of.")
            at += size or 1


def pairs(text: str) -> list[tuple[str, str]]:
    """ "a b, c d" -> [("a", "b"), ("c", "d")]; the last word of each is the second."""
    return [(a, b) for a, b in (row.strip().rsplit(" ", 1) for row in text.split(","))]


@dataclass(frozen=True)
class Forms:
    """How the closed domain is asked in a language; ``{}`` is the place of what is asked about.

    Attributes:
        operations: Words of plus, minus and times.
        sums: "what is {}", for "three plus four".
        next_number: "what comes after {}".
        calendars: Names in order, "what day comes after {}" and "what day comes before {}".
        opposites: "the opposite of {}".
        color: "what color is {}".
        capital: "what is the capital of {}".
    """

    operations: tuple[str, str, str]
    sums: tuple[str, ...]
    next_number: str
    calendars: tuple[tuple[list[str], str, str], ...]
    opposites: tuple[str, ...]
    color: str
    capital: str


def closed_questions(
    forms: Forms, number: Callable[[int], str], talk: Iterable[tuple[str, str]], opposites: str, colors: str,
    capitals: str,
) -> list[Item]:  # fmt: skip
    """Every question of the domain: sums (plus and minus to 10, times to 9), numbers to 99, calendar, pairs of words.

    Args:
        forms: How they are asked.
        number: The word of a number.
        talk: Questions with their answers.
        opposites: "hot cold, big small"; each is asked both ways.
        colors: "the grass green".
        capitals: "france paris".
    """
    rows = [Item("talk", question, answer, question) for question, answer in talk]
    plus, minus, times = forms.operations
    sums = [(plus, a, b, a + b) for a in range(11) for b in range(11)]
    sums += [(minus, a, b, a - b) for a in range(11) for b in range(a + 1)]
    sums += [(times, a, b, a * b) for a in range(10) for b in range(10)]
    for op, a, b, c in sums:
        body = f"{number(a)} {op} {number(b)}"
        rows += [Item("sum", form.format(body), number(c), body) for form in forms.sums]
    for n in range(99):
        rows.append(Item("neighbour", forms.next_number.format(number(n)), number(n + 1), f"after {n}"))
        rows.append(Item("number", number(n), number(n), f"number {n}"))
    for names, after, before in forms.calendars:
        for i, name in enumerate(names):
            rows.append(Item("calendar", after.format(name), names[(i + 1) % len(names)], f"after {name}"))
            rows.append(Item("calendar", before.format(name), names[i - 1], f"before {name}"))
    for pair in pairs(opposites):
        for word, other in (pair, pair[::-1]):
            rows += [
                Item("opposite", form.format(word), other, f"opposite {word}") for form in forms.opposites
            ]
    rows += [
        Item("color", forms.color.format(thing), color, f"color {thing}") for thing, color in pairs(colors)
    ]
    named = pairs(capitals)
    return rows + [
        Item("capital", forms.capital.format(place), city, f"capital {place}") for place, city in named
    ]
