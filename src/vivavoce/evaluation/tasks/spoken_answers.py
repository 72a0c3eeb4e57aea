"""Spoken questions with short answers: Llama Questions, Web Questions, TriviaQA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.sources import HubSet, Row, hub_task
from vivavoce.evaluation.tasks.speaking import speak, voice_of
from vivavoce.evaluation.tasks.task import Case, Task, TaskOptions, ask_aloud

METRICS = ({"name": "contains"}, {"name": "token_f1"})
"""Published scores count an answer that has a right one in it."""
ASKED = (
    ("what is the capital of france", ["paris"]),
    ("how many days are in a week", ["seven", "7"]),
    ("what color is snow", ["white"]),
    ("what is two plus three", ["five", "5"]),
)


def _case(number: int, name: str, audio: Any, question: str, answers: Sequence[str]) -> Case | None:
    if not answers:
        return None
    asked = Question(f"{name}{number:05d}", tuple(answers), question, language="en")
    return Case(asked, ask_aloud(asked.id, audio, question, "", "en"))


def _sound(question: str, number: int) -> dict[str, Any]:
    return speak(question, voice_of("en", number)) | {"path": f"{number}.wav"}


def llama_questions(options: TaskOptions) -> Task:
    """Llama Questions: 300 questions of general knowledge."""

    def view(row: Row, number: int) -> Case | None:
        return _case(number, "lq", row["audio"], row["question"], [row["answer"]])

    def twin() -> list[Row]:
        return [{"question": q, "answer": a[0], "audio": _sound(q, i)} for i, (q, a) in enumerate(ASKED)]

    hub = HubSet("fixie-ai/llama-questions", None, "test", known="code")
    return hub_task("llama_questions", "listen", hub, view, twin, METRICS, options)


def web_questions(options: TaskOptions) -> Task:
    """Web Questions, spoken; an answer is a list, or a text of several between commas."""

    def view(row: Row, number: int) -> Case | None:
        answers = row["answers"] if "answers" in row else row["answer"]
        answers = [answers] if isinstance(answers, str) else answers
        return _case(number, "wq", row["audio"], row["question"], [str(a) for a in answers])

    def twin() -> list[Row]:
        return [
            {"url": f"page{i}", "question": q, "answers": a, "audio": _sound(q, i)}
            for i, (q, a) in enumerate(ASKED)
        ]

    hub = HubSet("fixie-ai/spoken-web-questions", None, "test", known="memory")
    return hub_task("web_questions", "listen", hub, view, twin, METRICS, options)


def trivia_qa(options: TaskOptions) -> Task:
    """TriviaQA, 1,000 questions of its validation split, spoken; all aliases count."""

    def view(row: Row, number: int) -> Case | None:
        aliases = [*row["answer"].get("aliases", ()), row["answer"].get("value")]
        right = list(dict.fromkeys(a for a in aliases if a))
        return _case(number, "tq", row["question_audio"], row["question"], right)

    def twin() -> list[Row]:
        return [
            {
                "question": q, "question_id": f"t{i}", "question_audio": _sound(q, i),
                "answer": {"aliases": a, "value": a[0]},
            }
            for i, (q, a) in enumerate(ASKED)
        ]  # fmt: skip

    hub = HubSet("fixie-ai/trivia_qa-audio", None, "validation", ("question_audio",), known="code")
    return hub_task("trivia_qa", "listen", hub, view, twin, METRICS, options)
