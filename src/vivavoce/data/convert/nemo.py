"""NeMo's manifests: a line per recording with ``audio_filepath``, ``duration`` and ``text``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.convert.chat_messages import conversation
from vivavoce.data.convert.contract import Format, Options, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, write_json
from vivavoce.data.convert.sounds import length_of
from vivavoce.data.convert.texts import object_of, optional_text, rest, seconds_of, text_of, typed

_KNOWN = (
    "id", "audio_filepath", "duration", "offset", "text", "lang", "language", "source_lang", "target_lang", "speaker",
    "context", "question", "answer",
)  # fmt: skip


class NemoFormat(Format):
    """``{"audio_filepath", "duration", "offset", "text", "lang", "speaker", ...}``, a line per recording.

    A row is a transcript; with ``answer`` it is a question (``context`` or ``question`` typed with it) and its answer;
    with two different languages ``text`` is a translation. A conversation of another shape is written as its
    recordings, a line each. NeMo's turns are the variant "nemo" of the form sharegpt.
    """

    name: ClassVar[str] = "nemo"
    description: ClassVar[str] = "NeMo manifest: audio_filepath, duration, offset, text; context and answer"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".jsonl.gz")
    holds: ClassVar[frozenset[str]] = frozenset(
        {"id", "roles", "typed text", "user transcripts", "language", "speaker", "spans"}
    )
    tasks: ClassVar[tuple[str, ...]] = ("asr", "chat", "translate")

    def detect(self, path: Path) -> float:
        return 0.95 if look(path).all_have("audio_filepath") else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return json_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        part: dict[str, Any] = {"type": "audio", "audio": text_of(row, "audio_filepath")}
        offset, duration = seconds_of(row, "offset"), seconds_of(row, "duration")
        if offset is not None and duration is not None:
            part |= {"start": offset, "end": round(offset + duration, 6)}
        source, target = row.get("source_lang"), row.get("target_lang")
        part["language"] = optional_text(row, "lang", "language", "source_lang")
        part["speaker"] = optional_text(row, "speaker")
        text = optional_text(row, "text")
        columns = rest(row, *_KNOWN)
        columns |= {k: row[k] for k in ("target_lang", "source_lang") if row.get(k) is not None}
        asked = optional_text(row, "context", "question")
        parts = [{"type": "text", "text": asked}, part] if asked else [part]
        messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        task, answer = "asr", optional_text(row, "answer")
        if answer is not None:
            part["transcript"], task = text, "chat"
            messages.append({"role": "assistant", "content": answer})
        elif source and target and source != target and text is not None:
            task = "translate"
            messages.append({"role": "assistant", "content": text})
        else:
            part["transcript"] = text
        yield conversation(item, messages, self.name, columns, task=task)

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        parts = list(row.audio_parts())
        if not parts:
            raise Unfit("no recording")
        if any(part.audio is None for part in parts):
            raise Unfit("an audio part has only tokens")
        known = dict(row.meta.get(self.name, {}))
        for i, part in enumerate(parts):
            seconds = length_of(part, row, clips.root).seconds
            path = clips.path(part, row, cut=False)
            entry: dict[str, Any] = {"audio_filepath": path, "duration": round(seconds, 6)}
            if part.start_s or part.end_s is not None:
                entry["offset"] = part.start_s
            name = row.id if len(parts) == 1 else f"{row.id}-{i}"
            entry |= {} if name in ("", str(number + i)) else {"id": name}
            if part.language:
                entry["source_lang" if "source_lang" in known else "lang"] = part.language
            entry |= {"speaker": part.speaker} if part.speaker else {}
            entry |= {"text": part.transcript} if part.transcript is not None else {}
            if len(parts) == 1 and is_question(row):
                entry |= _answer(row, part, known)
            yield entry | {k: v for k, v in known.items() if k not in entry}

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        write_json(stage.main, entries, lines=True)  # NeMo's .json files are lines too

    def task_of(self, row: Conversation, options: Options) -> str:
        if not is_question(row):
            return "asr"
        part, known = row.messages[0].audios[0], row.meta.get(self.name, {})
        return "translate" if _is_translation(row, part, known) else "chat"

    def lost(self, row: Conversation, options: Options) -> set[str]:
        found = super().lost(row, options)
        return found if is_question(row) else found | clips_only(row)


def is_question(row: Conversation) -> bool:
    """Whether a row is one spoken question of the user, perhaps with typed words, and one typed answer."""
    if [m.role for m in row.messages] != ["user", "assistant"]:
        return False
    asked, answer = row.messages
    return len(asked.audios) == 1 and len(asked.parts) <= 2 and not answer.audios


def _answer(row: Conversation, part: Audio, known: Mapping[str, Any]) -> dict[str, Any]:
    asked, answer = row.messages
    if _is_translation(row, part, known):
        return {"text": answer.text}
    typed_text = typed(asked.parts)
    return ({"context": typed_text} if typed_text else {}) | {"answer": answer.text}


def _is_translation(row: Conversation, part: Audio, known: Mapping[str, Any]) -> bool:
    languages = known.get("source_lang"), known.get("target_lang")
    is_one = row.task == "translate" and part.transcript is None and not row.messages[0].text
    return is_one and all(languages) and languages[0] != languages[1]


def clips_only(row: Conversation) -> set[str]:
    """What a form of single recordings has no room for in a conversation, beside their own details."""
    found = {"roles"} if [m.role for m in row.messages] != ["user"] else set()
    return found | ({"typed text"} if any(m.text for m in row.messages) else set())
