"""Folders of evaluations made by hand, whose figures are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import write_audio
from vivavoce.evaluation.results import (
    Finding,
    Outcome,
    Question,
    RunRecord,
    TaskRecord,
    write_findings,
    write_line,
    write_run,
)

SYSTEMS = {
    "model": "tiny, asked aloud",
    "cascade": "pocketsphinx 5.1.1 + its own LLM",
    "typed": "its LLM given the true words",
}


def write_task(
    folder: Path, name: str, questions: Sequence[Question], answers: Mapping[str, Sequence[Outcome]]
) -> None:
    """Write a task's questions and every system's outcomes."""
    place = folder / "items" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "inputs.jsonl").write_text("".join(map(write_line, questions)))
    for system, outcomes in answers.items():
        (place / f"{system}.jsonl").write_text("".join(map(write_line, outcomes)))


def answered(questions: Sequence[Question], right: Sequence[bool], **more: Any) -> list[Outcome]:
    """Outcomes that are right where told, otherwise ``wrong <id>``."""
    return [
        Outcome(q.id, q.references[0] if ok else f"wrong {q.id}", **more)
        for q, ok in zip(questions, right, strict=True)
    ]


def spoken_questions(count: int, folder: Path | None = None) -> list[Question]:
    """Questions with two languages, speakers, lengths, and own groups; recordings where there is a folder."""
    made = []
    for i in range(count):
        question = Question(
            f"q{i:03d}",
            (f"answer {i}",),
            f"what is number {i}",
            language="en" if i % 4 else "de",
            speaker=f"speaker {i % 2}",
            duration_s=1.5 if i % 2 else 6.0,
            slices={"category": "sums" if i % 3 else "days"},
        )
        if folder is not None:
            name = f"audio/questions/{question.id}.wav"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            wave = 0.2 * np.sin(np.arange(4000) * (0.1 + 0.01 * i))
            write_audio(folder / name, wave.astype(np.float32), 8000)
            question = replace(question, audio=name)
        made.append(question)
    return made


def share(count: int, hits: int) -> list[bool]:
    """The first ``hits`` of ``count`` are right."""
    return [i < hits for i in range(count)]


def make_folder(
    folder: Path,
    count: int = 40,
    model: int = 30,
    cascade: int | None = 20,
    base: int | None = 36,
    after: int = 35,
    findings: Sequence[Finding] = (),
    sound: bool = False,
    name: str = "tiny",
    no_base: str = "",
) -> Path:
    """A run of three tasks: spoken questions with a cascade, a transcription over noise, typed questions."""
    tasks = {
        "questions": TaskRecord("listen", ({"name": "exact_match"}, {"name": "token_f1"}), source="by hand"),
        **{
            name: TaskRecord(
                "transcribe", ({"name": "wer", "spellings": "none"},), "write it down", twin=True
            )
            for name in ("noisy", "noisy_snr10", "noisy_snr0")
        },
        "typed": TaskRecord("read", ({"name": "exact_match"},), source="by hand"),
    }
    run = RunRecord(
        name,
        tasks,
        SYSTEMS,
        no_base,
        {"batch_size": 4},
        7,
        "2026-11-21T10:00:00",
        {"cpu": "Xeon", "cores": 2},
        {"vivavoce": "0.1.0"},
        {"parameters": 1000},
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_run(run, folder)
    if findings:
        write_findings(findings, folder)
    questions = spoken_questions(count, folder if sound else None)
    times = {"ttft_s": 0.2, "total_s": 0.5}
    systems = {"model": answered(questions, share(count, model), **times)}
    if cascade is not None:
        systems["cascade"] = answered(questions, share(count, cascade), ttft_s=0.9)
    systems["typed"] = answered(questions, share(count, count - 1))
    write_task(folder, "questions", questions, systems)
    said = {"noisy": "red green blue white", "noisy_snr10": "red green blue", "noisy_snr0": "red"}
    for task, words in said.items():
        level = {"noisy": None, "noisy_snr10": 10.0, "noisy_snr0": 0.0}[task]
        right = ("red green blue white",)
        asked = [Question(f"n{i}", right, right[0], language="en", snr_db=level) for i in range(6)]
        heard = [Outcome(q.id, words, words, ttft_s=0.1 * (i + 1)) for i, q in enumerate(asked)]
        cascade_heard = [Outcome(q.id, "red green") for q in asked]
        write_task(folder, task, asked, {"model": heard, "cascade": cascade_heard})
    text = [Question(f"t{i}", (f"answer {i}",), f"say {i}", language="en") for i in range(count)]
    typed = {"typed": answered(text, share(count, after))}
    if base is not None:
        typed["base"] = answered(text, share(count, base))
    write_task(folder, "typed", text, typed)
    return folder
