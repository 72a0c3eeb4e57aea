"""The user's own data as a task, by one line of YAML: ``{data: my.jsonl, view: asr, metric: wer}``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.data.conversation import Conversation, Message, Text
from vivavoce.data.rows import RowFile
from vivavoce.evaluation.metrics import METRICS
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.emotions import last_answer
from vivavoce.evaluation.tasks.task import Case, KindOfTask, Task, TaskOptions, ask_typed, safe_id

View = Literal["chat", "asr", "translate", "choose", "say", "read"]
KINDS: Mapping[str, KindOfTask] = {
    "chat": "listen", "asr": "transcribe", "translate": "listen", "choose": "choose", "say": "speak", "read": "read",
}  # fmt: skip
DEFAULT_METRICS = {
    "chat": "token_f1", "asr": "wer", "translate": "bleu", "choose": "multiple_choice", "say": "wer",
    "read": "exact_match",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OwnTask:
    """One line of YAML.

    Attributes:
        data: Rows of conversations: a folder, Parquet or JSONL file.
        view: "chat" (all but the last answer is asked), "asr" (each recording of a user is written down),
            "translate" and "choose" (as chat), "say" (the last answer is read aloud), "read" (typed).
        metric: Name, ``{"name": ..., settings}``, or a list of them; None for the view's usual one.
        name: Of the task; default the data's.
        prompt: Put before the last turn of the user.
        language: Of rows that name none.
    """

    data: str
    view: View = "chat"
    metric: Any = None
    name: str | None = None
    prompt: str = ""
    language: str = "en"


def own(options: TaskOptions) -> Task:
    """A task of the record in ``options.settings``.

    Raises:
        ConfigError: A key or metric is unknown, or missing.
        DataError: The data cannot be read.
    """
    asked = read_record(OwnTask, dict(options.settings), "the task")
    given = asked.metric or DEFAULT_METRICS[asked.view]
    metrics = [
        {"name": m} if isinstance(m, str) else dict(m)
        for m in (given if isinstance(given, list) else [given])
    ]
    for metric in metrics:
        if metric.get("name") not in METRICS:
            METRICS.get(str(metric.get("name")))  # tells the nearest
    path = Path(asked.data)
    name = safe_id(asked.name or path.stem)

    def cases() -> Iterator[Case]:
        rows = RowFile(path)
        yield from islice(
            (c for n, row in enumerate(rows) for c in _cases(row, n, rows.root, asked)), options.limit
        )

    return Task(
        name, KINDS[asked.view], cases, tuple(metrics), asked.prompt, f"{path.name}, view {asked.view}"
    )


def _cases(row: Conversation, number: int, root: Path, asked: OwnTask) -> Iterator[Case]:
    identity = safe_id(row.id or f"{number:05d}")
    if asked.view == "asr":
        parts = [p for m in row.messages if m.role == "user" for p in m.audios if p.transcript]
        for place, part in enumerate(parts):
            name = identity if len(parts) == 1 else f"{identity}.{place}"
            said, language = part.transcript or "", part.language or asked.language
            question = Question(
                name, (said,), said, language=language, speaker=part.speaker, cluster=row.id or None
            )
            yield Case(question, Conversation(name, [Message("user", [part])], row.audios), root)
        return
    if asked.view == "say":
        text = next((m.words for m in reversed(row.messages) if m.role == "assistant" and m.words), "")
        if text:
            yield Case(Question(identity, (text,), text, language=asked.language), ask_typed(identity, text))
        return
    case = last_answer(row, number, root)
    references, choices = row.meta.get("references"), row.meta.get("choices", ())
    question = dataclasses.replace(
        case.question, id=identity, choices=tuple(choices), checks=tuple(row.meta.get("checks", ())),
        references=tuple(references) if references else case.question.references,
    )  # fmt: skip
    if not any(p.language for p in case.conversation.audio_parts()) or asked.view == "translate":
        question = dataclasses.replace(question, language=asked.language)
    if asked.prompt:
        last = next(m for m in reversed(case.conversation.messages) if m.role == "user")
        last.parts.insert(0, Text(asked.prompt))
    if asked.view == "read" and question.audio is None and list(case.conversation.audio_parts()):
        raise ConfigError(
            f"row {identity} has a recording, and view 'read' is of typed rows; use view 'chat'."
        )
    yield dataclasses.replace(case, question=question)
