"""What is said by whom: the utterances that make_speech.py speaks, each with a seed of its own.

Splits: train; test_sentence (known voices, sentences never spoken in training, a tenth of the arithmetic facts never
trained at all); test_voice (voices never used in training); unknown (sentences outside the domain, to be refused);
voice (flite slt with phone times, for speaking). ``plan_tune`` is what the gate is set on (tune_gate.py): voices of
neither training nor tests. ``plan_spoken`` is further texts that the voices are tried on.
"""

from __future__ import annotations

import random

import sentences
from domain import DIGITS, Item, all_items, draw_open, held_out_facts, held_out_questions
from follow_ups import OPERATIONS, TELLABLE, follow_up_questions, held_out_follow_ups, opening
from full_sentences import held_out_sentence_questions, sentence_items
from judge import kind_of

VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 f5 Alex Andy Annie Diogo Gene Lee Mike Michael ed adam pablo rob shelby "
    "michel zac steph belinda anika klatt2 Marco antonio john robert"
).split()
VARIANTS.append("")
ACCENTS = ["en-us", "en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"]
TUNE_VOICES = [
    f"espeak:{accent}+{variant}"
    for accent in ("en-us", "en-gb", "en-gb-x-gbclan")
    for variant in "david edward sandro travis victor norbert Henrique Paul quincy Mario klatt3 boris".split()
]
HELD_OUT_VOICES = ["flite:rms", "espeak:en-us+linda", "espeak:en-us+max", "espeak:en-gb-x-gbcwmd+m8"]
KIND_WEIGHTS = {
    "arithmetic": 30, "neighbour": 9, "parity": 3, "double": 4, "compare": 8, "count": 4, "calendar": 6, "clock": 5,
    "opposite": 9, "spelling": 8, "color": 3, "animal": 3, "capital": 4, "plural": 4, "count of": 2, "talk": 5,
}  # fmt: skip


def draw_voice(rng: random.Random) -> str:
    """A training voice: two in five flite (natural), the rest espeak-ng (many accents and timbres)."""
    if rng.random() < 0.42:
        return "flite:" + rng.choice(["slt", "slt", "awb", "awb", "kal16", "kal"])
    variant = rng.choice(VARIANTS)
    return "espeak:" + rng.choice(ACCENTS) + (f"+{variant}" if variant else "")


def job(rng: random.Random, voice: str, split: str, kind: str, text: str, answer: str) -> dict:
    """One utterance for ``make_speech.speak``."""
    row = {"split": split, "voice": voice, "kind": kind, "text": text, "answer": answer}
    return {**row, "seed": rng.randrange(1 << 30)}


def plan(scale: float, seed: int = 1) -> list[dict]:
    """All utterances to make, shuffled, each with its own seed."""
    rng = random.Random(seed)
    items = all_items()
    facts, questions = held_out_facts(items), held_out_questions(items)
    train = [i for i in items if i.fact not in facts and i.question not in questions]
    by_kind: dict[str, list] = {}
    for item in train:
        by_kind.setdefault(item.kind, []).append(item)
    unseen = [i for i in items if i.fact in facts or i.question in questions]
    jobs: list[dict] = []

    def add(split: str, voice: str, kind: str, text: str, answer: str) -> None:
        jobs.append(job(rng, voice, split, kind, text, answer))

    def add_item(split: str, voice: str, item) -> None:
        add(split, voice, item.kind, item.question, item.answer)

    kinds, weights = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
    for _ in range(int(11_000 * scale)):
        add_item("train", draw_voice(rng), rng.choice(by_kind[rng.choices(kinds, weights)[0]]))
    for _ in range(int(3_000 * scale)):
        add_item("train", draw_voice(rng), draw_open(rng))
    for _ in range(int(1_500 * scale)):
        digit = rng.choice(DIGITS)
        add("train", draw_voice(rng), "digit", digit, digit)
    for _ in range(int(2_600 * scale)):
        add("unknown", draw_voice(rng), "unknown", sentences.unknown(rng), "")
    for _ in range(int(6_500 * scale)):
        add("voice", "flite:slt", "voice", sentences.to_speak(rng, train), "")
    rng.shuffle(jobs)
    tests_from = len(jobs)
    for _ in range(400):
        add_item(
            "test_sentence", draw_voice(rng), rng.choice(unseen) if rng.random() < 0.8 else draw_open(rng)
        )
    for _ in range(400):
        kind = rng.choices(kinds, weights)[0]
        add_item("test_voice", rng.choice(HELD_OUT_VOICES), rng.choice(by_kind[kind]))
    for _ in range(100):
        digit = rng.choice(DIGITS)
        add("test_voice", rng.choice(HELD_OUT_VOICES), "digit", digit, digit)
    for _ in range(100):
        add("test_unknown", rng.choice(HELD_OUT_VOICES), "unknown", sentences.unknown(rng), "")
    for _ in range(120):
        add("test_spoken", "flite:slt", "voice", sentences.to_speak(rng, unseen), "")
    return jobs[tests_from:] + jobs[:tests_from]


