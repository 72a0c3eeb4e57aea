"""What a language model still knows: a small set of our own, MMLU, and tasks of lm-eval where it is installed.

Letters are chosen by their likelihood; nothing is generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import islice

from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.audio_choices import LETTERS, with_choices
from vivavoce.evaluation.tasks.sources import HubSet, Row, hub_task
from vivavoce.evaluation.tasks.task import Case, Task, TaskOptions, ask_typed, safe_id

METRICS = ({"name": "multiple_choice"},)


def _typed_choice(identity: str, question: str, choices: Sequence[str], right: int, subject: str) -> Case:
    letters = LETTERS[: len(choices)]
    asked = Question(
        safe_id(identity), (letters[right],), question, language="en", choices=tuple(choices),
        slices={"subject": subject},
    )  # fmt: skip
    return Case(asked, ask_typed(asked.id, with_choices(question, choices)))


def own_set() -> list[Row]:
    """The rows of the small set: general knowledge, sums, words; written for this project."""
    text = files("vivavoce.evaluation.tasks").joinpath("retention.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def retention(options: TaskOptions) -> Task:
    """The small set, which is in the package."""

    def cases() -> Iterator[Case]:
        for number, row in enumerate(islice(own_set(), options.limit)):
            choices = list(row["choices"])
            turn = number % len(choices)  # the right one is stored first; it moves, by its number
            moved = [*choices[-turn:], *choices[:-turn]] if turn else choices
            yield _typed_choice(f"r{number:03d}", row["question"], moved, turn, row["subject"])

    return Task(
        "retention",
        "read",
        cases,
        METRICS,
        source="a small set of our own, in the package",
        licence="CC0-1.0",
    )


def mmlu(options: TaskOptions) -> Task:
    """MMLU, test split, no examples in the prompt; ``config`` is a subject, "all" by default."""

    def view(row: Row, number: int) -> Case:
        return _typed_choice(
            f"{number:05d}", row["question"], row["choices"], int(row["answer"]), row["subject"]
        )

    def twin() -> list[Row]:
        rows = own_set()[:6]
        return [
            {"question": r["question"], "subject": r["subject"], "choices": r["choices"], "answer": 0}
            for r in rows
        ]

    hub = HubSet("cais/mmlu", "all", "test", (), licence="MIT", known="memory")
    return hub_task("mmlu", "read", hub, view, twin, METRICS, options)


def lm_eval(options: TaskOptions) -> Task:
    """A multiple-choice task of lm-eval (``config`` names it): its data and its prompts, our scoring.

    Raises:
        MissingExtraError: lm-eval is not installed.
        ConfigError: No task is named.
    """
    if not options.config:
        raise ConfigError("lm_eval needs the name of a task of lm-eval as its config, such as arc_easy.")
    name = options.config

    def cases() -> Iterator[Case]:
        try:
            from lm_eval.tasks import TaskManager, get_task_dict
        except ImportError as error:
            raise MissingExtraError("lm-eval is not installed; run: pip install lm-eval") from error
        found = get_task_dict([name], TaskManager())[name]
        docs = found.test_docs() if found.has_test_docs() else found.validation_docs()
        for number, doc in enumerate(islice(docs, options.limit)):
            choices, right = found.doc_to_choice(doc), found.doc_to_target(doc)
            if not isinstance(right, int):
                raise ConfigError(f"{name} of lm-eval is no multiple choice; only such tasks are read here.")
            yield _typed_choice(f"{number:05d}", str(found.doc_to_text(doc)), choices, right, name)

    return Task(f"lm_eval_{safe_id(name)}", "read", cases, METRICS, source=f"{name} of lm-eval")
