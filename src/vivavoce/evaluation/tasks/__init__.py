"""The table of tasks: what is asked, what is right, and by which metrics answers are scored."""

from __future__ import annotations

from collections.abc import Sequence

from vivavoce.base.errors import ConfigError
from vivavoce.base.registry import Registry
from vivavoce.evaluation.tasks.task import Task, TaskOptions

TASKS = Registry(
    "task",
    {
        "nano_questions": "vivavoce.evaluation.tasks.nano:questions",
        "nano_digits": "vivavoce.evaluation.tasks.nano:digits",
        "nano_typed": "vivavoce.evaluation.tasks.nano:typed",
        "nano_speaking": "vivavoce.evaluation.tasks.nano:speaking",
    },
    group="vivavoce.tasks",
)
"""Name -> function of `TaskOptions` that gives a `Task`."""

SUITES: dict[str, tuple[str, ...]] = {
    "nano": ("nano_questions", "nano_digits", "nano_typed", "nano_speaking"),
}
"""Several tasks by one name."""


def make_task(name: str, options: TaskOptions | None = None) -> Task:
    """Make a task by name; nothing is read or made yet.

    Raises:
        ConfigError: Unknown name, or an option the task does not have.
    """
    made: Task = TASKS.get(name)(options or TaskOptions())
    return made


def expand(names: Sequence[str]) -> list[str]:
    """Names of tasks, with suites in place of their names; each once.

    Raises:
        ConfigError: An unknown name, or none.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in SUITES and name not in TASKS:
            TASKS.get(name)  # tells the nearest
        found.update(dict.fromkeys(SUITES.get(name, (name,))))
    if not found:
        raise ConfigError(f"no tasks; wanted some of {', '.join([*SUITES, *TASKS])}.")
    return list(found)
