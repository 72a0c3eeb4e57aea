"""Choose when to refuse, on speech of neither training nor tests.

python recipes/nano/make_speech.py --plan tune --out runs/nano2/tune
python recipes/nano/tune_gate.py --model runs/nano2/bundle --speech runs/nano2/tune

Prints for floors of the gate the share of questions read rightly, of those refused, and of what has no place in the
domain that was refused: sentences, backward speech, sounds. The floor is then set by hand
(``GATE_FLOOR`` in package.py).
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

FLOORS = (-3.0, -2.5, -2.0, -1.7, -1.4, -1.2, -1.0, -0.8, -0.6)
FIRST_SOUND = 1000  # tests use the first hundreds of each kind


def clips(folder: Path) -> Iterator[tuple[np.ndarray, int, str]]:
    """Questions, then all that must be refused (wanted text "")."""
    shards = SpeechShards(folder)
    for row in shards.rows:
        yield shards.samples(row), RATE, row["text"] if row["split"] == "tune" else ""
    questions = [row for row in shards.rows if row["split"] == "tune" and row["kind"] != "digit"]
    for row in questions[:60]:
        yield np.ascontiguousarray(shards.samples(row)[::-1]), RATE, ""
    voices = [shards.samples(row) for row in questions[60:]]
    for kind in NOISES:
        for index in range(FIRST_SOUND, FIRST_SOUND + 10):
            wave, rate = make_noise(kind, index, voices[(index % 10) * 6 :][:6])
            yield wave, rate, ""


def listen(model: Any, folder: Path) -> list[tuple[str, str, float]]:
    """(wanted text, text read, the gate's measure) of every clip; nothing read is ("", -inf)."""
    kept: list[Reading | None] = []
    read = turn.read_jointly

    def read_and_keep(*args: Any, **named: Any) -> Reading | None:
        kept[:] = [read(*args, **named)]
        return kept[0]

    turn.read_jointly, out = read_and_keep, []
    for wave, rate, wanted in clips(folder):
        kept.clear()
        text = model.transcribe((wave, rate)).text
        reading = kept[0] if kept else None
        out.append((wanted, text.strip(), reading.floor if reading else -np.inf))
    turn.read_jointly = read
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--speech", type=Path, required=True, help="folder of make_speech.py --plan tune")
    args = parser.parse_args()
    torch.set_num_threads(1)
    heard = listen(vivavoce.load(args.model), args.speech)
    asked, other = [row for row in heard if row[0]], [row for row in heard if not row[0]]
    right = np.mean([text == wanted for wanted, text, _ in asked])
    print(f"{len(asked)} questions and digits, {right:.1%} read rightly; {len(other)} to be refused")
    for floor in FLOORS:
        trusted = [(wanted, text if sure >= floor else "") for wanted, text, sure in asked]
        print(
            f"floor {floor:g}: right {np.mean([text == wanted for wanted, text in trusted]):.1%}, refused"
            f" {np.mean([not text for _, text in trusted]):.1%}; others refused"
            f" {np.mean([sure < floor for *_, sure in other]):.1%}"
        )


if __name__ == "__main__":
    main()
