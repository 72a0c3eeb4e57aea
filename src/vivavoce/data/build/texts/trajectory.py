"""`trajectory`: dialogues become questions about how the user felt from turn to turn, answered in HumDial's form.

Emotions are the labels of the user's recordings. Where `speak` drew them (``moods: drawn``) the words tell nothing of
them: a model that scores above chance has listened.
"""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.speech.moods import EMOTION
from vivavoce.data.conversation import Conversation, Message, Text
from vivavoce.data.dialogues import TRAJECTORY
from vivavoce.tokens.trajectory import EMOTIONS, LANGUAGES, QUESTIONS, format_trajectory, read_emotion

WORDS = {
    "en": dict(zip(EMOTIONS, "happy sad angry afraid calm surprised disgusted".split(), strict=True)),
    "zh": dict(zip(EMOTIONS, "开心 难过 生气 害怕 平静 惊讶 厌恶".split(), strict=True)),
}


@dataclass(frozen=True)
class TrajectoryConfig:
    """How emotions are asked for.

    Attributes:
        language: Of question, answer and the line of labels: "en" or "zh".
        question: Type the question with the last turn; without it the dialogue alone asks.
    """

    language: str = "en"
    question: bool = True

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ConfigError(f"language is {self.language!r}, wanted one of {', '.join(LANGUAGES)}")


class Trajectory:
    """Asks for the emotions of a dialogue.

    Put aside are rows without a spoken turn of a user ("no_dialogue"), and rows with one whose ``labels["emotion"]`` is
    none of the seven ("no_emotion"). What follows the last turn of the user is replaced by the answer; only that is
    learned.
    """

    config_class: ClassVar[type] = TrajectoryConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 64

    @staticmethod
    def needs(config: TrajectoryConfig) -> Needs:
        return Needs()

    def __init__(self, config: TrajectoryConfig, context: Context) -> None:
        self.config, self.context = config, context

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        return [self._ask(row) for row in rows]

    def _ask(self, row: Conversation) -> Made:
        places = [i for i, message in enumerate(row.messages) if message.role == "user" and message.audios]
        if not places:
            return Fault("no_dialogue", "the row has no spoken turn of a user")
        made = copy.deepcopy(row)
        labels: list[str] = []
        for place in places:
            for part in made.messages[place].audios:
                given = str(part.labels.get(EMOTION, ""))
                label = read_emotion(given)
                if label is None:
                    wanted = ", ".join(EMOTIONS)
                    return Fault(
                        "no_emotion", f"message {place} has the emotion {given!r}, wanted one of {wanted}"
                    )
                labels.append(label)
        made.messages = made.messages[: places[-1] + 1]
        for message in made.messages:
            if message.role == "assistant":
                message.loss = 0.0
        if self.config.question:
            made.messages[-1].parts.append(Text(QUESTIONS[self.config.language]))
        answer = format_trajectory(describe(labels, self.config.language), labels, self.config.language)
        made.messages.append(Message("assistant", [Text(answer)]))
        made.task = TRAJECTORY
        return [made]


def describe(labels: Sequence[str], language: str) -> str:
    """How somebody felt, in one sentence."""
    words = [WORDS[language][label] for label in labels]
    if language == "zh":
        return "你先是" + "，然后".join(words) + "。" if len(words) > 1 else f"你很{words[0]}。"
    if len(words) == 1:
        return f"You sounded {words[0]}."
    middle = "".join(f", then {word}" for word in words[1:-1])
    return f"First you sounded {words[0]}{middle}, and in the end {words[-1]}."
