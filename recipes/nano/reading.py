"""Typed conversations of up to six turns: the domain's questions, follow-ups and answers, as token rows.

Every draw takes a random generator of the step, so a resumed run reads exactly what an uninterrupted one would.
"""

from __future__ import annotations

import random
import re

import torch
from domain import all_items, draw_open, held_out_facts
from follow_ups import (
    HALVES,
    LARGEST,
    OPERATIONS,
    TEMPLATES,
    TOLD,
    UNKNOWN,
    VALUES,
    Turn,
    about,
    draw_follow_up,
    draw_told,
    follow_up_questions,
    held_out_steps,
    needs_before,
    opening,
    reply,
    things,
    without,
)
from full_sentences import sentence_items
from torch import Tensor

TURNS = (1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6)
"""Turns of a conversation, drawn evenly from these."""


class Conversations:
    """Draws turns and conversations of the domain; facts held out are never among them.

    Args:
        tokenizer: The bundle's tokenizer. One without the words of follow-ups and sentences gets single questions
            with short answers only, as the first edition.
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        unseen = held_out_facts(all_items())
        items = [i for i in all_items() if i.fact not in unseen]
        self.facts = [(i.question, i.answer) for i in items]
        self.by_kind: dict[str, list[tuple[str, str]]] = {}
        for item in items:
            self.by_kind.setdefault(item.kind, []).append((item.question, item.answer))
        get = tokenizer.convert_tokens_to_ids
        self.follows = get("sentence") not in (None, get("<unk>"))
        self.sentences: dict[str, list[str]] = {}
        self.by_value: dict[int, list[str]] = {}
        if self.follows:
            for item in sentence_items():
                if item.fact not in unseen:
                    self.sentences.setdefault(item.kind, []).append(item.question)
            for question, answer in self.facts:
                if answer in VALUES:
                    self.by_value.setdefault(VALUES[answer], []).append(question)
            self.starters = follow_up_questions()
        self.user, self.heard = get("<|user|>"), get("<|heard|>")
        self.assistant, self.end = get("<|assistant|>"), get("<|end|>")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(text.split())

    def turn(self, rng: random.Random) -> tuple[str, str]:
        """A short question with its answer; half the draws are arithmetic, which has the most facts."""
        u = rng.random()
        if u < 0.1:
            item = draw_open(rng)
            return item.question, item.answer
        if u < 0.5:
            return rng.choice(self.by_kind["arithmetic"])
        if u < 0.65:
            return rng.choice(self.facts)
        return rng.choice(self.by_kind[rng.choice(list(self.by_kind))])

    def opening(self, rng: random.Random) -> Turn:
        """A turn that needs nothing before it: short, in a sentence, or something told."""
        u = rng.random() if self.follows else 1.0
        if u < 0.06:
            return draw_told(rng)
        if u < 0.26:
            return opening(rng.choice(self.sentences[rng.choice(list(self.sentences))]))
        return opening(*self.turn(rng))

    def conversation(self, rng: random.Random, count: int) -> list[Turn]:
        """``count`` turns; from the second on, three in five build on what was said."""
        turns: list[Turn] = []
        while len(turns) < count:
            made = None
            if self.follows and not turns and rng.random() < 0.02:
                made = without((), rng.choice(self.starters))
            elif self.follows and turns and rng.random() < 0.6:
                made = next((t for _ in range(6) if (t := draw_follow_up(rng, turns))), None)
            elif self.follows and turns and rng.random() < 0.03:
                made = without(turns, rng.choice([later for _, later, _ in TOLD.values()]))
            turns.append(made or self.opening(rng))
        return turns

    def before(self, rng: random.Random, text: str) -> list[Turn]:
        """A conversation of 1 to 6 turns whose last question is ``text``.

        Args:
            rng: Of the step.
            text: Any question of the domain, such as the transcript of a recording.
        """
        count = rng.choice(TURNS) - 1
        if not needs_before(text):
            earlier = self.conversation(rng, count) if rng.random() < 0.5 else []
            return [*earlier, opening(text)]
        for _ in range(30):
            turns = [*self.conversation(rng, max(0, count - 1)), *self._ground(rng, text)]
            if rng.random() < 0.15 and len(turns) < 5:
                turns.append(opening(*rng.choice(self.by_kind["talk"])))
            made = reply(turns, text)
            if made and made.fact not in held_out_steps():
                return [*turns, made]
        return [Turn(text, UNKNOWN, "")]

    def history(self, rng: random.Random, text: str) -> list[int]:
        """Token ids of what was said before a recording, as text: the bundle answers from transcripts.

        Args:
            rng: Of the step.
            text: The recording's transcript; "" if it must be refused.
        """
        if not self.follows:  # the first edition: at most one turn
            return self.turn_ids(*self.turn(rng)) if rng.random() < 0.25 else []
        turns = self.before(rng, text)[:-1] if text else self.conversation(rng, rng.choice(TURNS) - 1)
        return [token for turn in turns for token in self.turn_ids(turn.question, turn.answer)]

    def _ground(self, rng: random.Random, text: str) -> list[Turn]:
        """A turn that a follow-up can stand on."""
        for form, (_, later, _) in TOLD.items():
            if text == later:
                return [
                    next(t for t in iter(lambda: draw_told(rng), None) if t.question.startswith(form[:-2]))
                ]
        step = re.fullmatch(r"(?:and )?(plus|minus|times) (.+)", text)
        if step or text in HALVES:
            op, k = (step[1], VALUES[step[2]]) if step else ("times", 2 if "double" in text else 1)
            fitting = [v for v in self.by_value if v >= 0 and 0 <= OPERATIONS[op](v, k) <= LARGEST]
            return [opening(rng.choice(self.by_value[rng.choice(fitting)]))]
        thing = text.removeprefix("what about ").removeprefix("and ")
        templates = [t for t in TEMPLATES if thing != text and about(t, thing)]
        if templates:
            template = rng.choice(templates)
            return [opening(template.format(rng.choice(things(template))))]
        return [self.opening(rng)]

    def turn_ids(self, question: str, answer: str) -> list[int]:
        """A whole typed turn, from <|user|> to <|end|>."""
        return [self.user, self.heard, *self.ids(question), self.assistant, *self.ids(answer), self.end]

    def batch(self, rng: random.Random, size: int) -> tuple[Tensor, Tensor]:
        """Typed conversations: ids [B, L] and labels (questions and answers)."""
        rows, targets = [], []
        for _ in range(size):
            ids: list[int] = []
            labels: list[int] = []
            count = rng.choice(TURNS) if self.follows else rng.choice([1, 1, 2])
            for turn in self.conversation(rng, count):
                row = self.turn_ids(turn.question, turn.answer)
                ids += row
                # the question too: what may be asked, also where it was never heard, is the transcript's prior
                labels += [-100, -100, *row[2:]]
            rows.append(ids)
            targets.append(labels)
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        return (
            torch.tensor([r + [pad] * (width - len(r)) for r in rows]),
            torch.tensor([t + [-100] * (width - len(t)) for t in targets]),
        )
