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
SPLITS = ("train", "test_sentence", "test_voice", "test_digit")
"""Trained clips; held-out sentences in known voices; held-out voices; real digits of the Free Spoken Digit Dataset."""


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

    Args:
        file: Its output.
        hours: Amount of distinct speech to train on; None for all. Smaller amounts are parts of larger ones.
    """

    def __init__(self, file: Path, hours: float | None = None) -> None:
        stored = torch.load(file, weights_only=True, mmap=True)
        self.clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
        codes, mel = stored["codes"], stored["mel"]
        for row in stored["rows"]:
            first, frames = row.pop("codes_at"), row.pop("codes_frames")
            begin, width = row.pop("mel_at"), row.pop("mel_frames")
            clip = Clip(codes=codes[first : first + frames], mel=mel[begin : begin + width].T, **row)
            self.clips[clip.split].append(clip)
        train = self.clips["train"]
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

    def __init__(self) -> None:
        items = all_items()
        unseen = held_out_facts(items)
        self.by_kind: dict[str, list[tuple[str, str]]] = {}
        for item in items:
            if item.kind in KINDS and item.fact not in unseen:
                self.by_kind.setdefault(item.kind, []).append((item.question, item.answer))

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Half arithmetic, which has the most facts; a seventh digits and numbers to repeat."""
        u = rng.random()
        if u < 0.14:
            while True:
                item = draw_open(rng)
                if item.kind in KINDS:
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
