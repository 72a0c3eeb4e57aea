"""Losses of right answers, teacher-forced: where the model's predictions stand, and whether audio moves them.

They are measured while the model is loaded and kept in ``probes.json``; `checks` reads them later without a model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivavoce.base.errors import VivavoceError
from vivavoce.base.whole_files import write_whole
from vivavoce.evaluation.run.stored import StoredCase
from vivavoce.evaluation.run.systems import LETTERS, with_audio, with_words
from vivavoce.evaluation.tasks.task import Task
from vivavoce.inference.assistant import Assistant
from vivavoce.models.config import EmbeddingsIn

LAGS = (-2, -1, 0, 1, 2)
MOST = 32
"""Questions per kind of probe."""

Stored = Mapping[str, Sequence[StoredCase]]
Swapped = Mapping[str, Mapping[str, StoredCase]]


def write_probes(
    assistant: Assistant,
    base: Assistant | None,
    tasks: Sequence[Task],
    stored: Stored,
    swapped: Swapped,
    out: Path,
) -> None:
    """Measure and write ``probes.json``, whole or not at all.

    Args:
        assistant: The model under test.
        base: The language model before speech training.
        tasks: Of the run.
        stored: Their questions.
        swapped: Task -> question -> whose audio it gets.
        out: The run's folder.
    """
    found = {
        "log_vocabulary": math.log(assistant.model.config.vocab_size),
        "typed": typed_losses(assistant, tasks, stored),
        "base": [] if base is None else typed_losses(base, tasks, stored),
        "audio": audio_losses(assistant, tasks, stored, swapped) if assistant.hears else [],
    }
    write_whole(out / "probes.json", json.dumps(found, indent=1))


def typed_losses(assistant: Assistant, tasks: Sequence[Task], stored: Stored) -> list[dict[str, Any]]:
    """Per typed question: losses of its answer at every lag, and of another question's answer in its place."""
    rows = []
    cases = [
        (task, case)
        for task in tasks
        if task.kind in ("listen", "choose", "read")
        for case in stored[task.name]
    ]
    cases = _spread([(task, case) for task, case in cases if case.question.references])
    for number, (task, case) in enumerate(cases):
        other = next(
            (c for _, c in cases[number + 1 :] + cases[:number] if _answer(c) != _answer(case)), None
        )
        try:
            prompt = assistant.processor.prepare(with_words(case, case.texts))
            row: dict[str, Any] = {"task": task.name, "id": case.question.id}
            row["lags"] = lag_losses(assistant, prompt, _answer(case))
            if other is not None:
                row["other"] = lag_losses(assistant, prompt, _answer(other), (0,))["0"]
        except VivavoceError:
            continue  # words that the model has no tokens for; its answers tell of them
        rows.append(row)
    return rows


def audio_losses(
    assistant: Assistant, tasks: Sequence[Task], stored: Stored, swapped: Swapped
) -> list[dict[str, Any]]:
    """Per spoken question: the loss of what is right after its own audio, and after another question's."""
    ears = assistant.model.config.audio_in
    writes_first = isinstance(ears, EmbeddingsIn) and ears.transcript_first
    rows = []
    spoken = [
        (t, c) for t in tasks if t.name in swapped for c in stored[t.name] if c.question.id in swapped[t.name]
    ]
    for task, case in _spread([(t, c) for t, c in spoken if c.question.references]):
        right = " ".join(case.texts) if writes_first else _answer(case)
        lent = swapped[task.name][case.question.id].clips()
        try:
            losses = {}
            for name, clips in (
                ("own", case.clips()),
                ("swapped", [lent[i % len(lent)] for i in range(len(case.clips()))]),
            ):
                prompt = assistant.processor.prepare(with_audio(case, clips, assistant.clips_first))
                losses[name] = lag_losses(assistant, prompt, right, (0,))["0"]
        except VivavoceError:
            continue
        of = "transcript" if writes_first else "answer"
        rows.append({"task": task.name, "id": case.question.id, "of": of, **losses})
    return rows


@torch.inference_mode()
def lag_losses(
    assistant: Assistant, prompt: Mapping[str, Any], answer: str, lags: Sequence[int] = LAGS
) -> dict[str, float | None]:
    """Mean loss per token of an answer after a prompt, if predictions were meant for tokens ``lag`` later.

    A model that was taught with labels shifted by one has its smallest loss at another lag than 0. Lags that reach
    past the answer's end take what is left of it; None where nothing is.

    Args:
        assistant: Whose model reads.
        prompt: From ``SpeechProcessor.prepare``.
        answer: Words; the tokens that end a turn follow.
        lags: Places by which targets are moved.
    """
    processor, model = assistant.processor, assistant.model
    words = processor.spoken(answer) if processor.text_form == "spoken" else answer
    ids = processor.tokenizer(words, add_special_tokens=False)["input_ids"]
    ids = [*ids, *sorted(processor.stop_ids)[:1]]
    begin = len(prompt["input_ids"])
    sequence = torch.tensor([[*prompt["input_ids"], *ids]], device=model.device)
    features = {k: v for k, v in prompt.items() if k != "input_ids"}
    logits = model(input_ids=sequence, logits_to_keep=len(ids) + 1, **features).logits[0, :-1].float()
    scores: Tensor = logits.log_softmax(dim=-1)
    found: dict[str, float | None] = {}
    for lag in lags:
        pairs = [
            (i, int(sequence[0, begin + i + lag]))
            for i in range(len(ids))
            if 0 <= begin + i + lag < sequence.shape[1]
        ]
        pairs = [(i, target) for i, target in pairs if target < scores.shape[-1]]
        if pairs:
            places, targets = (
                torch.tensor(column, device=scores.device) for column in zip(*pairs, strict=True)
            )
            loss = -scores[places, targets].mean()
            found[str(lag)] = float(loss) if torch.isfinite(loss) else math.inf
        else:
            found[str(lag)] = None
    return {k: (v if v is None or math.isfinite(v) else 1e9) for k, v in found.items()}


def _answer(case: StoredCase) -> str:
    """What a right answer says: a choice's letter where letters are asked for."""
    right = case.question.references[0]
    return right if not case.question.choices else LETTERS[LETTERS.index(right.strip().upper())]


def _spread(cases: list[tuple[Task, StoredCase]]) -> list[tuple[Task, StoredCase]]:
    """At most ``MOST`` of them, from all tasks alike."""
    step = max(1, math.ceil(len(cases) / MOST))
    return cases[::step]
