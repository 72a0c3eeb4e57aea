"""Typed conversations: the domain's questions with their answers, as token rows.

Every draw takes a random generator of the step, so a resumed run reads exactly what an uninterrupted one would.
"""

from __future__ import annotations

import random

import torch
from domain import all_items, draw_open, held_out_facts
from torch import Tensor


class Conversations:
    """Draws typed turns and conversations of the domain; facts held out are never among them.

    Args:
        tokenizer: The bundle's tokenizer.
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        items = all_items()
        unseen = held_out_facts(items)
        self.facts = [(i.question, i.answer) for i in items if i.fact not in unseen]
        by_kind: dict[str, list[tuple[str, str]]] = {}
        for item in items:
            if item.fact not in unseen:
                by_kind.setdefault(item.kind, []).append((item.question, item.answer))
        self.by_kind = by_kind
        get = tokenizer.convert_tokens_to_ids
        self.user, self.heard = get("<|user|>"), get("<|heard|>")
        self.assistant, self.end = get("<|assistant|>"), get("<|end|>")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(text.split())

    def turn(self, rng: random.Random) -> tuple[str, str]:
        """A typed question with its answer; half the draws are arithmetic, which has the most facts."""
        u = rng.random()
        if u < 0.1:
            item = draw_open(rng)
            return item.question, item.answer
        if u < 0.5:
            return rng.choice(self.by_kind["arithmetic"])
        if u < 0.65:
            return rng.choice(self.facts)
        return rng.choice(self.by_kind[rng.choice(list(self.by_kind))])

    def turn_ids(self, question: str, answer: str) -> list[int]:
        """A whole typed turn, from <|user|> to <|end|>."""
        return [self.user, self.heard, *self.ids(question), self.assistant, *self.ids(answer), self.end]

    def batch(self, rng: random.Random, size: int) -> tuple[Tensor, Tensor]:
        """Typed conversations of one or two turns: ids [B, L] and labels (questions and answers)."""
        rows, targets = [], []
        for _ in range(size):
            ids: list[int] = []
            labels: list[int] = []
            for _ in range(rng.choice([1, 1, 2])):
                turn = self.turn_ids(*self.turn(rng))
                ids += turn
                # the question too: what may be asked, also where it was never heard, is the transcript's prior
                labels += [-100, -100, *turn[2:]]
            rows.append(ids)
            targets.append(labels)
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        return (
            torch.tensor([r + [pad] * (width - len(r)) for r in rows]),
            torch.tensor([t + [-100] * (width - len(t)) for t in targets]),
        )
