"""A language model marks answers by a rubric; greedy, cached, and its own failures are counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.texts.language_models import (
    ModelSettings,
    Prompt,
    Reply,
    find_object,
    make_language_model,
    public_name,
)
from vivavoce.evaluation.items import Item, checked
from vivavoce.evaluation.metrics.rubrics import RUBRICS, Rubric
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Score, mean_score


class Answerer(Protocol):
    """What `make_language_model` gives."""

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """As many results as prompts, in order."""


@dataclass(frozen=True, kw_only=True)
class RubricJudge:
    """Mean mark over all aspects of a rubric; the aspects one by one are in ``Score.details``.

    An answer of None, or an empty one, gets the lowest marks without being shown ("no_answer"). A judge that fails, or
    whose answer is no verdict, says nothing about the system: such items are left out and counted
    ("judge_failed", "bad_verdict"), and with too many of them there is no score.

    Attributes:
        model: ``endpoint:MODEL`` (any OpenAI-compatible address), ``transformers:FOLDER_OR_HUB_ID[@REVISION]``.
        endpoint: Settings of the address, `vivavoce.data.build.texts.endpoints.EndpointConfig`.
        rubric: Name in `RUBRICS`, or a rubric.
        cache: Folder for verdicts; None asks anew each time.
        device: For local models.
        max_new_tokens: Of a verdict.
        most_failures: Share of items that may be left out.
        answerer: Asked in place of a model made from ``model``, which then is only a name for the record.
        bootstrap: How the interval is drawn.
    """

    model: str
    endpoint: Mapping[str, Any] | None = None
    rubric: str | Rubric = "humdial_trajectory"
    cache: Path | None = None
    device: str = "cpu"
    max_new_tokens: int = 200
    most_failures: float = 0.1
    answerer: Answerer | None = field(default=None, repr=False)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "judge"

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by their question and one reference.

        Raises:
            DataError: No items, or more failures of the judge than ``most_failures``.
            ConfigError: The model's name, settings or rubric are wrong.
        """
        items = checked(items, self.name)
        rubric = self.rubric if isinstance(self.rubric, Rubric) else RUBRICS.get(self.rubric)
        answered = [i for i, item in enumerate(items) if (item.hypothesis or "").strip()]
        prompts = [_prompt(rubric, items[i]) for i in answered]
        replies = self._answerer().answer(prompts, self.max_new_tokens) if prompts else []
        counts: Counter[str] = Counter(no_answer=len(items) - len(answered))
        marks: list[tuple[int, ...] | None] = [(rubric.marks[0],) * len(rubric.aspects)] * len(items)
        faults = []
        for i, reply in zip(answered, replies, strict=True):
            read = reply if isinstance(reply, Fault) else read_marks(reply.text, rubric)
            if isinstance(read, Fault):
                counts["bad_verdict" if isinstance(reply, Reply) else "judge_failed"] += 1
                faults.append(f"{items[i].id}: {read.reason}")
            marks[i] = None if isinstance(read, Fault) else read
        if len(faults) > self.most_failures * len(items):
            raise DataError(
                f"{self.name}: {self.model} gave no verdict on {len(faults)} of {len(items)} items, at most "
                f"{self.most_failures:.0%} are allowed; first {faults[0]}"
            )
        told = [row for row in marks if row is not None]
        details = {name: float(np.mean([row[i] for row in told])) for i, name in enumerate(rubric.aspects)}
        settings = {
            "judge": public_name(self.model),
            "rubric": rubric.name,
            "marks": list(rubric.marks),
            "prompt": rubric.ask("", "", ""),
            "max_new_tokens": self.max_new_tokens,
        }
        values = [None if row is None else float(np.mean(row)) for row in marks]
        return mean_score(
            self.name,
            items,
            values,
            counts,
            settings,
            unit="marks",
            bootstrap=self.bootstrap,
            details=details,
        )

    def _answerer(self) -> Answerer:
        if self.answerer is not None:
            return self.answerer
        context = Context(cache=self.cache, device=self.device)
        return make_language_model(self.model, ModelSettings(endpoint=self.endpoint), context)


def read_marks(text: str, rubric: Rubric) -> tuple[int, ...] | Fault:
    """Read a verdict: one JSON object with an allowed mark for every aspect, whatever stands around it.

    What is no verdict is a fault, never a guess.
    """
    found = find_object(text)
    if found is None:
        return Fault("bad_verdict", f"the verdict is no JSON object: {text[:200]!r}")
    marks = [found.get(name) for name in rubric.aspects]
    if any(isinstance(m, bool) or not isinstance(m, int) or m not in rubric.marks for m in marks):
        said = json.dumps(found, ensure_ascii=False)[:200]
        return Fault(
            "bad_verdict", f"the verdict is {said}, wanted marks of {list(rubric.marks)} for each aspect"
        )
    return tuple(int(m) for m in marks if m is not None)


def _prompt(rubric: Rubric, item: Item) -> Prompt:
    text = rubric.ask(item.question, item.references[0], item.hypothesis or "")
    return [{"role": "user", "content": text}]
