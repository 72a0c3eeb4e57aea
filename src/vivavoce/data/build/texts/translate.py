"""`translate`: the words of a user turn in one language, and the assistant's turn that says them in another."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.speech.languages import check_language, primary
from vivavoce.data.build.speech.speak import Speak, SpeakConfig
from vivavoce.data.build.texts.language_models import ModelSettings, Reply, check_name, public_name
from vivavoce.data.build.texts.local_models import check_dtype
from vivavoce.data.build.texts.translators import Pair, make_translator
from vivavoce.data.conversation import Conversation, Message, Text


@dataclass(frozen=True)
class TranslateConfig:
    """From what to what, and by which model.

    Attributes:
        model: ``transformers:FOLDER_OR_HUB_ID[@REVISION]`` (Marian, NLLB, M2M-100, mBART-50, SeamlessM4T, or a chat
            model), ``endpoint:MODEL`` or ``service:NAME``.
        source, target: Language codes ("en", "pt-BR").
        source_code, target_code: What the model calls them ("eng_Latn"), where the table does not tell.
        speak: Settings of `speak` for the translation, without roles and language; None leaves it text.
        max_new_tokens: Longer translations are put aside as unfinished.
        dtype, template_options, endpoint: As in `language_models.ModelSettings`.
    """

    model: str
    source: str
    target: str
    source_code: str | None = None
    target_code: str | None = None
    speak: Mapping[str, Any] | None = None
    max_new_tokens: int = 256
    dtype: str = "float32"
    template_options: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        check_dtype(self.dtype)
        check_language(self.source, "source")
        check_language(self.target, "target")
        if self.source == self.target:
            raise ConfigError(f"source and target are both {self.source!r}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}, wanted 1 or more")
        if self.speak is not None and {"roles", "language"} & self.speak.keys():
            raise ConfigError(
                "speak speaks the assistant's turn in the target language; leave out roles and language"
            )
        self.speak_config()

    def speak_config(self) -> SpeakConfig | None:
        """Settings of the stage that speaks, if there is one.

        Raises:
            ConfigError: They are wrong.
        """
        if self.speak is None:
            return None
        return read_record(
            SpeakConfig, {**self.speak, "roles": ["assistant"], "language": self.target}, "speak"
        )


class Translate:
    """Makes rows of the task "translate": the last user turn, and its translation as the assistant's.

    The words of both sides stay: the source's as its transcript, the target's as text (and as the transcript of its
    speech), and as ``labels["translations"]`` of the source's recording. Put aside are rows whose recordings have no
    transcript or another language, translations that were cut, and those that only repeat the source.
    """

    config_class: ClassVar[type] = TranslateConfig
    version: ClassVar[int] = 1 + Speak.version
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: TranslateConfig) -> Needs:
        speaking = config.speak_config()
        voices = () if speaking is None else speaking.models()
        return Needs.of_models(config.model, *voices)

    def __init__(self, config: TranslateConfig, context: Context) -> None:
        self.config = config
        pair = Pair(config.source, config.target, config.source_code, config.target_code)
        settings = ModelSettings(config.dtype, False, config.template_options, config.endpoint)
        self._translator = make_translator(config.model, pair, settings, context)
        speaking = config.speak_config()
        self._speak = None if speaking is None else Speak(speaking, context)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        questions = [self._question(row) for row in rows]
        texts = [q.words for q in questions if not isinstance(q, Fault)]
        replies = iter(self._translator.translate(texts, self.config.max_new_tokens) if texts else ())
        made: list[Made] = []
        for row, question in zip(rows, questions, strict=True):
            reply = question if isinstance(question, Fault) else self._check(question, next(replies))
            made.append(reply if isinstance(reply, Fault) else [self._translated(row, reply)])
        if self._speak is None:
            return made
        spoken = iter(self._speak([rows[0] for rows in made if not isinstance(rows, Fault)]))
        return [one if isinstance(one, Fault) else next(spoken) for one in made]

    def _question(self, row: Conversation) -> Message | Fault:
        """The turn to be translated."""
        found = next((m for m in reversed(row.messages) if m.role == "user"), None)
        for part in found.audios if found else ():
            if not part.transcript:
                return Fault("no_transcript", "a recording of the user has no transcript to be translated")
            if part.language is not None and primary(part.language) != primary(self.config.source):
                reason = f"the recording is in {part.language!r}, wanted {self.config.source!r}"
                return Fault("language", reason, filtered=True)
        if found is None or not any(c.isalnum() for c in found.words):
            return Fault("empty", "the row has no words of the user to be translated")
        return found

    def _check(self, question: Message, reply: Reply | Fault) -> Reply | Fault:
        if isinstance(reply, Fault):
            return reply
        if reply.finished is False:
            reason = f"the translation was cut at {self.config.max_new_tokens} tokens: {reply.text[-60:]!r}"
            return Fault("unfinished", reason, filtered=True)
        if reply.text.casefold().split() == question.words.casefold().split():
            return Fault(
                "untranslated", f"the model only repeats the source: {reply.text[:60]!r}", filtered=True
            )
        return reply

    def _translated(self, row: Conversation, reply: Reply) -> Conversation:
        made = copy.deepcopy(row)
        question = next(m for m in reversed(made.messages) if m.role == "user")
        for part in question.audios:
            part.language = part.language or self.config.source
            part.labels["translations"] = {
                **part.labels.get("translations", {}),
                self.config.target: reply.text,
            }
        system = [m for m in made.messages if m.role == "system"]
        made.messages = [*system, question, Message("assistant", [Text(reply.text)])]
        made.task = "translate"
        made.meta["translation"] = {
            "model": public_name(self.config.model), "source": self.config.source, "target": self.config.target
        }  # fmt: skip
        return made
