"""Choose how much the phones count and when to refuse, on speech of neither training nor tests.

python recipes/nano/make_speech.py --plan tune --out runs/nano2/tune
python recipes/nano/tune_gate.py --model runs/nano2/bundle --speech runs/nano2/tune

Prints, for weights of the phone reader and floors of the gate, the share of questions read rightly, of those refused,
and of what has no place in the domain that was refused (sentences, backward speech, sounds). Weight and floor are
then set by hand: ``PHONES_WEIGHT`` in vivavoce/inference/joint.py, ``GATE_FLOOR`` in package.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sounds import NOISES, make_noise
from speech_data import RATE, SpeechShards

import vivavoce
from vivavoce.inference import joint
from vivavoce.inference.joint import Reading

WEIGHTS = (0.0, 0.25, 0.5, 1.0)
FLOORS = (-2.0, -1.7, -1.4, -1.2, -1.0, -0.8, -0.6)
FIRST_SOUND = 1000  # tests use the first hundreds of each kind


@dataclass
class Heard:
    """Every reading of one clip; none if the language model said "unclear" at once."""

    wanted: str
    readings: list[Reading]
    texts: list[str]

    @staticmethod
    def total(reading: Reading, weight: float) -> float:
        """``Reading.total`` with another weight of the phones."""
        return replace(reading, phones=weight / joint.PHONES_WEIGHT * reading.phones).total

    def best(self, weight: float) -> tuple[str, Reading] | None:
        """Text and reading that win with this weight of the phones."""
        if not self.readings:
            return None
        totals = [self.total(reading, weight) for reading in self.readings]
        at = int(np.argmax(totals))
        return self.texts[at], self.readings[at]


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


def listen(model: Any, folder: Path) -> list[Heard]:
    """All readings of all clips."""
    kept: list[Reading] = []
    score = joint.score

    def scored(*args: Any) -> list[Reading]:
        kept[:] = score(*args)
        return list(kept)

    joint.score = scored
    out = []
    for wave, rate, wanted in clips(folder):
        kept.clear()
        model.transcribe((wave, rate))
        texts = [model.processor.tokenizer.decode(list(r.ids)).strip() for r in kept]
        out.append(Heard(wanted, list(kept), texts))
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
    asked, other = [h for h in heard if h.wanted], [h for h in heard if not h.wanted]
    print(f"{len(asked)} questions and digits, {len(other)} to be refused")
    for weight in WEIGHTS:
        best = [(h.wanted, h.best(weight)) for h in asked]
        print(
            f"phones {weight:g}: winner right {np.mean([b is not None and b[0] == w for w, b in best]):.1%}"
        )
        for floor in FLOORS:
            trusted = [(w, b[0] if b and b[1].floor >= floor else "") for w, b in best]
            wrong = [b is not None and b[1].floor >= floor for b in (h.best(weight) for h in other)]
            print(
                f"  floor {floor:g}: right {np.mean([t == w for w, t in trusted]):.1%}, refused"
                f" {np.mean([not t for _, t in trusted]):.1%}; others refused {1 - np.mean(wrong):.1%}"
            )


if __name__ == "__main__":
    main()
