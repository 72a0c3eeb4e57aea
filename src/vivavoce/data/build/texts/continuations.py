"""`continue`: what a language model makes of the words a row holds, as the assistant's turn that ears learn from.

The model reads the transcript where the row has audio, so the answer is what a text model would say to the same words:
the target of distillation, and of supervised tuning.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.texts.language_models import (
    ModelSettings,
    Prompt,
    Reply,
    answer_each,
    check_name,
    make_language_model,
    public_name,
)
from vivavoce.data.conversation import Conversation, Message, Part, Text

PLACE = "{transcript}"
TEMPLATES = {
    "continue": "Here is the beginning of a text. Write what may come next, in no more than {max_words} words. Write "
    f"only that, without repeating the beginning.\n\n{PLACE}",
    "chat": PLACE,
}


@dataclass(frozen=True)
class ContinueConfig:
    """How to ask.

    Attributes:
        model: ``transformers:FOLDER_OR_HUB_ID[@REVISION]``, ``endpoint:MODEL`` or ``service:NAME``.
        template: What the last user turn becomes: "continue", "chat" (the words as they are), or an instruction of
            one's own with {transcript} in it, and {max_words} if wanted. Turns before it stay as they are.
        max_words: Asked for by the template.
        max_new_tokens: Longer answers are cut.
        keep_unfinished: Keep answers that were cut; else they are put aside.
        show_instruction: Put the instruction around the user's audio in the row; else only the audio stays there.
        system: Text of a system turn for the prompt, instead of the row's own; it does not come into the row.
        replace: Take away what follows the last user turn; else rows that are answered already are put aside.
        dtype, plain, template_options, endpoint: As in `language_models.ModelSettings`.
    """

    model: str
    template: str = "continue"
    max_words: int = 50
    max_new_tokens: int = 96
    keep_unfinished: bool = True
    show_instruction: bool = True
    system: str | None = None
    replace: bool = False
    dtype: str = "float32"
    plain: bool = False
    template_options: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        text = TEMPLATES.get(self.template, self.template)
        if text.count(PLACE) != 1:
            known = ", ".join(map(repr, TEMPLATES))
            raise ConfigError(
                f"template is {self.template!r}, wanted {known}, or text with {PLACE} in it once"
            )
        if self.max_words < 1 or self.max_new_tokens < 1:
            raise ConfigError("wanted max_words and max_new_tokens of 1 or more")

    @property
    def instruction(self) -> tuple[str, str]:
        """What stands before the transcript, and after it."""
        text = TEMPLATES.get(self.template, self.template).replace("{max_words}", str(self.max_words))
        before, _, after = text.partition(PLACE)
        return before, after


class Continue:
    """Adds an answer to the last user turn.

    Rows without words there, answered already, or whose prompt is too long are put aside; and those for which the model
    fails, or says nothing. ``meta["answer"]`` names the model.
    """

    config_class: ClassVar[type] = ContinueConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: ContinueConfig) -> Needs:
        return Needs.of_models(config.model)

    def __init__(self, config: ContinueConfig, context: Context) -> None:
        self.config = config
        settings = ModelSettings(config.dtype, config.plain, config.template_options, config.endpoint)
        self._model = make_language_model(config.model, settings, context)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        prompts = [self.prompt(row) for row in rows]
        replies = answer_each(self._model, prompts, self.config.max_new_tokens)
        made: list[Made] = []
        for row, reply in zip(rows, replies, strict=True):
            if isinstance(reply, Reply) and reply.finished is False and not self.config.keep_unfinished:
                reason = f"the answer was cut at {self.config.max_new_tokens} tokens: {reply.text[-60:]!r}"
                reply = Fault("unfinished", reason, filtered=True)
            made.append(reply if isinstance(reply, Fault) else [self._answered(row, reply)])
        return made

    def prompt(self, row: Conversation) -> Prompt | Fault:
        """What the model is asked for a row: roles and words."""
        last = _last_user(row)
        if last is None:
            return Fault("no_question", "the row has no turn of the user")
        if last < len(row.messages) - 1 and not self.config.replace:
            return Fault("answered", "the row has an answer already; say replace: true to make another")
        silent = next((m for m in row.messages[: last + 1] for p in m.audios if not p.transcript), None)
        if silent is not None:
            return Fault(
                "no_transcript", f"a recording of the {silent.role} has no transcript for the model to read"
            )
        if not any(c.isalnum() for c in row.messages[last].words):
            return Fault("empty", "the user's turn has no words")
        before, after = self.config.instruction
        prompt = [] if self.config.system is None else [{"role": "system", "content": self.config.system}]
        earlier = [m for m in row.messages[:last] if m.role != "system" or not prompt]
        prompt += [{"role": m.role, "content": m.words} for m in earlier]
        words = row.messages[last].words
        return [*prompt, {"role": "user", "content": f"{before}{words}{after}"}]

    def _answered(self, row: Conversation, reply: Reply) -> Conversation:
        made = copy.deepcopy(row)
        last = _last_user(row)
        assert last is not None
        made.messages = made.messages[: last + 1]
        if self.config.show_instruction:
            before, after = self.config.instruction
            question = made.messages[last]
            question.parts = [*_text(before), *question.parts, *_text(after)]
        made.messages.append(Message("assistant", [Text(reply.text)]))
        made.meta["answer"] = {"model": public_name(self.config.model), "template": self.config.template}
        if reply.finished is not None:
            made.meta["answer"]["finished"] = reply.finished
        made.task = self.config.template if self.config.template in TEMPLATES else "chat"
        return made


def _text(text: str) -> list[Part]:
    return [Text(text)] if text else []


def _last_user(row: Conversation) -> int | None:
    return next((i for i in range(len(row.messages) - 1, -1, -1) if row.messages[i].role == "user"), None)
