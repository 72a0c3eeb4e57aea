"""Speak what a voice learns from, with a flite voice and the times of its phones.

python recipes/nano/make_voices.py --voice flite:awb --utterances 3300 --short 0.25 --out runs/nano2/voices/awb

Texts are those of make_speech.py's split "voice", and a share of short ones that stand alone (one word, a number, two
letters), which are hard to understand without a sentence around them. What the bundle is tested on is left out.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import sentences
from domain import DIGITS, Item, all_items, held_out_facts, held_out_questions, number, vocabulary
from make_speech import speak, write_shards
from speech_data import SpeechShards


def short_text(rng: random.Random, answers: list[str]) -> str:
    """A text of one to three words."""
    u = rng.random()
    if u < 0.4:
        return rng.choice(answers)
    if u < 0.6:
        return rng.choice(sentences.dictionary())
    if u < 0.75:
        return number(rng.randrange(100))
    if u < 0.85:
        return rng.choice(DIGITS)
    return rng.choice(vocabulary())


def plan(voice: str, utterances: int, short: float, seed: int, left_out: set[str]) -> list[dict]:
    """Jobs for ``make_speech.speak``.

    Args:
        voice: "flite:NAME".
        utterances: How many.
        short: Share of short texts.
        seed: Decides all texts.
        left_out: Texts that are never drawn.
    """
    rng = random.Random(f"{voice} {seed}")
    items = all_items()
    facts, questions = held_out_facts(items), held_out_questions(items)
    known: list[Item] = [i for i in items if i.fact not in facts and i.question not in questions]
    answers = sorted({i.answer for i in items if len(i.answer.split()) <= 3})
    jobs: list[dict] = []
    while len(jobs) < utterances:
        brief = rng.random() < short
        text = short_text(rng, answers) if brief else sentences.to_speak(rng, known)
        if text not in left_out:
            row = {"split": "voice", "voice": voice, "kind": "short" if brief else "voice", "text": text}
            jobs.append({**row, "answer": "", "seed": rng.randrange(1 << 30)})
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voice", required=True, help="flite:NAME")
    parser.add_argument("--utterances", type=int, required=True)
    parser.add_argument("--short", type=float, default=0.25, help="share of short texts")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--not-in", type=Path, help="folder of make_speech.py whose test texts are left out")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    left_out = {r["text"] for r in SpeechShards(args.not_in, {"test_spoken"}).rows} if args.not_in else set()
    jobs = plan(args.voice, args.utterances, args.short, args.seed, left_out)
    write_shards(jobs, speak, args.out, args.processes)


if __name__ == "__main__":
    main()
