"""Sentences of a small closed grammar: those that the codec learns, and recordings of others to measure it on.

python recipes/codec_snac_small/sentences.py --held-out runs/codec_snac_small/held_out

Writes `texts.txt` beside this script (learned; it is in the repo) and, with --held-out, sentences that are not in it
by voices that were learned and by one that was not: NAME.wav, NAME.txt, and the grammar to which
`vivavoce eval --codec --recordings` holds its recogniser, where chance is far below a word in eight.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import synthesize

WHO = "doctor farmer teacher sailor baker painter driver singer".split()
DID = "bought found painted counted carried washed dropped wanted".split()
MANY = "two three four five six seven eight nine".split()
COLOUR = "red green blue yellow black white brown purple".split()
THING = "apples boxes chairs windows bottles tables ribbons candles".split()
SLOTS = (WHO, DID, MANY, COLOUR, THING)
TEXTS = Path(__file__).with_name("texts.txt")
LEARNED, HELD_OUT = 40, 32
VOICES = ("flite:slt", "flite:awb")  # in data.spoken.voices of train.yaml
UNKNOWN = ("flite:rms", "flite:kal16")


def sentences() -> tuple[list[str], list[str]]:
    """Learned sentences, and others in which every word is learned; in both all words are about equally often."""
    chance = random.Random(0)
    count = LEARNED + HELD_OUT
    columns = []
    for words in SLOTS:
        column = (list(words) * (count // len(words) + 1))[:count]
        chance.shuffle(column)
        columns.append(column)
    found = ["the {} {} {} {} {}".format(*row) for row in zip(*columns, strict=True)]
    return found[:LEARNED], found[LEARNED:]


def grammar() -> str:
    """JSGF of all sentences there could be."""
    slots = " ".join(f"({' | '.join(words)})" for words in SLOTS)
    return f"#JSGF V1.0;\ngrammar sentences;\npublic <spoken> = the {slots};\n"


def record(folder: Path, texts: Sequence[str]) -> int:
    """Say every text in a learned and in an unknown voice, in turn; returns how many recordings there are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grammar.jsgf").write_text(grammar(), encoding="utf-8")
    for number, text in enumerate(texts):
        for kind, voices in (("learned", VOICES), ("unknown", UNKNOWN)):
            file = folder / f"{kind}-{number:03d}.wav"
            if not file.is_file():
                write_audio(file, *synthesize(text, voices[number % len(voices)]))
                file.with_suffix(".txt").write_text(text, encoding="utf-8")
    return 2 * len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", type=Path)
    args = parser.parse_args()
    learned, held_out = sentences()
    TEXTS.write_text("\n".join(learned) + "\n", encoding="utf-8")
    if args.held_out is not None:
        print(f"{record(args.held_out, held_out)} recordings in {args.held_out}")


if __name__ == "__main__":
    main()
