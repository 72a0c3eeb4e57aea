"""Teach a tiny language model a few answers by heart, as text, so that there is something to hear and to distil.

A model with random weights says nothing that depends on what it reads; ears in front of it would learn nothing that
can be checked. One that answers a few typed questions can be kept frozen while ears learn to ask them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.sources import TextConfig, TextSource
from vivavoce.data.conversation import Conversation
from vivavoce.tokens.chat import render_chat


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a tiny language model is taught.

    Attributes:
        file: JSON lines with a ``prompt`` and an ``answer``.
        rows: How many of its first lines.
        steps: Updates, each of all rows.
        lr: Learning rate, falling to 0.
    """

    file: str
    rows: int = 8
    steps: int = 150
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if self.rows < 1 or self.steps < 1:
            raise ConfigError(f"rows is {self.rows}, steps {self.steps}; wanted 1 or more of each")


def teach(folder: Path, lesson: Lesson) -> None:
    """Teach the language model of a folder, which is written anew with what it learned.

    Args:
        folder: As `tiny_llm.write_tiny_llm` wrote it.
        lesson: What it learns; nothing here is random.

    Raises:
        ConfigError: The file cannot be read.
        DataError: It has fewer rows with an answer.
    """
    source = TextSource(TextConfig(file=lesson.file), Context())
    found = source.rows(0, min(lesson.rows, len(source)))
    rows = [row for row in found if isinstance(row, Conversation) and len(row.messages) == 2]
    if len(rows) < lesson.rows:
        raise DataError(f"{lesson.file} has {len(rows)} rows with an answer in front; wanted {lesson.rows}.")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chats = [[{"role": m.role, "content": m.words} for m in row.messages] for row in rows]
    made = [render_chat(tokenizer, chat) for chat in chats]
    size = max(len(one.input_ids) for one in made)
    ids = torch.tensor([[*one.input_ids, *[0] * (size - len(one.input_ids))] for one in made])
    learned = torch.tensor([[*one.loss_weights, *[0.0] * (size - len(one.input_ids))] for one in made]) > 0
    targets = torch.where(learned, ids, -100)[:, 1:].flatten()
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lesson.lr, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(lesson.steps):
        for group in optimizer.param_groups:
            group["lr"] = lesson.lr * min(1.0, (step + 1) / 10) * (1 - step / lesson.steps)
        loss = F.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
