"""Try a model's memory: conversations of 2 to 6 turns whose last question builds on what was said before.

python recipes/nano/conversations.py --model nano --json runs/nano/conversations.json
python recipes/nano/conversations.py --model nano --kinds "sums in plain words"   # what the first edition knows

Every conversation goes through the product's Session, its own answers in the history. Spoken questions are by flite's
slt and awb, which were trained, or by one of the voices that never were. Right is what follow_ups.reply says after the
right answers before: a wrong answer on the way counts against the last one too, as for a user.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from domain import all_items, held_out_facts, number
from evaluate import plain
from figures import Figure, print_table, share
from follow_ups import (
    ABOUT,
    AGAIN,
    ASKED,
    IN_FULL,
    NEXT,
    OPPOSITE,
    SPELL,
    TOLD,
    Turn,
    draw_told,
    held_out_steps,
    opening,
    reply,
    things,
)
from speech_plans import HELD_OUT_VOICES

import vivavoce
from vivavoce.audio.synthesis import synthesize
from vivavoce.inference.session import Session

TRAINED_VOICES = ("flite:slt", "flite:awb")
KINDS = ("chain", "new step", "sums in plain words", "next", "about", "again", "opposite", "spell",
         "asked", "told", "full")  # fmt: skip
FILLERS = ("thank you", "hello", "who are you", "can you hear me", "good morning")
FIXED = {"next": list(NEXT), "again": list(AGAIN), "opposite": list(OPPOSITE), "spell": list(SPELL),
         "asked": list(ASKED), "full": [IN_FULL]}  # fmt: skip


def _draw(rng: random.Random, kind: str, turns: list[Turn]) -> Turn | None:
    """The next turn of a conversation of this kind, or None if the draw does not fit."""
    if kind in ("chain", "new step", "sums in plain words"):
        op, k = rng.choice(["plus", "minus", "times"]), rng.randint(1, 10)
        if kind == "sums in plain words":  # no follow-up words: the number is said again
            value = turns[-1].value
            if value is None or not 0 <= value <= (10 if op == "times" else 20):
                return None
            made = opening(f"what is {number(value)} {op} {number(k)}")
            return made if made.fact and made.fact not in held_out_facts(all_items()) else None
        made = reply(turns, f"and {op} {number(k)}")
        wanted = kind == "new step"
        return made if made and (made.fact in held_out_steps()) == wanted else None
    if kind == "about":
        template = turns[-1].template
        return reply(turns, rng.choice(ABOUT).format(rng.choice(things(template)))) if template else None
    if kind == "told":
        return reply(turns, rng.choice([later for _, later, _ in TOLD.values()]))
    return reply(turns, rng.choice(FIXED[kind]))


def draw(rng: random.Random, kind: str, count: int) -> list[Turn]:
    """A conversation of ``count`` turns; the last one is of the kind (steps: all after the first, the new one last)."""
    unseen = held_out_facts(all_items())
    openings = [i for i in all_items() if i.fact not in unseen and i.kind != "talk"]
    sums = [i for i in openings if i.kind == "arithmetic" and i.question.startswith("what")]
    while True:
        steps = kind in ("chain", "new step", "sums in plain words")
        turns = [opening(rng.choice(sums if steps else openings).question)]
        if kind == "told":
            turns = [draw_told(rng)]
        while len(turns) < count - 1:
            made = _draw(rng, "chain" if kind == "new step" else kind, turns) if steps else None
            if not steps:
                first = kind in ("told", "asked") and rng.random() < 0.5
                made = opening(rng.choice(FILLERS) if first else rng.choice(openings).question)
            if made is None:
                break
            turns.append(made)
        if len(turns) == count - 1 and (last := _draw(rng, kind, turns)):
            return [*turns, last]


def hold(assistant: Any, turns: list[Turn], voices: tuple[str, ...] | None, rng: random.Random) -> list[bool]:
    """Ask all questions in one Session; whether each answer is right. ``voices`` None types them."""
    session, right = Session(assistant), []
    for turn in turns:
        if voices is None:
            session.feed_text(turn.question)
        else:
            session.feed_audio(*synthesize(turn.question, rng.choice(voices)))
        said = "".join(delta.text or "" for delta in session.respond())
        right.append(plain(said) == plain(turn.answer))
    return right


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--turns", default="2,3,4,5,6", help="lengths, drawn evenly")
    parser.add_argument(
        "--n", type=int, default=60, help="conversations of a kind, typed; a third as many spoken"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    assistant, lengths, figures, misses = (
        vivavoce.load(args.model),
        [int(t) for t in args.turns.split(",")],
        [],
        [],
    )
    by_length: dict[tuple[str, int], list[bool]] = {}
    by_voice: dict[str, list[bool]] = {}
    # a conversation's voices: each turn is by any of them
    ways: tuple[tuple[str, list[tuple[str, ...]] | None], ...] = (
        ("typed", None),
        ("spoken, trained voices", [TRAINED_VOICES]),
        ("spoken, new voices", [(voice,) for voice in HELD_OUT_VOICES]),
    )
    for kind in args.kinds.split(","):
        for way, voices in ways:
            rng, results = random.Random(f"{kind} {way}"), []
            for i in range(args.n if voices is None else -(-args.n // 3)):
                turns = draw(rng, kind, lengths[i % len(lengths)])
                speakers = voices[i % len(voices)] if voices else None
                right = hold(assistant, turns, speakers, rng)
                results.append(right[-1])
                if speakers and len(speakers) == 1:
                    by_voice.setdefault(speakers[0], []).append(right[-1])
                by_length.setdefault((way, len(turns)), []).append(right[-1])
                if not right[-1]:
                    misses.append({"kind": kind, "way": way, "turns": [t.question for t in turns], "right": right,
                                   "wanted": turns[-1].answer})  # fmt: skip
            figures.append(share("memory", f"{kind}, {way}", results))
    figures += [share("memory", f"{n} turns, {way}", rows) for (way, n), rows in sorted(by_length.items())]
    for way, _ in ways:
        every = [right for (its, _), rows in by_length.items() if its == way for right in rows]
        figures.append(share("memory", f"all turns, {way}", every))
    figures += [share("memory", f"all turns, new voice {voice}", rows) for voice, rows in by_voice.items()]
    print_table(figures, f"{args.model}: the last answer of a conversation")
    if args.json:
        rows: list[Figure] = figures
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps({"figures": [f.as_json() for f in rows], "misses": misses}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
