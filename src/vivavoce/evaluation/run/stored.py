"""Questions as the run's folder keeps them: recordings in FLAC, and the conversation beside each question.

What systems are given is read from here, so that a run that goes on, or one that is looked into later, asks the same.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vivavoce.audio.files import read_audio, write_audio
from vivavoce.base.errors import DataError
from vivavoce.base.whole_files import write_whole
from vivavoce.data.conversation import Audio, Conversation, read_conversation
from vivavoce.data.recordings import read_waveform
from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.results import Question, read_questions, write_line
from vivavoce.evaluation.tasks.task import Case, Task, safe_id

GAP_S = 0.5


@dataclass(frozen=True)
class StoredCase:
    """A question with its conversation, whose recordings are files of the folder.

    Attributes:
        question: As in ``inputs.jsonl``.
        conversation: As in ``cases.jsonl``.
        folder: Of the run.
    """

    question: Question
    conversation: Conversation
    folder: Path

    def clips(self) -> list[Sound]:
        """The recordings of the conversation, in order."""
        return [Sound(*read_audio(self.folder / str(p.audio))) for p in self.conversation.audio_parts()]

    def clips_differ(self, other: StoredCase) -> bool:
        """Whether another case's recordings are other files, of other samples where they are of one length."""
        if self.question.audio == other.question.audio:
            return False
        if self.question.duration_s != other.question.duration_s:
            return True
        pairs = zip(self.clips(), other.clips(), strict=False)
        return any(not np.array_equal(a.waveform, b.waveform) for a, b in pairs)

    @property
    def texts(self) -> list[str]:
        """What is said in them."""
        return [part.transcript or "" for part in self.conversation.audio_parts()]


def stored_cases(task: Task, folder: Path, limit: int | None = None) -> list[StoredCase]:
    """The questions of a task, made and stored if they are not there yet.

    ``inputs.jsonl`` is written last: where it is, all is there.

    Raises:
        DataError: Ids that are not unique, or no questions.
    """
    place = folder / "items" / task.name
    if not (place / "inputs.jsonl").is_file():
        _store(task, folder, place, limit)
    questions = read_questions(place / "inputs.jsonl")
    lines = (place / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [read_conversation(json.loads(line)) for line in lines]
    return [StoredCase(q, row, folder) for q, row in zip(questions, rows, strict=True)]


def _store(task: Task, folder: Path, place: Path, limit: int | None) -> None:
    sounds = folder / "audio" / task.name
    shutil.rmtree(sounds, ignore_errors=True)  # of a run that was stopped while it made them
    sounds.mkdir(parents=True)
    place.mkdir(parents=True, exist_ok=True)
    questions, rows = [], []
    seen: set[str] = set()
    for case in islice(task.cases(), limit):
        identity = safe_id(case.question.id)
        if identity in seen:
            raise DataError(f"task {task.name}: the id {identity!r} stands twice; make ids unique.")
        seen.add(identity)
        question, conversation = _place(case, identity, task.name, sounds)
        questions.append(write_line(question))
        rows.append(json.dumps(conversation.row(), ensure_ascii=False) + "\n")
    if not questions:
        raise DataError(f"task {task.name} has no questions; look at its data ({task.source or 'own'}).")
    for name, lines in (("cases.jsonl", rows), ("inputs.jsonl", questions)):
        write_whole(place / name, "".join(lines))


def _place(case: Case, identity: str, task: str, sounds: Path) -> tuple[Question, Conversation]:
    """Write a case's recordings and name them in its conversation."""
    messages = copy.deepcopy(case.conversation.messages)
    conversation = dataclasses.replace(case.conversation, id=identity, messages=messages, audios=[], meta={})
    parts = list(case.conversation.audio_parts())
    waves: list[Sound] = []
    for number, (part, kept) in enumerate(zip(parts, conversation.audio_parts(), strict=True)):
        waves.append(Sound(*read_waveform(part, case.conversation, root=case.root)))
        name = f"{identity}.flac" if len(parts) == 1 else f"{identity}.{number}.flac"
        write_audio(sounds / name, *waves[-1])
        kept.audio, kept.start_s, kept.end_s = f"audio/{task}/{name}", 0.0, None
    if original := case.conversation.meta.get("original"):
        found = read_waveform(Audio(original), case.conversation, root=case.root)
        waves = [Sound(*found)]
        write_audio(sounds / f"{identity}.flac", *found)
    elif len(parts) > 1:
        write_audio(sounds / f"{identity}.flac", *join(waves))
    question = dataclasses.replace(case.question, id=identity)
    if waves:
        seconds = sum(len(w.waveform) / w.sample_rate for w in waves)
        audio = f"audio/{task}/{identity}.flac"
        question = dataclasses.replace(question, audio=audio, duration_s=round(seconds, 3))
    return question, conversation


def join(sounds: Sequence[Sound]) -> Sound:
    """Recordings one after the other with short gaps, for listening."""
    from vivavoce.audio.resample import resample

    rate = max(sound.sample_rate for sound in sounds)
    pieces: list[np.ndarray] = []
    for sound in sounds:
        pieces += [
            resample(sound.waveform, sound.sample_rate, rate),
            np.zeros(round(GAP_S * rate), np.float32),
        ]
    return Sound(np.concatenate(pieces[:-1]), rate)


def batches(cases: Sequence[StoredCase], size: int) -> Iterator[list[StoredCase]]:
    """Cases of like length together, the shortest first."""
    order = sorted(
        cases, key=lambda c: (c.question.duration_s or 0.0, len(c.question.question), c.question.id)
    )
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]
