"""What an evaluation leaves behind: a folder of answers, item by item, that reports are made from and runs go on in.

DIR/run.json                    models, tasks, systems, settings, versions, hardware
DIR/items/TASK/SYSTEM.jsonl     one `Outcome` a line, in the order they were made
DIR/items/TASK/inputs.jsonl     one `Question` a line
DIR/audio/TASK/ID.flac          what was asked aloud
DIR/audio/TASK/SYSTEM/ID.flac   what was answered aloud
DIR/checks.json                 what `diagnosis` found
DIR/report.json, report.html    made from all of it
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError


@dataclass(frozen=True)
class Question:
    """One input of a task, with what is right.

    Attributes:
        id: Unique in the task; letters, digits and ``._-``.
        references: What is right.
        question: What was asked, in words; what the cascade's recogniser should have heard.
        audio: File in the run's folder, None for typed tasks.
        language: ISO 639-1.
        speaker: Who speaks.
        duration_s: Of the audio.
        snr_db: Signal to noise ratio, None without added noise.
        cluster: As in `Item`.
        choices: As in `Item`.
        checks: As in `Item`.
        slices: Further groups by name, such as ``{"category": "sums"}``.
    """

    id: str
    references: tuple[str, ...] = ()
    question: str = ""
    audio: str | None = None
    language: str | None = None
    speaker: str | None = None
    duration_s: float | None = None
    snr_db: float | None = None
    cluster: str | None = None
    choices: tuple[str, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a system made of one question.

    Attributes:
        id: Of the question.
        hypothesis: What is scored; None where the system gave nothing.
        transcript: What the system says it heard.
        understood: False where it said that it did not understand.
        audio: File of its spoken answer in the run's folder.
        ttft_s: Seconds from the question's end to the first text.
        first_audio_s: To the first sample.
        total_s: To the end.
        spoken_s: Length of the spoken answer.
        error: What went wrong; the hypothesis is None then.
    """

    id: str
    hypothesis: str | None = None
    transcript: str | None = None
    understood: bool = True
    audio: str | None = None
    ttft_s: float | None = None
    first_audio_s: float | None = None
    total_s: float | None = None
    spoken_s: float | None = None
    error: str | None = None


def write_line(row: Question | Outcome) -> str:
    """One JSON line of a question or an outcome, with its end of line."""
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def read_questions(path: Path) -> list[Question]:
    """Read ``inputs.jsonl``.

    Raises:
        DataError: No such file, or a line is no question.
    """
    return [
        Question(**row | {name: tuple(row[name]) for name in ("references", "choices", "checks")})
        for row in _rows(path, Question)
    ]


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Read what a system answered, by id; a last line that was cut off is left out.

    Raises:
        DataError: A line that is no outcome stands before the last.
    """
    return {row["id"]: Outcome(**row) for row in _rows(path, Outcome, torn=True)}


def _rows(path: Path, kind: type, torn: bool = False) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path} does not exist; is this the folder of an evaluation?")
    names = {f.name for f in fields(kind)}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if torn and number == len(lines):
                return
            raise DataError(f"{path}, line {number}: {error}; delete the file and evaluate again.") from None
        if not isinstance(row, dict) or set(row) - names or "id" not in row:
            raise DataError(f"{path}, line {number} is no {kind.__name__.lower()}; delete the file.")
        yield row
