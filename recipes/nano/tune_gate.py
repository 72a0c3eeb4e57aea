"""Choose when to refuse, on speech of neither training nor tests.

python recipes/nano/make_speech.py --plan tune --out runs/nano2/tune
python recipes/nano/tune_gate.py --model runs/nano2/bundle --speech runs/nano2/tune runs/german/tune

Prints for floors of the gate how many questions are read rightly, wrongly and refused, and how much of what has no
place in the domain is refused: sentences, backward speech, sounds. Each language has a floor and a table of its own: of
all that was read as that language, whatever was said. Floors are then set by hand (``GATE_FLOOR`` and ``GATE_FLOORS``
in package.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sounds import NOISES, make_noise
from speech_data import RATE, SpeechShards

import vivavoce
from vivavoce.inference import turn
from vivavoce.inference.joint import Reading
from vivavoce.tokens.spoken_tables import fold

FLOORS = (-4.0, -3.0, -2.5, -2.0, -1.7, -1.4, -1.2, -1.0, -0.8, -0.6, -0.4)
FIRST_SOUND = 1000  # tests use the first hundreds of each kind


def clips(folder: Path, sounds: bool = True) -> Iterator[tuple[np.ndarray, int, str]]:
    """Questions, then all that must be refused (wanted text ""), with ``sounds`` that are no speech."""
    shards = SpeechShards(folder)
    for row in shards.rows:
        yield shards.samples(row), RATE, row["text"] if row["split"] == "tune" else ""
    questions = [row for row in shards.rows if row["split"] == "tune" and row["kind"] != "digit"]
    for row in questions[:60]:
        yield np.ascontiguousarray(shards.samples(row)[::-1]), RATE, ""
    voices = [shards.samples(row) for row in questions[60:]]
    for kind in NOISES if sounds else ():
        for index in range(FIRST_SOUND, FIRST_SOUND + 10):
            wave, rate = make_noise(kind, index, voices[(index % 10) * 6 :][:6])
            yield wave, rate, ""


def listen(model: Any, folder: Path, sounds: bool = True) -> list[tuple[str, str, float]]:
    """(wanted text, text read without accents, the gate's measure) of every clip; nothing read is ("", -inf)."""
    kept: list[Reading | None] = []
    read = turn.read_jointly

    def read_and_keep(*args: Any, **named: Any) -> Reading | None:
        kept[:] = [read(*args, **named)]
        return kept[0]

    turn.read_jointly, out = read_and_keep, []
    for wave, rate, wanted in clips(folder, sounds):
        kept.clear()
        text = model.transcribe((wave, rate)).text
        reading = kept[0] if kept else None
        out.append((wanted, fold(text.strip())[0], reading.floor if reading else -np.inf))
    turn.read_jointly = read
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--speech", type=Path, nargs="+", required=True,
        help="folders of make_speech.py --plan tune and make_language_speech.py --tune",
    )  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = vivavoce.load(args.model)
    heard = [row for i, folder in enumerate(args.speech) for row in listen(model, folder, sounds=not i)]
    nothing = [wanted for wanted, text, _ in heard if not text]
    print(f"nothing read: {sum(map(bool, nothing))} questions, {nothing.count('')} others")
    languages: dict[str, list[tuple[str, str, float]]] = {}
    for row in heard:
        if row[1]:
            languages.setdefault(model.processor.voice_for(row[1]) or "the first language", []).append(row)
    for language, rows in languages.items():
        asked = [(wanted == text, sure) for wanted, text, sure in rows if wanted]
        other = [sure for wanted, _, sure in rows if not wanted]
        print(f"read as {language}: {len(asked)} questions, {len(other)} others")
        for floor in FLOORS:
            right = sum(ok and sure >= floor for ok, sure in asked)
            wrong = sum(not ok and sure >= floor for ok, sure in asked)
            print(
                f"  floor {floor:g}: {right} right, {wrong} wrong, {len(asked) - right - wrong} refused; "
                f"{sum(sure < floor for sure in other)} others refused, {sum(sure >= floor for sure in other)} not"
            )


if __name__ == "__main__":
    main()
