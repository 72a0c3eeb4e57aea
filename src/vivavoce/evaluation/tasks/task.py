"""What a task is: cases made one by one when they are asked for, a kind, and metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vivavoce.data.conversation import Audio, Conversation, Message, Part, Text
from vivavoce.evaluation.results import Question, TaskRecord

KindOfTask = Literal["transcribe", "listen", "choose", "speak", "read"]
Source = Literal["hub", "twin"]


@dataclass(frozen=True)
class TaskOptions:
    """How a task is made.

    Attributes:
        source: "hub" for the published data, "twin" for its synthetic stand-in; or a folder, Parquet or JSONL file
            with the same columns. Tasks that are synthetic anyway take no notice.
        limit: Most cases; None for all.
        seed: Of what is drawn.
        cache: Folder for twins; None for a temporary one.
        config: Of a hub data set, such as its language; None for the task's own.
        split: Of a hub data set; None for the task's own.
        revision: Of a hub data set.
        settings: Of the user's own task.
    """

    source: str = "hub"
    limit: int | None = None
    seed: int = 0
    cache: Path | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One thing to ask.

    Attributes:
        question: As the folder of results keeps it; ``audio`` and ``duration_s`` are filled in when it is stored.
        conversation: What is asked; audio parts carry their transcripts, which text-only systems read. Of tasks of
            kind "speak" the text to be read, with a recording of it in ``meta["original"]`` where there is one.
        root: Where relative paths of recordings begin.
    """

    question: Question
    conversation: Conversation
    root: Path | None = None


CaseMaker = Callable[[], Iterator[Case]]


@dataclass(frozen=True)
class Task:
    """A data set seen as questions.

    Attributes:
        name: In the table, or the user's.
        kind: "transcribe", "listen", "choose" (a letter), "speak" (a text read aloud), "read" (typed).
        cases: Makes them in their order, the same each time.
        metrics: ``{"name": row of METRICS, **settings}``, the one that decides first.
        prompt: What is asked beside the audio.
        source: The data in words.
        licence: Of the data, SPDX or in words.
        twin: Whether a synthetic twin stands in for the data.
        spoken: Whether systems that can are to answer aloud.
        grammar: JSGF that recognisers which can may be held to, for closed domains.
    """

    name: str
    kind: KindOfTask
    cases: CaseMaker
    metrics: tuple[dict[str, Any], ...]
    prompt: str = ""
    source: str = ""
    licence: str = ""
    twin: bool = False
    spoken: bool = False
    grammar: str | None = None

    def record(self) -> TaskRecord:
        """What ``run.json`` keeps of it."""
        return TaskRecord(self.kind, self.metrics, self.prompt, self.source, self.twin)


def safe_id(text: object) -> str:
    """An id of letters, digits and ``._-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", str(text)).strip("._")[:120] or "item"


def ask_aloud(
    identity: str,
    audio: Any,
    transcript: str,
    prompt: str = "",
    language: str | None = None,
    speaker: str | None = None,
) -> Conversation:
    """A conversation of one spoken turn, with typed words before the recording where there are any."""
    heard = Audio(audio, transcript=transcript, language=language, speaker=speaker)
    parts: list[Part] = [Text(prompt)] if prompt else []
    return Conversation(identity, [Message("user", [*parts, heard])], task="eval")


def ask_typed(identity: str, text: str) -> Conversation:
    """A conversation of one typed turn."""
    return Conversation(identity, [Message("user", [Text(text)])], task="eval")