def plan_more(scale: float, seed: int = 2) -> list[dict]:
    """Follow-ups (kind "follow": the answer hangs on what was said before), questions that want a sentence, things
    told, and questions whose words are seldom heard; 5,700 utterances and 300 to test with."""
    rng = random.Random(seed)
    unseen, items = held_out_facts(all_items()), all_items()
    questions = held_out_questions(items) | held_out_sentence_questions() | held_out_follow_ups()
    follow_ups = [q for q in follow_up_questions() if q not in questions]
    steps = [
        q
        for q in follow_ups
        if q.startswith(("and plus", "and minus", "and times", "plus", "minus", "times"))
    ]
    others = sorted(set(follow_ups) - set(steps))
    fixed = [q for q in others if not q.startswith(("what about", "and "))] + [
        q for q in others if " that" in q
    ]
    by_kind: dict[str, list] = {}
    for item in sentence_items():
        if item.fact not in unseen and item.question not in questions:
            by_kind.setdefault(item.kind, []).append(item)
    known = [i for i in items if i.fact not in unseen and i.question not in questions]
    jobs: list[dict] = []

    def add(split: str, voice: str, kind: str, text: str, answer: str) -> None:
        jobs.append(job(rng, voice, split, kind, text, answer))

    for count, texts in ((900, steps), (700, others), (500, fixed)):
        for _ in range(int(count * scale)):
            add("train", draw_voice(rng), "follow", rng.choice(texts), "")
    for form, count in zip(TELLABLE, (250, 80, 120), strict=True):
        for _ in range(int(count * scale)):
            turn = opening(form.format(rng.choice(TELLABLE[form])))
            add("train", draw_voice(rng), "told", turn.question, turn.answer)
    for _ in range(int(1200 * scale)):
        item = rng.choice(by_kind[rng.choice(list(by_kind))])
        add("train", draw_voice(rng), item.kind, item.question, item.answer)
    for item in rarest(known, int(1950 * scale)):
        add("train", draw_voice(rng), item.kind, item.question, item.answer)
    rng.shuffle(jobs)
    tests_from, new = len(jobs), [i for i in sentence_items() if i.question in questions or i.fact in unseen]
    for split, voices in (("test_sentence", None), ("test_voice", HELD_OUT_VOICES)):
        for _ in range(75):
            text = rng.choice(sorted(held_out_follow_ups()) if voices is None else follow_ups)
            add(split, rng.choice(voices) if voices else draw_voice(rng), "follow", text, "")
            item = rng.choice(new if voices is None else by_kind[rng.choice(list(by_kind))])
            add(
                split,
                rng.choice(voices) if voices else draw_voice(rng),
                item.kind,
                item.question,
                item.answer,
            )
    return jobs[tests_from:] + jobs[:tests_from]


