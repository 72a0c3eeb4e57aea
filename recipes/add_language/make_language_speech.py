"""Recordings of the new language by espeak-ng, shards as recipes/nano/make_speech.py writes them, with phone times.

python recipes/add_language/make_language_speech.py --minutes 90 --out runs/german/speech

Two in five are of the speaker whom the model learns to speak like, the rest of fourteen others at other rates and
pitches. Any number of minutes from the beginning has all kinds in it. The first rows are tests: sentences never heard,
voices never heard, sentences outside the domain, and texts for the voice. ``--wide`` adds minutes of more voices at
any rate and pitch. Recordings of people go in the same way: a folder of such shards, with rows of text, answer, kind,
voice and (for the speaker) phones.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import soxr

sys.path.append(str(Path(__file__).parents[1] / "nano"))
from domain import Item
from espeak_times import pronounce, speak
from language import Language
from languages import LANGUAGES
from make_speech import write_shards
from speech_data import RATE

SECONDS = 1.5  # of a recording on average, to turn minutes into a number
KINDS = {
    "sum": 40,
    "neighbour": 10,
    "number": 8,
    "calendar": 12,
    "opposite": 14,
    "color": 5,
    "capital": 4,
    "talk": 7,
}
TESTS = 150
TUNE_VARIANTS = "ed adam pablo victor boris quincy travis edward".split()
WIDE_VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 f5 Alex Alicia Andrea Andy Annie Denis Diogo Gene Hugo Lee Marcelo Marco "
    "Michael Mike Nguyen anika antonio aunty belinda benjamin caleb iven jacky john klatt2 klatt4 michel miguel pedro "
    "rob robert shelby steph zac"
).split()


def by_kind(language: Language, *, held_out_questions: bool = False) -> dict[str, list[Item]]:
    """Questions without held-out facts, and without the held-out questions unless they are wanted."""
    facts = language.held_out_facts()
    kept = set() if held_out_questions else language.held_out_questions()
    found: dict[str, list[Item]] = {}
    for item in language.items():
        if item.fact not in facts and item.question not in kept:
            found.setdefault(item.kind, []).append(item)
    return found


def draw(rng: random.Random, items: dict[str, list[Item]]) -> Item:
    """A question; kinds as often as ``KINDS`` says."""
    return rng.choice(items[rng.choices(list(KINDS), list(KINDS.values()))[0]])


def plan(minutes: float, language: Language, seed: int = 3) -> list[dict]:
    """All recordings to make, tests first."""
    rng = random.Random(seed)
    facts, kept = language.held_out_facts(), language.held_out_questions()
    known = by_kind(language)
    new = [i for i in language.items() if i.fact in facts or i.question in kept]
    jobs: list[dict] = []

    def add(split: str, voice: str, kind: str, text: str, answer: str) -> None:
        row = {
            "language": language.name,
            "split": split,
            "voice": voice,
            "kind": kind,
            "said": text,
            "text": language.words_of(text),
        }
        jobs.append({**row, "answer": language.words_of(answer), "seed": rng.randrange(1 << 30)})

    for _ in range(TESTS):
        item = rng.choice(new)
        add("test_sentence", rng.choice(language.voices), item.kind, item.question, item.answer)
        item = draw(rng, known)
        add("test_voice", rng.choice(language.new_voices), item.kind, item.question, item.answer)
    for _ in range(60):
        add("test_spoken", language.speaker, "spoken", rng.choice(new).question, "")
        add("test_unknown", rng.choice(language.new_voices), "unknown", language.outside(rng), "")
    for i in range(int(minutes * 60 / SECONDS)):
        item, place = draw(rng, known), i % 10
        if place < 4:  # the speaker: questions, and answers, which only the voice learns from
            answer = item.answer if rng.random() < 0.5 else language.number(rng.randrange(100))
            question = place < 2
            add("train", language.speaker, item.kind if question else "answer", item.question if question else answer,
                item.answer if question else "")  # fmt: skip
        elif place == 4:
            add("unknown", rng.choice(language.voices), "unknown", language.outside(rng), "")
        elif place == 5 and i % 20 == 5:
            word = language.number(rng.randrange(13))
            add("train", rng.choice(language.voices), "digit", word, word)
        else:
            add("train", rng.choice(language.voices), item.kind, item.question, item.answer)
    return jobs


def plan_wide(minutes: float, language: Language, seed: int = 7) -> list[dict]:
    """Further recordings for training, not by ``new_voices`` or in voices of ``plan_tune``."""
    rng, known = random.Random(seed), by_kind(language)
    bases = sorted({voice.split("+")[0] for voice in language.voices})
    jobs = []
    for i in range(int(minutes * 60 / SECONDS)):
        item = draw(rng, known)
        row = {"split": "train", "kind": item.kind, "said": item.question, "answer": item.answer}
        if i % 8 == 0:
            row = {"split": "unknown", "kind": "unknown", "said": language.outside(rng), "answer": ""}
        elif i % 8 == 1:  # long number words are what is misheard most
            word = language.number(rng.randrange(100))
            row = {"split": "train", "kind": "number", "said": word, "answer": word}
        row |= {"text": language.words_of(row["said"]), "answer": language.words_of(row["answer"])}
        voice = f"{rng.choice(bases)}+{rng.choice(WIDE_VARIANTS)}"
        row |= {"language": language.name, "voice": voice, "wide": True, "seed": rng.randrange(1 << 30)}
        jobs.append(row)
    return jobs


def plan_tune(language: Language, seed: int = 5) -> list[dict]:
    """150 questions (no held-out fact) and 90 sentences to be refused, in voices of neither training nor tests."""
    rng, known = random.Random(seed), by_kind(language, held_out_questions=True)
    drawn = [rng.choice(known[rng.choice(sorted(known))]) for _ in range(150)]
    said = [("tune", i.kind, i.question, i.answer) for i in drawn]
    said += [("tune_unknown", "unknown", language.outside(rng), "") for _ in range(90)]
    jobs = []
    for split, kind, text, answer in said:
        row = {
            "language": language.name,
            "split": split,
            "voice": f"{language.speaker}+{rng.choice(TUNE_VARIANTS)}",
        }
        row |= {
            "kind": kind,
            "said": text,
            "text": language.words_of(text),
            "answer": language.words_of(answer),
        }
        jobs.append({**row, "seed": rng.randrange(1 << 30)})
    return jobs


def record(job: dict) -> tuple[dict, np.ndarray | None]:
    """Speak one; the speaker's at one rate and pitch and with phone times, the others' perturbed."""
    rng = random.Random(job["seed"])
    language = LANGUAGES[job["language"]]
    own = job["voice"] == language.speaker
    speed, pitch = (150, 50) if own else (rng.randrange(120, 195), rng.randrange(25, 75))
    if job.pop("wide", False):
        speed, pitch = rng.randrange(100, 230), rng.randrange(5, 95)
    samples, rate, sounds = speak(job["said"], job["voice"], speed, pitch)
    samples = soxr.resample(samples, rate, RATE, quality="MQ")
    if own:
        job["phones"] = timed_phones(language, sounds, len(samples) / RATE)
    gain = 0.07 * (1.0 if own else rng.uniform(0.6, 1.4))
    samples = samples / np.sqrt(float((samples**2).mean()) + 1e-9) * gain
    peak = float(np.abs(samples).max())
    return job, (samples * (min(1.0, 0.98 / peak) * 32767)).astype(np.int16)


def timed_phones(language: Language, sounds: list[tuple[str, float]], duration_s: float) -> list[str]:
    """Sounds with starts -> "phone:end" items as flite writes them; a sound of two phones is halved."""
    items: list[str] = [] if not sounds or sounds[0][1] < 0.005 else [f"pau:{sounds[0][1]:.3f}"]
    ends = [start for _, start in sounds[1:]] + [duration_s]
    for (name, start), end in zip(sounds, ends, strict=True):
        phones = language.phones(name) or ["pau"]
        if end - start < 0.002:
            continue
        for k, phone in enumerate(phones, 1):
            items.append(f"{phone}:{start + (end - start) * k / len(phones):.3f}")
    return items


def lexicon(language: Language) -> str:
    """Pronunciations of all words, as espeak-ng says them alone: lines of ``word phone phone``."""
    rows = (
        (word, language.phones(pronounce(said, language.speaker)))
        for word, said in sorted(language.spelled().items())
    )
    return "".join(f"{word} {' '.join(phones)}\n" for word, phones in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--language", choices=LANGUAGES, default="german")
    parser.add_argument(
        "--tune", action="store_true", help="what the gate is set on (recipes/nano/tune_gate.py) instead"
    )
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--wide", type=float, default=0, help="further minutes, by more voices")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    language = LANGUAGES[args.language]
    jobs = plan(args.minutes, language) + plan_wide(args.wide, language)
    if args.tune:
        jobs = plan_tune(language)
    write_shards(jobs, record, args.out, 1)
    (args.out / f"lexicon_{language.name}.txt").write_text(lexicon(language), encoding="utf-8")


if __name__ == "__main__":
    main()
