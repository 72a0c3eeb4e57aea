"""Ultravox's columns: ``audio``, a transcript and a ``continuation``, or ``messages`` with one ``<|audio|>``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.convert.chat_messages import conversation, id_entry
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.details import CHAT
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, is_json, safe_name
from vivavoce.data.convert.sounds import as_recording
from vivavoce.data.convert.tables import table_items, write_table
from vivavoce.data.convert.texts import Slots, object_of, optional_text, rest, typed, with_marks
from vivavoce.data.recordings import ARCHIVE, source_of

MARK = "<|audio|>"
TRANSCRIPTS = ("text", "sentence", "transcript", "transcription", "normalized_text", "raw_transcription")


class UltravoxFormat(Format):
    """Hugging Face rows with ``audio``, a transcript and the answer of a language model to it.

    Variants: "columns" (one spoken question, one typed answer or none) and "messages" (any chat with one recording).
    Words for ``columns``: "audio", "text", "continuation".
    """

    name: ClassVar[str] = "ultravox"
    description: ClassVar[str] = "Ultravox rows: audio, text and continuation, or messages with one <|audio|>"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json", ".jsonl.gz")
    holds: ClassVar[frozenset[str]] = CHAT | {"id", "user transcripts"}
    tasks: ClassVar[tuple[str, ...]] = ("continue", "asr", "chat")
    variants: ClassVar[tuple[str, ...]] = ("columns", "messages")
    settings: ClassVar[frozenset[str]] = frozenset({"columns", "to_columns", "audio"})

    def detect(self, path: Path) -> float:
        seen = look(path)
        messages = seen.messages()
        if messages:
            text = "".join(str(m.get("content")) for m in messages)
            return 0.95 if MARK in text and "audios" not in seen.columns else 0.0
        if "audio" not in seen.columns or "messages" in seen.columns:
            return 0.0
        if "continuation" in seen.columns:
            return 0.95
        found = [name for name in TRANSCRIPTS if name in seen.columns]
        is_ours = found and found != ["text"] and not seen.columns & {"prompt", "answer", "text_description"}
        return 0.9 if is_ours else 0.6 if found else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return table_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        names = {word: options.columns.get(word, word) for word in ("audio", "continuation")}
        audio = as_recording(row.get(names["audio"]))
        if row.get("messages") is not None:
            slots = Slots((MARK,), [] if audio is None else [audio])
            given = [object_of(m) for m in row["messages"]]
            messages = [{"role": m.get("role"), "content": slots.parts(str(m.get("content")))} for m in given]
            slots.check()
            columns = rest(row, "id", "messages", names["audio"])
            yield conversation(item, messages, self.name, columns)
            return
        if audio is None:
            raise RowError("no sound", f"the column {names['audio']} is empty.")
        key = options.columns.get("text") or next((t for t in TRANSCRIPTS if row.get(t) is not None), "")
        part = {"type": "audio", "audio": audio, "transcript": optional_text(row, key)}
        messages = [{"role": "user", "content": [part]}]
        answer = optional_text(row, names["continuation"])
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        columns = rest(row, "id", key, *names.values())
        task = "asr" if answer is None else "continue"
        yield conversation(item, messages, self.name, columns, task=task)

    def audio_mode(self, path: Path, options: Options) -> str:
        return options.audio or ("keep" if is_json(path) else "embed")

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        to = options.to_columns
        columns = {"id": "string", to.get("audio", "audio"): "audio"}
        if (options.variant or self.variants[0]) == "columns":
            columns |= {to.get(word, word): "string" for word in ("text", "continuation")}
        write_table(stage.main, entries, columns)

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        to = {w: options.to_columns.get(w, w) for w in ("audio", "text", "continuation")}
        parts = list(row.audio_parts())
        if len(parts) != 1:
            raise Unfit("several recordings in a row" if parts else "no recording")
        entry: dict[str, Any] = id_entry(row, number)
        if (options.variant or self.variants[0]) == "messages":
            texts = ["".join(t for t in with_marks(m, MARK) if isinstance(t, str)) for m in row.messages]
            entry["messages"] = [
                {"role": m.role, "content": text} for m, text in zip(row.messages, texts, strict=True)
            ]
        else:
            roles = [m.role for m in row.messages]
            if roles not in (["user"], ["user", "assistant"]) or typed(row.messages[0].parts):
                raise Unfit("not one spoken question and one answer; the variant 'messages' has room for it")
            if parts[0] not in row.messages[0].parts:
                raise Unfit("the recording is in the answer")
            if parts[0].transcript is not None:
                entry[to["text"]] = parts[0].transcript
            if len(roles) == 2:
                entry[to["continuation"]] = row.messages[1].text
        entry[to["audio"]] = recording(parts[0], row, clips)
        yield entry | dict(row.meta.get(self.name, {}))

    def task_of(self, row: Conversation, options: Options) -> str:
        if options.variant == "messages":
            return "chat"
        return "continue" if len(row.messages) > 1 else "asr"

    def held(self, options: Options) -> frozenset[str]:
        return self.holds - {"user transcripts"} if options.variant == "messages" else self.holds


def recording(part: Audio, row: Conversation, clips: Clips) -> Any:
    """A recording as a path, or as Hugging Face's struct with its bytes inside.

    Raises:
        Unfit: It has only tokens.
        AudioError: It cannot be read.
    """
    if part.audio is None:
        raise Unfit("an audio part has only tokens")
    if clips.mode == "embed":
        data, suffix = clips.data(part, row)
        return {"bytes": data, "path": clip_name(part, row, suffix)}
    path = clips.path(part, row)
    return path if is_json(clips.stage.main) else {"bytes": None, "path": path}


def clip_name(part: Audio, row: Conversation, suffix: str) -> str:
    """The name of a recording that is inside a table: that of its file if there was one."""
    source = source_of(part, row)
    path = source.get("path") if isinstance(source, Mapping) else source
    if not path or path.startswith("data:"):
        return f"{safe_name(row.id)}{suffix}"
    return f"{PurePosixPath(path.rpartition(ARCHIVE)[2]).stem}{suffix}"
