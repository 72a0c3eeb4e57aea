"""What SALMONN is asked: prompt files of the published form, and instructions of our own for the usual tasks."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vivavoce.base.errors import ConfigError

CLIP = "<SpeechHere>"
BEFORE, AFTER = "<Speech>", "</Speech>"
TURN = "USER: {}\nASSISTANT:"
QUESTION = "{}"

# task -> what follows the clip; the names are those of the published prompt files
INSTRUCTIONS = {
    "asr": "Write down what is said in this recording.",
    "asr_zh": "请写出这段录音中说的话。",
    "asr_de": "Schreibe auf, was in dieser Aufnahme gesagt wird.",
    "translation_ec": "Translate what is said into Chinese.",
    "translation_en2de": "Translate what is said into German.",
    "translation_en2ja": "Translate what is said into Japanese.",
    "gender_recognition": "Is the speaker a man or a woman?",
    "emotion_recognition": "Name the speaker's emotion in one word.",
    "phone_recognition": "Write down the phonemes that are spoken.",
    "speaker_verification": "Is there one speaker or more than one? Answer yes if there is only one.",
    "audiocaption": "Describe what can be heard.",
    "audio_story_telling": "Tell a story that fits what can be heard.",
    "music_description": "Describe this music: its genre, instruments, mood and tempo.",
    "QA": QUESTION,
    "task1_emotional_trajectory": (
        "请听完这几轮对话，注意语气、笑声、叹气等声音线索，描述用户的情绪变化过程，并写出每一轮的情绪。"
    ),
}


@dataclass(frozen=True)
class Prompts:
    """Prompts by task, in the published form with ``<SpeechHere>`` where the clip goes.

    Attributes:
        tasks: Task -> one prompt or more.
        dropped: Entries that were left out, as they have no place for a clip.
    """

    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: int = 0

    def draw(self, task: str, seed: int, question: str = "") -> str:
        """One of the task's prompts, the same for the same seed.

        Args:
            task: Name in ``tasks``.
            seed: Such as the number of the sample and epoch.
            question: Goes where the prompt has ``{}``.

        Raises:
            ConfigError: No such task.
        """
        prompts = self.tasks.get(task)
        if not prompts:
            known = ", ".join(sorted(self.tasks)) or "none"
            raise ConfigError(f"no prompt for task {task!r}; there are prompts for: {known}.")
        return random.Random(seed).choice(prompts).replace(QUESTION, question)

    def instructions(self) -> dict[str, str]:
        """Task -> what follows the clip in the task's first prompt; tasks with text before the clip are left out."""
        pairs = ((task, instruction(prompts[0])) for task, prompts in self.tasks.items())
        return {task: text for task, text in pairs if text is not None}


def instruction(prompt: str) -> str | None:
    """What follows the clip in a prompt of the published form; None if it has other text before the clip."""
    before, _, after = prompt.partition(CLIP)
    if before.replace(BEFORE, "").strip() or CLIP in after:
        return None
    return after.strip().removeprefix(AFTER).strip()


def published_prompt(text: str) -> str:
    """An instruction in the published form: the clip between its marks, a space, the instruction."""
    return f"{BEFORE}{CLIP}{AFTER} {text}"


def default_prompts() -> Prompts:
    """``INSTRUCTIONS`` in the published form."""
    return Prompts({task: (published_prompt(text),) for task, text in INSTRUCTIONS.items()})


def read_prompts(path: str | Path) -> Prompts:
    """Read a prompt file: a JSON object of task -> prompt or list of prompts.

    Raises:
        ConfigError: It cannot be read, or is no such object.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the prompt file {path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(
            f"the prompt file {path} holds a {type(found).__name__}, wanted an object of task -> prompts."
        )
    tasks: dict[str, tuple[str, ...]] = {}
    dropped = 0
    for task, entry in found.items():
        prompts = [entry] if isinstance(entry, str) else entry
        if not isinstance(prompts, list) or not all(isinstance(p, str) for p in prompts):
            raise ConfigError(
                f"task {task!r} of the prompt file {path} is {entry!r}, wanted a text or texts."
            )
        kept = tuple(p for p in prompts if CLIP in p)
        dropped += len(prompts) - len(kept)
        if kept:
            tasks[task] = kept
    return Prompts(tasks, dropped)
