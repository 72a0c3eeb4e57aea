"""The suite of the embedded bundle: its small domain, in voices that it never heard.

Templates and tables here are few and written anew for the test; the bundle's own training data is not needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from vivavoce.audio.synthesis import has_synthesizer
from vivavoce.base.errors import MissingExtraError
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.speaking import speak
from vivavoce.evaluation.tasks.task import (
    Case,
    CaseMaker,
    KindOfTask,
    Task,
    TaskOptions,
    ask_aloud,
    ask_typed,
)

VOICES = ("espeak:en-us+max", "flite:rms", "espeak:en-us+linda", "espeak:en-gb-x-gbcwmd+m8")
"""Kept out of the bundle's training."""
ORIGINAL_VOICE = "flite:slt"
"""The voice that the bundle learned to speak with."""

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
CAPITALS = {"france": "paris", "italy": "rome", "spain": "madrid", "japan": "tokyo", "egypt": "cairo"}
OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "happy": "sad", "open": "closed", "rich": "poor"}
COLORS = {"grass": "green", "snow": "white", "a banana": "yellow", "chocolate": "brown", "coal": "black"}
YOUNG = {"dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal"}


def number(n: int) -> str:
    """Words of an integer from 0 to 99."""
    return ONES[n] if n < 20 else TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")


def _draw(rng: random.Random, category: str) -> tuple[str, str]:
    """(question, answer) of one category."""
    a, b = rng.randrange(1, 16), rng.randrange(1, 11)
    if category == "sums":
        return f"what is {number(a)} plus {number(b)}", number(a + b)
    if category == "differences":
        return f"what is {number(a + b)} minus {number(b)}", number(a)
    if category == "numbers":
        n = rng.randrange(10, 90)
        return f"what comes after {number(n)}", number(n + 1)
    if category == "days":
        day = rng.randrange(7)
        return f"what day comes after {DAYS[day]}", DAYS[(day + 1) % 7]
    table, form = TABLES[category]
    key = rng.choice(sorted(table))
    return form.format(key), table[key]


TABLES: dict[str, tuple[dict[str, str], str]] = {
    "capitals": (CAPITALS, "what is the capital of {}"),
    "opposites": (OPPOSITES, "what is the opposite of {}"),
    "colors": (COLORS, "what color is {}"),
    "young": (YOUNG, "what is a baby {} called"),
}
CATEGORIES = ("sums", "capitals", "differences", "opposites", "numbers", "colors", "days", "young")


def draw_questions(count: int, seed: int) -> list[tuple[str, str, str]]:
    """(category, question, answer), the categories in turn, no question twice."""
    rng, seen = random.Random(f"nano {seed}"), set[str]()
    found: list[tuple[str, str, str]] = []
    for number_ in range(50 * count):
        if len(found) == count:
            break
        category = CATEGORIES[len(found) % len(CATEGORIES)]
        question, answer = _draw(rng, category)
        if question not in seen or number_ > 40 * count:
            seen.add(question)
            found.append((category, question, answer))
    return found


def grammar() -> str:
    """JSGF of all that is asked or said here, numbers open; what a recogniser of a closed domain is given."""
    below = " | ".join(ONES[1:])
    tables = [f"{form.format(f'<{name}>')}" for name, (_, form) in TABLES.items()]
    forms = [
        "what is <number> plus <number>", "what is <number> minus <number>", "what comes after <number>",
        "what day comes after <day>", *tables,
    ]  # fmt: skip
    answers = sorted({a for table, _ in TABLES.values() for a in table.values()} | set(DAYS))
    rules = "".join(f"<{name}> = {' | '.join(sorted(table))};\n" for name, (table, _) in TABLES.items())
    return (
        f"#JSGF V1.0;\ngrammar nano;\n<digit> = {' | '.join(ONES[:10])};\n"
        f"<number> = {below} | zero | ({' | '.join(TENS)}) [<digit>];\n<day> = {' | '.join(DAYS)};\n{rules}"
        f"<answer> = {' | '.join(answers)};\n"
        f"public <spoken> = {' | '.join(forms)} | <digit>+ | <number> | <answer>;\n"
    )


def questions(options: TaskOptions) -> Task:
    """Spoken questions, answered in text and aloud."""
    rows = draw_questions(options.limit or 24, options.seed)

    def cases() -> Iterator[Case]:
        for i, (category, question, answer) in enumerate(rows):
            yield _aloud(f"q{i:03d}", question, answer, category, i // len(CATEGORIES) + i)

    return _task("nano_questions", "listen", cases, {"name": "exact_match"}, spoken=True)


def digits(options: TaskOptions) -> Task:
    """Strings of digits, written down."""
    rng = random.Random(f"nano digits {options.seed}")
    rows = [" ".join(rng.choice(ONES[:10]) for _ in range(2 + i % 4)) for i in range(options.limit or 12)]

    def cases() -> Iterator[Case]:
        for i, text in enumerate(rows):
            yield _aloud(f"d{i:03d}", text, text, f"{len(text.split())} digits", i)

    # Whisper's English form would join "one two" to 12, one word
    return _task("nano_digits", "transcribe", cases, {"name": "wer", "normaliser": "letters"})


def typed(options: TaskOptions) -> Task:
    """Typed questions: what is left of the language model."""
    rows = draw_questions(options.limit or 32, options.seed + 1)

    def cases() -> Iterator[Case]:
        for i, (category, question, answer) in enumerate(rows):
            asked = Question(f"t{i:03d}", (answer,), question, language="en", slices={"category": category})
            yield Case(asked, ask_typed(asked.id, question))

    return _task("nano_typed", "read", cases, {"name": "exact_match"})


def speaking(options: TaskOptions) -> Task:
    """Texts read aloud; a recogniser with the domain's grammar writes down what it hears."""
    count = options.limit or 8
    texts = [question for _, question, _ in draw_questions(count, options.seed + 2)]

    def cases() -> Iterator[Case]:
        for i, text in enumerate(texts):
            asked = Question(f"s{i:03d}", (text,), text, language="en", speaker="default")
            conversation = ask_typed(asked.id, text)
            if has_synthesizer(ORIGINAL_VOICE.partition(":")[0]):
                conversation.meta["original"] = speak(text, ORIGINAL_VOICE)
            yield Case(asked, conversation)

    return _task("nano_speaking", "speak", cases, {"name": "wer"}, spoken=True)


def _task(
    name: str, kind: KindOfTask, cases: CaseMaker, metric: dict[str, str], spoken: bool = False
) -> Task:
    told = "texts of the bundle's domain"
    if kind in ("listen", "transcribe"):
        told += ", spoken by espeak-ng and flite in voices kept out of its training"
    return Task(
        name, kind, cases, (metric,), source=told, licence="Apache-2.0", spoken=spoken, grammar=grammar()
    )


def _aloud(identity: str, question: str, answer: str, category: str, turn: int) -> Case:
    voices = [v for v in VOICES if has_synthesizer(v.partition(":")[0])]
    if not voices:
        raise MissingExtraError(
            "the nano tasks speak their questions by espeak-ng; run: pip install 'vivavoce[tts]'"
        )
    voice = voices[turn % len(voices)]
    slices = {"category": category}
    asked = Question(identity, (answer,), question, language="en", speaker=voice, slices=slices)
    return Case(asked, ask_aloud(identity, speak(question, voice), question, language="en", speaker=voice))
