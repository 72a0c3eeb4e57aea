"""`ask`: recordings become typed questions about them, answered by what is known: a transcript, or the answer there is.

So a set of recordings with transcripts teaches to write down what is said, by one instruction or by many.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.conversation import Conversation, Message, Text


@dataclass(frozen=True)
class AskConfig:
    """What is asked.

    Attributes:
        prompts: Instructions; each row draws one by its id.
        where: The instruction comes "after" the recording, as in SALMONN, or "before" it.
        answer: "given" keeps the answer there is, and takes the transcript where there is none; "transcript" takes the
            transcript in any case, and what followed the recording goes.
        task: Of the rows; None leaves it.
    """

    prompts: tuple[str, ...] = ("Write down what is said in this recording.",)
    where: Literal["after", "before"] = "after"
    answer: Literal["given", "transcript"] = "given"
    task: str | None = "asr"

    def __post_init__(self) -> None:
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise ConfigError(
                f"prompts are {list(self.prompts)}, wanted one instruction or more, none of them empty"
            )


class Ask:
    """Types an instruction beside the recording of the user's last turn.

    Put aside are rows without a recording of the user ("no_recording"), and those that have neither an answer to keep
    nor a transcript ("no_answer").
    """

    config_class: ClassVar[type] = AskConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 64

    @staticmethod
    def needs(config: AskConfig) -> Needs:
        return Needs()

    def __init__(self, config: AskConfig, context: Context) -> None:
        self.config, self.context = config, context

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        return [self._ask(row) for row in rows]

    def _ask(self, row: Conversation) -> Made:
        places = [i for i, message in enumerate(row.messages) if message.role == "user" and message.audios]
        if not places:
            return Fault("no_recording", "the row has no recording of the user")
        made = copy.deepcopy(row)
        turn = made.messages[places[-1]]
        if self.config.answer == "transcript":
            made.messages = made.messages[: places[-1] + 1]
        if made.messages[-1].role != "assistant":
            said = " ".join(part.transcript or "" for part in turn.audios).strip()
            if not said:
                return Fault(
                    "no_answer", "the row has neither an answer to keep nor a transcript of its recording"
                )
            made.messages.append(Message("assistant", [Text(said)]))
        prompt = Text(self.context.rng("ask", row.id).choice(self.config.prompts))
        turn.parts = [*turn.parts, prompt] if self.config.where == "after" else [prompt, *turn.parts]
        made.task = self.config.task or made.task
        return [made]
