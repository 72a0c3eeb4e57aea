"""`instruct`: typed instructions become spoken ones, with typed or spoken answers; some rows stay as they are.

The recipe of instruction-speech sets (Jan-Llama3): short prompts that people would say, a text-to-speech voice, the
text answer as target, and a share of typed rows so that the model does not forget to read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.speech.speak import SPEAKERS, Speak, SpeakConfig
from vivavoce.data.build.speech.unspeakable import unspeakable
from vivavoce.data.conversation import Conversation


@dataclass(frozen=True)
class InstructConfig:
    """Which rows, and what of them is spoken.

    Attributes:
        spoken: ["user"] for spoken questions with typed answers, ["user", "assistant"] for both.
        text_share: Share of rows whose prompts stay text, drawn by the row's id.
        max_words: Of a spoken turn of the user.
        max_answer_words: Of a spoken turn of the assistant.
        speak: Settings of `speak`, without its roles.
    """

    spoken: tuple[str, ...] = ("user",)
    text_share: float = 0.0
    max_words: int = 64
    max_answer_words: int = 200
    speak: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.spoken or [role for role in self.spoken if role not in SPEAKERS]:
            raise ConfigError(f"spoken is {list(self.spoken)}, wanted 'user', 'assistant' or both")
        if not 0 <= self.text_share <= 1:
            raise ConfigError(f"text_share is {self.text_share}, wanted 0 to 1")
        if self.max_words < 1 or self.max_answer_words < 1:
            raise ConfigError("wanted max_words and max_answer_words of 1 or more")
        if "roles" in self.speak:
            raise ConfigError("say who is spoken by spoken, not by speak.roles")
        self.speak_config()

    def speak_config(self) -> SpeakConfig:
        """Settings of the stage that speaks.

        Raises:
            ConfigError: They are wrong.
        """
        return read_record(SpeakConfig, {**self.speak, "roles": list(self.spoken)}, "speak")


class Instruct:
    """Filters instructions and speaks them.

    Put aside are rows without an answer ("unanswered"), with a turn to be spoken that is too long ("too_long") or has
    something in it that is not said aloud ("unspeakable"), and what `speak` puts aside. Rows that stay text only need
    an answer.
    """

    config_class: ClassVar[type] = InstructConfig
    version: ClassVar[int] = 1 + Speak.version
    batch_rows: ClassVar[int] = Speak.batch_rows

    @staticmethod
    def needs(config: InstructConfig) -> Needs:
        return Speak.needs(config.speak_config())

    def __init__(self, config: InstructConfig, context: Context) -> None:
        self.config, self.context = config, context
        self._speak = Speak(config.speak_config(), context)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        plans = [self._plan(row) for row in rows]
        spoken = iter(self._speak([plan for plan in plans if isinstance(plan, Conversation)]))
        return [next(spoken) if isinstance(plan, Conversation) else plan for plan in plans]

    def _plan(self, row: Conversation) -> Conversation | Made:
        """A row to be spoken, or the result for one that is not."""
        if not row.messages or row.messages[-1].role != "assistant" or not row.messages[-1].words.strip():
            return Fault("unanswered", "the row does not end with an answer of the assistant")
        made = copy.deepcopy(row)
        made.task = "chat"
        if self.context.rng(row.id, "stays text").random() < self.config.text_share:
            return [made]
        fault = self._refuse(row)
        return fault or made

    def _refuse(self, row: Conversation) -> Fault | None:
        limits = {"user": self.config.max_words, "assistant": self.config.max_answer_words}
        for number, message in enumerate(row.messages):
            if message.role not in self.config.spoken or message.audios:
                continue
            words, where = len(message.text.split()), f"message {number}"
            if words > limits[message.role]:
                reason = f"{where} has {words} words, at most {limits[message.role]} of the {message.role} are spoken"
                return Fault("too_long", reason, filtered=True)
            found = unspeakable(message.text)
            if found:
                return Fault("unspeakable", f"{where} has {found[0]} in it: {found[1]!r}", filtered=True)
        return None
