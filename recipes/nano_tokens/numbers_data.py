"""The numbers part of the bundle's domain: which utterances are used, and how both ears see them.

Everything that an ear is given is made once (prepare.py) and read from one file, so that training time is spent on
learning alone and both ears get the same clips in the same order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from domain import all_items, draw_open, held_out_facts
from torch import Tensor

KINDS = (
    "arithmetic", "digit", "digits", "number", "double", "neighbour", "compare", "parity", "count",
)  # fmt: skip
PARTS = {"digits": ("digit", "digits"), "numbers": KINDS}
"""Kinds of the small part, single digits and strings of 2 to 6, and of the whole one, with sums and the like."""
SETS = ("train", "known", "voices", "people")
"""Trained clips; other clips in their voices; voices never trained; real digits of the Free Spoken Digit Dataset."""
HELD_OUT_TIMBRES = ("m5", "m7", "Andy", "f1", "f3")
"""Timbres of espeak-ng that are not trained here, beside the voices that make_speech.py holds out."""
TEST_EVERY = 10  # of the clips in trained voices


def set_of(split: str, voice: str, number: int) -> str:
    """Which set a clip belongs to; ``number`` counts the clips of its split."""
    if split == "test_digit":
        return "people"
    if split == "test_voice" or voice.rpartition("+")[2] in HELD_OUT_TIMBRES:
        return "voices"
    return "known" if split == "test_sentence" or number % TEST_EVERY == 0 else "train"


@dataclass(frozen=True)
class Clip:
    """One utterance as both ears see it."""

    split: str
    voice: str
    kind: str
    text: str
    answer: str
    seconds: float
    codes: Tensor  # uint16 stored as int16 [T, 7], depth first: A B C C B C C
    mel: Tensor  # float16 [80, F], 100 Hz


class NumbersData:
    """Reads what prepare.py wrote.

    A clip in a trained voice whose words were trained too is no test, unless it is a single digit.

    Args:
        file: Its output.
        part: Key of ``PARTS``.
        hours: Amount of distinct speech to train on; None for all. Smaller amounts are parts of larger ones.
    """

    def __init__(self, file: Path, part: str = "numbers", hours: float | None = None) -> None:
        stored = torch.load(file, weights_only=True, mmap=True)
        self.clips: dict[str, list[Clip]] = {name: [] for name in SETS}
        codes, mel = stored["codes"], stored["mel"]
        for number, row in enumerate(stored["rows"]):
            if row["kind"] not in PARTS[part]:
                continue
            first, frames = row.pop("codes_at"), row.pop("codes_frames")
            begin, width = row.pop("mel_at"), row.pop("mel_frames")
            clip = Clip(codes=codes[first : first + frames], mel=mel[begin : begin + width].T, **row)
            self.clips[set_of(clip.split, clip.voice, number)].append(clip)
        train = self.clips["train"]
        trained = {clip.text for clip in train}
        self.clips["known"] = [c for c in self.clips["known"] if c.kind == "digit" or c.text not in trained]
        random.Random(5).shuffle(train)
        if hours is not None:
            total = np.cumsum([clip.seconds for clip in train])
            self.clips["train"] = train[: int(np.searchsorted(total, hours * 3600)) + 1]
        self.hours = sum(clip.seconds for clip in self.clips["train"]) / 3600

    def batch(self, step: int, size: int, seed: int = 0, pool: int = 4) -> list[Clip]:
        """The clips of a step: ``pool`` steps share a draw that is sorted by length, so that padding stays small."""
        group, place = divmod(step, pool)
        rng = random.Random(f"clips {seed} {group}")
        train = self.clips["train"]
        drawn = (
            rng.sample(train, size * pool) if len(train) >= size * pool else rng.choices(train, k=size * pool)
        )
        drawn.sort(key=lambda clip: clip.seconds)
        parts = [drawn[i * size : (i + 1) * size] for i in range(pool)]
        rng.shuffle(parts)
        return parts[place]


class TypedFacts:
    """Questions with their answers as text, without the facts that are never trained."""

    def __init__(self, part: str = "numbers") -> None:
        items = all_items()
        unseen = held_out_facts(items)
        self.kinds = PARTS[part]
        self.by_kind: dict[str, list[tuple[str, str]]] = {}
        for item in items:
            if item.kind in self.kinds and item.fact not in unseen:
                self.by_kind.setdefault(item.kind, []).append((item.question, item.answer))

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Half arithmetic, which has the most facts; a seventh digits and numbers to repeat."""
        u = rng.random()
        if u < 0.14 or not self.by_kind:
            while True:
                item = draw_open(rng)
                if item.kind in self.kinds:
                    return item.question, item.answer
        kind = "arithmetic" if u < 0.6 else rng.choice(list(self.by_kind))
        return rng.choice(self.by_kind[kind])

    def words(self) -> list[str]:
        """All words of the part of the domain, sorted."""
        rng, texts = random.Random(0), []
        for rows in self.by_kind.values():
            texts += [f"{q} {a}" for q, a in rows]
        texts += ["{} {}".format(*self.draw(rng)) for _ in range(4000)]
        return sorted(set(" ".join(texts).split()))
