"""How something is said: the emotion of one utterance (IEMOCAP), and its course over turns (HumDial's trajectory)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from vivavoce.base.errors import ConfigError
from vivavoce.data.conversation import Conversation
from vivavoce.data.rows import RowFile
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.audio_choices import choice_case
from vivavoce.evaluation.tasks.sources import HubSet, Row, hub_task, make
from vivavoce.evaluation.tasks.speaking import speak, voice_of
from vivavoce.evaluation.tasks.task import Case, Task, TaskOptions, safe_id

FOUR = {"neutral": "neutral", "happy": "happy", "excited": "happy", "sad": "sad", "angry": "angry"}
"""IEMOCAP's usual four classes; excited counts as happy, all others are left out."""
ASK_EMOTION = "What is the emotion of the speaker?"


def iemocap(options: TaskOptions) -> Task:
    """IEMOCAP, four classes as a choice of letters."""
    names = ["neutral", "happy", "sad", "angry"]

    def view(row: Row, number: int) -> Case | None:
        emotion = FOUR.get(str(row["major_emotion"]).lower())
        if emotion is None:
            return None
        said = row.get("transcription") or ""
        identity = row.get("file") or f"{number:05d}"
        return choice_case(str(identity), row["audio"], ASK_EMOTION, names, emotion, said, emotion=emotion)

    def twin() -> list[Row]:
        rows = []
        for i, emotion in enumerate(("neutral", "excited", "sad", "angry", "frustrated")):
            speed = {"sad": 0.8, "excited": 1.2, "angry": 1.3}.get(emotion, 1.0)
            audio = speak("i did not expect that", voice_of("en", i), speed) | {"path": f"{i}.wav"}
            row = {"file": f"Ses0{i}.wav", "audio": audio, "transcription": "i did not expect that"}
            rows.append({**row, "gender": "Female", "major_emotion": emotion})
        return rows

    hub = HubSet("AbstractTTS/IEMOCAP", None, "train", licence="IEMOCAP's own terms", known="card")
    return hub_task("iemocap", "choose", hub, view, twin, [{"name": "multiple_choice"}], options, ASK_EMOTION)


HUMDIAL = HubSet("HumDial trajectory", known="own form")
METRICS = ({"name": "trajectory_turns"}, {"name": "trajectory_exact"}, {"name": "trajectory_edits"})
TURNS = ("i got the job today", "then my train was late and i lost the contract", "now i am calm again")
ASK_COURSE = "How did my emotions change?"


def humdial(options: TaskOptions) -> Task:
    """Emotional trajectories: conversations of this project's form (``vivavoce data convert``), the last answer right.

    ``source`` names a file or folder of rows; the challenge hands its recordings to participants only. With the
    setting "judge" of a run, the rubric is marked too.
    """

    def cases() -> Iterator[Case]:
        path = _humdial_path(options)
        rows = RowFile(path)
        for number, row in enumerate(islice(rows, options.limit)):
            yield last_answer(row, number, rows.root)

    metrics = [*METRICS, {"name": "judge", "rubric": "humdial_trajectory"}]
    return make("humdial_trajectory", "listen", HUMDIAL, cases, metrics, options, ASK_COURSE)


def last_answer(row: Conversation, number: int, root: Path) -> Case:
    """A conversation whose last message is the right answer to all before it.

    Raises:
        ConfigError: It does not end with an answer of the assistant.
    """
    if not row.messages or row.messages[-1].role != "assistant" or len(row.messages) < 2:
        raise ConfigError(f"row {row.id or number} does not end with an answer of the assistant.")
    right = row.messages[-1].words
    asked = replace(row, messages=copy.deepcopy(row.messages[:-1]))  # recordings in memory stay
    language = next((p.language for p in asked.audio_parts() if p.language), None) or "en"
    speaker = next((p.speaker for p in asked.audio_parts() if p.speaker), None)
    words = "\n".join(m.words for m in asked.messages if m.role == "user")
    question = Question(
        safe_id(row.id or f"{number:05d}"),
        (right,),
        words,
        language=language,
        speaker=speaker,
        cluster=row.id or None,
    )
    return Case(question, asked, root)


def _humdial_path(options: TaskOptions) -> Path:
    if options.source == "hub":
        raise ConfigError(
            "HumDial's recordings are on no hub; convert what you were given by `vivavoce data convert` and name it as "
            "source, or use the twin."
        )
    if options.source != "twin":
        return Path(options.source)
    folder = options.cache or Path(mkdtemp(prefix="vivavoce-twin-"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "humdial_trajectory.jsonl"
    rows = []
    for i, labels in enumerate(
        (["happy", "anger", "neutral"], ["happy", "sad", "neutral"], ["surprise", "sad", "happy"])
    ):
        messages: list[dict[str, Any]] = []
        for turn, text in enumerate(TURNS):
            name = f"humdial_{i}_{turn}.flac"
            (folder / name).write_bytes(speak(text, voice_of("en", i))["bytes"])
            part = {
                "type": "audio",
                "audio": name,
                "transcript": text,
                "language": "en",
                "labels": {"emotion": labels[turn]},
            }
            messages.append({"role": "user", "content": [part]})
        messages[-1]["content"].append({"type": "text", "text": ASK_COURSE})
        messages.append({"role": "assistant", "content": " -> ".join(labels)})
        rows.append(json.dumps({"id": f"dialogue{i}", "messages": messages, "task": "trajectory"}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
