"""What an evaluation leaves behind: a folder of answers, item by item, that reports are made from and runs go on in.

DIR/run.json                    a `RunRecord`: the model, tasks, systems, settings, versions, hardware
DIR/items/TASK/SYSTEM.jsonl     one `Outcome` a line, in the order they were made
DIR/items/TASK/inputs.jsonl     one `Question` a line
DIR/audio/TASK/ID.flac          what was asked aloud
DIR/audio/TASK/SYSTEM/ID.flac   what was answered aloud
DIR/scores/TASK/SYSTEM.METRIC.json  a `Score.record`, of metrics that need a model (judge, recogniser of speech)
DIR/checks.json                 what `diagnosis` found: a list of `Finding`
DIR/report.json, report.html    made from all of it

Several models evaluated together are folders of this form, side by side in one folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import read_record, write_record
from vivavoce.base.whole_files import write_whole

Kind = TypeVar("Kind")


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


@dataclass(frozen=True)
class TaskRecord:
    """What a report needs to know of a task.

    Attributes:
        kind: "transcribe", "listen", "choose", "speak", "read" (typed: retention) or another.
        metrics: ``{"name": row of METRICS, **settings}``, the one that decides first.
        prompt: What was asked beside the audio.
        source: The data in words ("synthetic twin, espeak-ng" or "LibriSpeech test-clean").
        twin: Whether a synthetic twin stood in for the data.
    """

    kind: str
    metrics: tuple[dict[str, Any], ...]
    prompt: str = ""
    source: str = ""
    twin: bool = False


@dataclass(frozen=True)
class RunRecord:
    """``run.json``.

    Attributes:
        model: As it was asked for.
        tasks: By name.
        systems: Name -> what it is in words ("pocketsphinx 5.1.1, then the model's own LLM").
        no_base: Why there is no "base", where there is none ("the language model was trained from scratch").
        settings: Of the run.
        seed: Of everything random.
        date: ISO 8601.
        hardware: Facts by name ("cpu", "cores", "threads", "gpu").
        versions: Of packages and Python.
        model_facts: By name ("parameters", "licence", "weights").
    """

    model: str
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    systems: dict[str, str] = field(default_factory=dict)
    no_base: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    date: str = ""
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    model_facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One check of a diagnosis.

    Attributes:
        name: Of the check ("audio_ignored").
        severity: "broken" stands on top of the report in red.
        words: A sentence for people.
        numbers: It rests on.
    """

    name: str
    severity: Literal["ok", "warning", "broken"]
    words: str
    numbers: dict[str, Any] = field(default_factory=dict)


def write_run(record: RunRecord, folder: Path) -> None:
    """Write ``run.json``, whole or not at all."""
    _write_json(folder / "run.json", write_record(record))


def read_run(folder: Path) -> RunRecord:
    """Read ``run.json``.

    Raises:
        DataError: There is none, or it is no such record.
    """
    path = folder / "run.json"
    run = _record(RunRecord, _read_json(path), path)
    return replace(run, tasks={name: _record(TaskRecord, task, path) for name, task in run.tasks.items()})


def write_findings(findings: Sequence[Finding], folder: Path) -> None:
    """Write ``checks.json``, whole or not at all."""
    _write_json(folder / "checks.json", [asdict(finding) for finding in findings])


def read_findings(folder: Path) -> list[Finding]:
    """Read ``checks.json``; none where nothing was checked.

    Raises:
        DataError: It is no list of findings.
    """
    path = folder / "checks.json"
    if not path.is_file():
        return []
    return [_record(Finding, row, path) for row in _read_json(path)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; is this the folder of an evaluation?") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; delete it and evaluate again.") from None


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=1))


def _record(kind: type[Kind], value: Any, path: Path) -> Kind:
    try:
        return read_record(kind, value, kind.__name__)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


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
