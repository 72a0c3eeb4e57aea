"""Questions about audio with letters to choose from: AIR-Bench's foundation part and MMAU."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.sources import HubSet, Row, hub_task, make
from vivavoce.evaluation.tasks.speaking import speak, voice_of
from vivavoce.evaluation.tasks.task import Case, Task, TaskOptions, ask_aloud, safe_id

PROMPT = "Answer with the letter of the right choice."
LETTERS = "ABCDEFGHIJ"
METRICS = ({"name": "multiple_choice"},)


def with_choices(question: str, choices: Sequence[str]) -> str:
    """A question, its lettered choices, and what is wanted."""
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, *lines, PROMPT])


def choice_case(
    identity: str,
    audio: Any,
    question: str,
    choices: Sequence[str],
    answer: str,
    transcript: str,
    **slices: str,
) -> Case | None:
    """A case with choices; None where the answer is none of them."""
    right = _letter(answer, choices)
    if right is None:
        return None
    asked = Question(
        safe_id(identity), (right,), question, language="en", choices=tuple(choices), slices=slices
    )
    return Case(asked, ask_aloud(asked.id, audio, transcript, with_choices(question, choices), "en"))


def _letter(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of an answer that is the choice's text, a letter, or "(B) text"."""
    plain = [str(choice).strip().lower() for choice in choices]
    said = str(answer).strip()
    if said.lower() in plain:
        return LETTERS[plain.index(said.lower())]
    first = said.lstrip("(")[:1].upper()
    alone = len(said.strip("().: ")) == 1 or said[1:2] in (")", ".") or said.startswith("(")
    return first if alone and first in LETTERS[: len(choices)] else None


def mmau(options: TaskOptions) -> Task:
    """MMAU's test-mini: 1,000 questions about speech, sounds and music."""

    def view(row: Row, number: int) -> Case | None:
        choices = row["choices"]
        choices = ast.literal_eval(choices) if isinstance(choices, str) else list(choices)
        return choice_case(
            f"{number:05d}", row["audio"], row["question"], [str(c) for c in choices], row["answer"], "",
            task=str(row.get("task") or "unknown"), difficulty=str(row.get("difficulty") or "unknown"),
        )  # fmt: skip

    def twin() -> list[Row]:
        rows = []
        for i, word in enumerate(("rain", "music", "dog")):
            audio = speak(f"this is about {word}", voice_of("en", i)) | {"path": f"{i}.wav"}
            row = {"question_id": f"m{i}", "audio": audio, "question": "What is the speaker talking about?"}
            choices = ["rain", "music", "dog", "fire"]
            rows.append({**row, "choices": choices, "answer": word, "task": "speech", "difficulty": "easy"})
        return rows

    hub = HubSet("lmms-lab/mmau", None, "test_mini", known="code")
    return hub_task("mmau", "choose", hub, view, twin, METRICS, options, PROMPT)


AIR = HubSet("qyang1021/AIR-Bench-Dataset", "Foundation", licence="CC-BY-NC-4.0", known="code")


def air_bench(options: TaskOptions) -> Task:
    """AIR-Bench, foundation part: a list of questions beside folders of recordings; ``split`` is one of its tasks."""

    def cases() -> Iterator[Case]:
        fetch = _air_files(options)
        rows = json.loads(Path(fetch("Foundation_meta.json")).read_text(encoding="utf-8"))
        rows = [r for r in rows if options.split in (None, r["task_name"])]
        yield from islice(_air_cases(rows, fetch), options.limit)

    return make("air_bench", "choose", AIR, cases, METRICS, options, PROMPT)


def _air_cases(rows: Sequence[Row], fetch: Any) -> Iterator[Case]:
    for row in rows:
        # recordings of this one task are stored in another format than the list says
        name = row["path"]
        if row["task_name"] == "Audio_Grounding":
            name = str(Path(name).with_suffix(".flac"))
        audio = str(fetch(f"{row['task_name']}_{row['dataset_name']}/{name}"))
        choices = [str(row[k]) for k in ("choice_a", "choice_b", "choice_c", "choice_d") if row.get(k)]
        case = choice_case(
            f"{row['task_name']}-{row['uniq_id']}", audio, row["question"], choices, row["answer_gt"], "",
            task=row["task_name"],
        )  # fmt: skip
        if case is not None:
            yield case


def _air_files(options: TaskOptions) -> Any:
    """A function from a name in the set's folder to a file here."""
    if options.source == "hub":
        try:
            from huggingface_hub import hf_hub_download
        except ImportError as error:
            raise MissingExtraError(
                "AIR-Bench is read by huggingface_hub; run: pip install huggingface_hub"
            ) from error
        return lambda name: hf_hub_download(
            AIR.path, f"Foundation/{name}", repo_type="dataset", revision=options.revision
        )
    folder = Path(options.source)
    if options.source == "twin":
        folder = (options.cache or Path(mkdtemp(prefix="vivavoce-twin-"))) / "air_bench"
        _write_air_twin(folder)
    if not (folder / "Foundation_meta.json").is_file():
        raise DataError(f"{folder} has no Foundation_meta.json; give AIR-Bench's folder Foundation.")
    return lambda name: folder / name


def _write_air_twin(folder: Path) -> None:
    rows = []
    place = folder / "Speech_Entity_Reconition_twin"
    place.mkdir(parents=True, exist_ok=True)
    for i, word in enumerate(("london", "paris", "tokyo")):
        (place / f"{i}.flac").write_bytes(speak(f"we flew to {word}", voice_of("en", i))["bytes"])
        row = {"uniq_id": i, "path": f"{i}.flac", "question": "Which city is named?", "answer_gt": word}
        row |= {"choice_a": "london", "choice_b": "paris", "choice_c": "tokyo", "choice_d": "rome"}
        rows.append({**row, "task_name": "Speech_Entity_Reconition", "dataset_name": "twin"})
    (folder / "Foundation_meta.json").write_text(json.dumps(rows), encoding="utf-8")
