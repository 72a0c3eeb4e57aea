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
        "librispeech_clean": "vivavoce.evaluation.tasks.recognition:librispeech_clean",
        "librispeech_other": "vivavoce.evaluation.tasks.recognition:librispeech_other",
        "common_voice": "vivavoce.evaluation.tasks.recognition:common_voice",
        "fleurs": "vivavoce.evaluation.tasks.recognition:fleurs",
        "fleurs_translation": "vivavoce.evaluation.tasks.recognition:fleurs_translation",
        "covost2": "vivavoce.evaluation.tasks.recognition:covost2",
        "llama_questions": "vivavoce.evaluation.tasks.spoken_answers:llama_questions",
        "web_questions": "vivavoce.evaluation.tasks.spoken_answers:web_questions",
        "trivia_qa": "vivavoce.evaluation.tasks.spoken_answers:trivia_qa",
        "voicebench_alpacaeval": "vivavoce.evaluation.tasks.voicebench:alpacaeval",
        "voicebench_alpacaeval_full": "vivavoce.evaluation.tasks.voicebench:alpacaeval_full",
        "voicebench_commoneval": "vivavoce.evaluation.tasks.voicebench:commoneval",
        "voicebench_wildvoice": "vivavoce.evaluation.tasks.voicebench:wildvoice",
        "voicebench_sd_qa": "vivavoce.evaluation.tasks.voicebench:sd_qa",
        "voicebench_bbh": "vivavoce.evaluation.tasks.voicebench:bbh",
        "voicebench_mmsu": "vivavoce.evaluation.tasks.voicebench:mmsu",
        "voicebench_openbookqa": "vivavoce.evaluation.tasks.voicebench:openbookqa",
        "voicebench_ifeval": "vivavoce.evaluation.tasks.voicebench:ifeval",
        "voicebench_advbench": "vivavoce.evaluation.tasks.voicebench:advbench",
        "air_bench": "vivavoce.evaluation.tasks.audio_choices:air_bench",
        "mmau": "vivavoce.evaluation.tasks.audio_choices:mmau",
        "iemocap": "vivavoce.evaluation.tasks.emotions:iemocap",
        "humdial_trajectory": "vivavoce.evaluation.tasks.emotions:humdial",
        "seed_tts": "vivavoce.evaluation.tasks.reading_aloud:seed_tts",
        "retention": "vivavoce.evaluation.tasks.retention:retention",
        "mmlu": "vivavoce.evaluation.tasks.retention:mmlu",
        "lm_eval": "vivavoce.evaluation.tasks.retention:lm_eval",
        "own": "vivavoce.evaluation.tasks.own:own",
    },
    group="vivavoce.tasks",
)
"""Name -> function of `TaskOptions` that gives a `Task`."""

_VOICEBENCH = "alpacaeval commoneval wildvoice sd_qa mmsu openbookqa bbh ifeval advbench"
SUITES: dict[str, tuple[str, ...]] = {
    "nano": ("nano_questions", "nano_digits", "nano_typed", "nano_speaking"),
    "librispeech": ("librispeech_clean", "librispeech_other"),
    "spoken_qa": ("llama_questions", "web_questions", "trivia_qa"),
    "voicebench": tuple(f"voicebench_{name}" for name in _VOICEBENCH.split()),
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
