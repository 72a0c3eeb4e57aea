"""SALMONN's annotation file: one JSON object with a list of ``{"path", "text", "task", "Q", "expand_wav"}``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.convert.chat_messages import conversation
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, write_json
from vivavoce.data.convert.texts import object_of, question_text, rest, text_of

_ASR = "asr"
_NAMES = {_ASR: _ASR, "translate": "translation", "chat": "QA"}  # our tasks -> theirs


class SalmonnFormat(Format):
    """``{"annotation": [...]}``: recordings joined into one clip, perhaps a question ``Q``, and the answer ``text``.

    ``asr`` of one recording is a transcript; every other row is a question with an answer. Recordings come before the
    question, as SALMONN's prompts have them. The rows' own names of tasks are kept in ``meta``.
    """

    name: ClassVar[str] = "salmonn"
    description: ClassVar[str] = "SALMONN's annotation file: path, text, task, Q and expand_wav"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    holds: ClassVar[frozenset[str]] = frozenset({"roles", "typed text", "user transcripts"})
    audio_first: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("chat", "asr", "translate")

    def detect(self, path: Path) -> float:
        seen = look(path)
        return 0.98 if seen.list_key == "annotation" and seen.all_have("path") else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return json_items(path, options.encoding, key="annotation")

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        more = row.get("expand_wav") or []
        if not isinstance(more, list):
            raise RowError("malformed", f"expand_wav is {str(more)[:60]!r}, wanted a list of paths.")
        paths = [text_of(row, "path"), *more]
        named, question = text_of(row, "task", default=_ASR), text_of(row, "Q", default="")
        text = text_of(row, "text", default="")
        parts: list[dict[str, Any]] = [{"type": "audio", "audio": path} for path in paths]
        columns = rest(row, "path", "text", "task", "Q", "expand_wav")
        if named == _ASR and len(paths) == 1 and not question:
            messages = [{"role": "user", "content": [parts[0] | {"transcript": text}]}]
            yield conversation(item, messages, self.name, columns, task=_ASR)
            return
        parts += [{"type": "text", "text": question}] if question else []
        messages = [{"role": "user", "content": parts}]
        messages += [{"role": "assistant", "content": text}] if text else []
        task = _ASR if named == _ASR else "translate" if named.startswith("translation") else "chat"
        columns |= {"task": named} if named != _NAMES[task] else {}
        yield conversation(item, messages, self.name, columns, task=task)

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        write_json(stage.main, entries, lines=False, key="annotation")

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        roles, question = [m.role for m in row.messages], row.messages[0]
        if roles not in (["user"], ["user", "assistant"]):
            raise Unfit("not one question and one answer")
        if not question.audios or any(m.audios for m in row.messages[1:]):
            raise Unfit("no recording in the question, or one in the answer")
        asked = question_text(question.parts, audio_first=True)
        parts: list[Audio] = question.audios
        if any(part.audio is None for part in parts):
            raise Unfit("an audio part has only tokens")
        known = dict(row.meta.get(self.name, {}))
        if len(roles) == 1:
            if len(parts) > 1 or asked or parts[0].transcript is None:
                raise Unfit("neither an answer nor the transcript of one recording")
            text, named = parts[0].transcript, _ASR
        else:
            text, named = row.messages[1].text, _NAMES[self.task_of(row, options)]
        paths = [clips.path(part, row) for part in parts]
        entry: dict[str, Any] = {"path": paths[0], "text": text, "task": known.pop("task", named)}
        entry |= {"Q": asked} if asked else {}
        entry |= {"expand_wav": paths[1:]} if paths[1:] else {}
        yield entry | known

    def task_of(self, row: Conversation, options: Options) -> str:
        if len(row.messages) == 1:
            return _ASR
        is_bare = len(row.messages[0].parts) == 1
        return row.task if row.task == "translate" or (row.task == _ASR and not is_bare) else "chat"

    def lost(self, row: Conversation, options: Options) -> set[str]:
        answered = len(row.messages) == 2 and any(p.transcript is not None for p in row.audio_parts())
        return super().lost(row, options) | ({"user transcripts"} if answered else set())

    def survivor(self, row: Conversation, options: Options | None = None) -> Conversation:
        made = super().survivor(row, options)
        if len(made.messages) == 2:
            for part in made.audio_parts():
                part.transcript = None
        return made
