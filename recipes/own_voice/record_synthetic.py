"""Recordings of a synthesizer's voice in the place of a person's, each with a .txt beside it, to try teach.sh with.

python recipes/own_voice/record_synthetic.py --voice flite:rms --out runs/own_voice/rms

Each digit once and questions of the bundle's domain, none of those held out from all training. Held-out voices are
tried on others too: give the folder to evaluate.py as --recorded, so that what was recorded is not tried.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nano"))

from domain import DIGITS, all_items, held_out_facts, held_out_questions

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import synthesize


def texts(sentences: int, seed: int = 0) -> list[str]:
    """The ten digits and so many different questions."""
    items = all_items()
    facts, questions = held_out_facts(items), held_out_questions(items)
    known = sorted({i.question for i in items if i.fact not in facts and i.question not in questions})
    return DIGITS + random.Random(seed).sample(known, sentences)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voice", required=True, help="flite:NAME or espeak:NAME")
    parser.add_argument("--sentences", type=int, default=30, help="questions beside the ten digits")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    for number, text in enumerate(texts(args.sentences)):
        wave, rate = synthesize(text, args.voice)
        write_audio(args.out / f"{number:03d}.wav", wave, rate)
        (args.out / f"{number:03d}.txt").write_text(text + "\n", encoding="utf-8")
        seconds += len(wave) / rate
    print(f"{number + 1} recordings, {seconds:.0f} s, in {args.out}")


if __name__ == "__main__":
    main()