def plan_wide(scale: float, seed: int = 4) -> list[dict]:
    """9,000 utterances whose voices are drawn wider (``make_speech.speak``): follow-ups, questions whose words are
    seldom heard, things told, digits and sentences to be refused; no tests."""
    rng, items = random.Random(seed), [*all_items(), *sentence_items()]
    unseen = held_out_facts(all_items())
    closed = held_out_questions(all_items()) | held_out_sentence_questions() | held_out_follow_ups()
    known = [i for i in items if i.fact not in unseen and i.question not in closed]
    by_kind: dict[str, list[Item]] = {}
    for item in known:
        by_kind.setdefault(item.kind, []).append(item)
    follow_ups = [q for q in follow_up_questions() if q not in closed]
    others = sorted({q for q in follow_ups if not q.startswith(("what about", "and ", *OPERATIONS))})
    rows: list[tuple[str, str, str, str]] = []
    for texts, count in ((follow_ups, 1600), (others, 1000)):
        rows += [("train", "follow", rng.choice(texts), "") for _ in range(int(count * scale))]
    for _ in range(int(400 * scale)):
        form = rng.choice(list(TELLABLE))
        turn = opening(form.format(rng.choice(TELLABLE[form])))
        rows.append(("train", "told", turn.question, turn.answer))
    kinds, weights = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
    drawn = [rng.choice(by_kind[rng.choices(kinds, weights)[0]]) for _ in range(int(2400 * scale))]
    drawn += [rng.choice(by_kind[rng.choice(list(by_kind))]) for _ in range(int(800 * scale))]
    drawn += rarest(known, int(1200 * scale))
    rows += [("train", item.kind, item.question, item.answer) for item in drawn]
    for _ in range(int(800 * scale)):
        digit = rng.choice(DIGITS)
        rows.append(("train", "digit", digit, digit))
    rows += [("unknown", "unknown", sentences.unknown(rng), "") for _ in range(int(800 * scale))]
    rng.shuffle(rows)
    return [{**job(rng, draw_voice(rng), *row), "wide": True} for row in rows]


def plan_tune(seed: int = 3) -> list[dict]:
    """240 questions and 60 digits in voices of neither training nor tests, and 180 sentences to be refused."""
    rng, items = random.Random(seed), [*all_items(), *sentence_items()]
    by_kind: dict[str, list[Item]] = {}
    for item in items:
        by_kind.setdefault(item.kind, []).append(item)
    rows = []
    for _ in range(240):
        item = rng.choice(by_kind[rng.choice(sorted(by_kind))])
        rows.append(("tune", item.kind, item.question, item.answer))
    for _ in range(60):
        digit = rng.choice(DIGITS)
        rows.append(("tune", "digit", digit, digit))
    rows += [("tune_unknown", "unknown", sentences.unknown(rng), "") for _ in range(180)]
    return [job(rng, rng.choice(TUNE_VOICES), *row) for row in rows]


def plan_spoken(left_out: set[str], count: int = 500, seed: int = 6) -> list[dict]:
    """``count`` different texts for the voices to be tried on, none of ``left_out``."""
    rng, items = random.Random(seed), all_items()
    facts, questions = held_out_facts(items), held_out_questions(items)
    unseen = [i for i in items if i.fact in facts or i.question in questions]
    texts: dict[str, None] = {}
    while len(texts) < count:
        text = sentences.to_speak(rng, unseen)
        if text not in left_out and kind_of(text):
            texts[text] = None
    return [job(rng, "flite:slt", "test_spoken", "voice", text, "") for text in texts]


def rarest(items: list[Item], count: int) -> list[Item]:
    """Questions drawn so that words which stand in few of them are heard nearly as often as the others."""
    rng = random.Random(5)
    by_word: dict[str, list[Item]] = {}
    for item in items:
        for word in item.question.split():
            by_word.setdefault(word, []).append(item)
    words = sorted(by_word, key=lambda word: (len(by_word[word]), word))
    rare = words[: len(words) * 3 // 4]
    return [rng.choice(by_word[rare[i % len(rare)]]) for i in range(count)]
