"""The data form of Orpheus and the notebooks around it: columns ``text``, ``audio`` and perhaps ``source``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.convert.chat_messages import conversation
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, is_json
from vivavoce.data.convert.sounds import as_recording
from vivavoce.data.convert.tables import table_items, write_table
from vivavoce.data.convert.texts import object_of, optional_text, rest, text_of
from vivavoce.data.convert.ultravox import recording

TTS = "tts"


class OrpheusFormat(Format):
    """A text, its recording, and the name of the voice.

    A row is read as the user's typed text and the assistant's recording of it. Every recording of a conversation
    that has a transcript is written, a row each. Words for ``columns``: "text", "audio", "source" (the voice).
    """

    name: ClassVar[str] = "orpheus"
    description: ClassVar[str] = "Orpheus rows: text, audio and source (the voice)"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json", ".jsonl.gz")
    holds: ClassVar[frozenset[str]] = frozenset({"reply transcripts", "speaker"})
    tasks: ClassVar[tuple[str, ...]] = (TTS,)
    settings: ClassVar[frozenset[str]] = frozenset({"columns", "to_columns", "audio"})

    def detect(self, path: Path) -> float:
        seen = look(path)
        other = {"messages", "continuation", "sentence", "prompt", "text_description", "audio_filepath"}
        if not {"audio", "text"} <= seen.columns or seen.columns & other:
            return 0.0
        return 0.9 if {"source", "voice"} & seen.columns else 0.6

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return table_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row, names = object_of(item.value), column_names(options.columns, "text", "audio", "source")
        audio = as_recording(row.get(names["audio"]))
        if audio is None:
            raise RowError("no sound", f"the column {names['audio']} is empty.")
        part = {"audio": audio, "speaker": optional_text(row, names["source"], "voice")}
        columns = rest(row, "id", "voice", *names.values())
        yield spoken(item, text_of(row, names["text"]), part, self.name, columns)

    def audio_mode(self, path: Path, options: Options) -> str:
        return options.audio or ("keep" if is_json(path) else "embed")

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        names = column_names(options.to_columns, "text", "audio", "source")
        kinds = {"text": "string", "audio": "audio", "source": "string"}
        write_table(stage.main, entries, {names[word]: kind for word, kind in kinds.items()})

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        names = column_names(options.to_columns, "text", "audio", "source")
        for part in said_parts(row):
            entry = {names["text"]: part.transcript, names["audio"]: recording(part, row, clips)}
            entry |= {names["source"]: part.speaker} if part.speaker else {}
            yield entry | dict(row.meta.get(self.name, {}))

    def lost(self, row: Conversation, options: Options) -> set[str]:
        return lost_beside_speech(row, super().lost(row, options))


def column_names(given: Mapping[str, str], *words: str) -> dict[str, str]:
    """Our words -> names of columns."""
    return {word: given.get(word, word) for word in words}


def spoken(
    item: Item, text: str, part: Mapping[str, Any], form: str, columns: Mapping[str, Any], task: str = TTS
) -> Conversation:
    """A text that the user types and the assistant says.

    Args:
        item: The raw row.
        text: What is said.
        part: The audio part's other keys.
        form: Key in ``meta``.
        columns: Kept there.
        task: "tts" or "describe_tts".
    """
    reply = {"type": "audio", "transcript": text} | {k: v for k, v in part.items() if v is not None}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": [reply]},
    ]
    return conversation(item, messages, form, columns, task=task)


def said_parts(row: Conversation) -> list[Any]:
    """The recordings with a transcript.

    Raises:
        Unfit: There is none.
    """
    parts = [part for part in row.audio_parts() if part.transcript]
    if not parts:
        raise Unfit("no recording with a transcript" if any(row.audio_parts()) else "no recording")
    return parts


def lost_beside_speech(row: Conversation, found: set[str]) -> set[str]:
    """What is lost by a form of a text and its recording, where the text is typed and the recording is the reply."""
    if [m.role for m in row.messages] == ["user", "assistant"]:
        asked, said = (m.parts for m in row.messages)
        is_said = len(said) == 1 and isinstance(said[0], Audio) and said[0].transcript == row.messages[0].text
        if is_said and not any(isinstance(part, Audio) for part in asked):
            return found - {"roles", "typed text"}
    return found | {"roles"}
