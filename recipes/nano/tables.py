"""The tables of this folder's README, from what was measured.

python recipes/nano/tables.py results.json conversations.json

Takes any number of files that evaluate.py, conversations.py and people.py wrote with --json; rows that none of them has
are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speech_data import SPEAKERS
from speech_plans import HELD_OUT_VOICES

ROWS = [
    ("held-out sentences, known voices: transcripts exact", "hearing: transcripts exact", "≥ 95 %"),
    ("... of those whose every word was heard in training",
     "hearing: transcripts exact, every word heard in training", ""),
    ("... answers right", "hearing: answers right", "≥ 90 %"),
    ("... answers right on facts never trained", "hearing: answers right, facts never trained", "≥ 90 %"),
    ("... refused though in the domain", "hearing: refused though in the domain", "≤ 3 %"),
    ("held-out voices: transcripts exact", "voices: transcripts exact", "≥ 95 %"),
    ("... answers right", "voices: answers right", "≥ 90 %"),
    ("... refused though in the domain", "voices: refused though in the domain", "≤ 3 %"),
    *((f"... transcripts exact, {voice}", f"voices: transcripts exact, {voice}", "") for voice in HELD_OUT_VOICES),
    *((f"real single digits, {name}, trained with the others and him", f"digits: {name}, as the bundle was trained", "")
      for name in SPEAKERS),
    ("strings of 2 to 5 real digits, spliced, trained speakers", "strings: all, as the bundle was trained", ""),
    ("noise, silence, music-like sounds and babble refused", "refusals: noise, silence and babble", "≥ 98 %"),
    ("sentences outside the domain refused", "refusals: sentences outside the domain", "≥ 98 %"),
    ("backward speech refused", "refusals: backward speech", "≥ 98 %"),
    ("... all of these together", "refusals: all together", "≥ 98 %"),
    ("typed questions, trained facts: answers right", "facts: typed, trained", ""),
    ("typed sums never trained", "facts: typed, arithmetic never trained", ""),
    ("spoken sentences, word error by pocketsphinx (closed grammar)",
     "speaking: word error, sentences by the voice", "≤ 1.3 x"),
    ("... flite's slt, whose voice it is, same judge", "speaking: word error, sentences by flite (floor)", ""),
    ("... flite through the codec", "speaking: word error, flite through the codec", ""),
    ("spoken sentences, voice awb", "speaking: word error, sentences by voice awb", "≤ 1.3 x"),
    ("... flite's awb, same judge", "speaking: word error, sentences by flite:awb (floor)", ""),
    ("... flite's awb through the codec", "speaking: word error, flite:awb through the codec", ""),
    ("words outside the lexicon read right, default voice",
     "speaking: words outside the lexicon by voice default", "≥ 80 %"),
    ("... voice awb", "speaking: words outside the lexicon by voice awb", "≥ 80 %"),
    ("spoken short answers, word error", "speaking: word error, answers by the voice", ""),
    ("... flite's own, same judge", "speaking: word error, answers by flite (floor)", ""),
]  # fmt: skip
KINDS = {
    "chain": '"and times two"',
    "new step": "the same, a step never trained",
    "sums in plain words": "the number is said again",
    "next": '"what comes after that"',
    "about": '"what about dog"',
    "again": '"say that again"',
    "opposite": '"what is the opposite of that"',
    "spell": '"spell that"',
    "asked": '"what did i ask"',
    "told": "what one told before",
    "full": '"in a sentence"',
}
PEOPLE = {
    "single digits": "transcripts exact",
    "10 dB noise": "transcripts exact",
    "strings of four": "transcripts exact",
    "sums": "answers right",
}
HOW = ("typed", "spoken, trained voices", "spoken, new voices")

Figures = Mapping[str, Mapping[str, Any]]


def share_rows(figures: Figures) -> list[str]:
    """Markdown of what evaluate.py measured."""
    lines = ["| figure | value | 95 % interval | n | aim |", "|---|---|---|---|---|"]
    for label, key, aim in ROWS:
        if key in figures:
            x = figures[key]
            low, high = 100 * x["low"], 100 * x["high"]
            lines.append(
                f"| {label} | {100 * x['value']:.1f} % | {low:.1f} to {high:.1f} | {x['n']} | {aim} |"
            )
    return lines


def memory_rows(figures: Figures) -> list[str]:
    """Markdown of what conversations.py measured, in per cent."""
    lines = [f"| last question | {' | '.join(HOW)} |", "|---|---|---|---|"]
    names = [(f"{kind}: {example}", kind) for kind, example in KINDS.items()]
    names += [(f"all kinds, {turns} turns", f"{turns} turns") for turns in range(2, 7)]
    names += [("all kinds and turns", "all turns")]
    for label, key in names:
        found = [figures.get(f"{key}, {how}") for how in HOW]
        if any(found):
            cells = [cell(x) if x else "" for x in found]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    for voice in HELD_OUT_VOICES:
        if x := figures.get(f"all turns, new voice {voice}"):
            lines.append(f"| ... by {voice} | | | {cell(x)} |")
    return lines


def people_rows(figures: Figures) -> list[str]:
    """Markdown of what people.py measured, in per cent: a row for each speaker."""
    lines = [f"| never heard | {' | '.join(PEOPLE)} |", "|---" * (len(PEOPLE) + 1) + "|"]
    for name in sorted(
        {key.split(": ")[1].split(", ")[0] for key in figures if key.split(": ")[0] in PEOPLE}
    ):
        found = [figures[f"{test}: {name}, {what}"] for test, what in PEOPLE.items()]
        lines.append(f"| {name} | {' | '.join(cell(x) for x in found)} |")
    return lines


def cell(figure: Mapping[str, Any]) -> str:
    """Per cent, with interval and trials."""
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{100 * figure['value']:.0f} ({low:.0f} to {high:.0f}, n {figure['n']})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, nargs="+", help="files of evaluate.py, conversations.py and people.py"
    )
    args = parser.parse_args()
    found = [x for path in args.results for x in json.loads(path.read_text(encoding="utf-8"))["figures"]]
    by_test = {f"{x['test']}: {x['name']}": x for x in found}
    for rows in (share_rows(by_test), memory_rows({x["name"]: x for x in found}), people_rows(by_test)):
        if len(rows) > 2:
            print("\n".join(rows), end="\n\n")


if __name__ == "__main__":
    main()
