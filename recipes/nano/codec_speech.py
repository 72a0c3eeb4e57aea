"""Write utterances of make_speech.py as wav files, for a codec to learn from or to be measured on.

python recipes/nano/codec_speech.py --speech runs/nano/speech --out runs/nano/codec_speech
python recipes/nano/codec_speech.py --speech runs/nano/speech --out runs/nano/codec_held_out --questions 80

Without --questions the splits train, unknown and voice; what is held out stays out. With it held-out questions: as many
by flite's voices that were learned, and as many by one that was not, each with its words in a .txt beside it, and the
grammar of all questions, to which `vivavoce eval --codec --recordings` holds its recogniser. Files that are there stay.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from judge import grammar, kind_of
from speech_data import RATE, SpeechShards

from vivavoce.audio.files import write_audio

LEARNED = {"train", "unknown", "voice"}
HELD_OUT = ("test_sentence", "test_voice")


def drawn(rows: list[dict], most: int | None) -> list[dict]:
    """All rows in order, or ``most`` of them in an order that is always the same."""
    return rows if most is None else random.Random(0).sample(rows, min(most, len(rows)))


def questions(rows: list[dict], count: int) -> list[dict]:
    """Held-out questions by flite, ``count`` of each split, no text twice."""
    found = []
    for split in HELD_OUT:
        fitting = {
            row["text"]: row
            for row in rows
            if row["split"] == split
            and row["voice"].startswith("flite:")
            and kind_of(row["text"]) == "question"
        }
        found += drawn(list(fitting.values()), count)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, help="utterances to learn; all by default")
    parser.add_argument("--questions", type=int, help="held-out questions of learned and of unknown voices")
    args = parser.parse_args()
    if args.questions is None:
        data = SpeechShards(args.speech, LEARNED)
        rows = drawn(data.rows, args.most)
    else:
        data = SpeechShards(args.speech, set(HELD_OUT))
        rows = questions(data.rows, args.questions)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "grammar.jsgf").write_text(grammar("question"), encoding="utf-8")
    for number, row in enumerate(rows):
        name = f"{number:06d}" if args.questions is None else f"{row['split']}-{number:06d}"
        file = args.out / f"{number // 1000:03d}" / f"{name}.wav"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_audio(file, data.samples(row), RATE)
            if args.questions is not None:
                file.with_suffix(".txt").write_text(row["text"], encoding="utf-8")
    print(f"{len(rows)} utterances in {args.out}")


if __name__ == "__main__":
    main()
