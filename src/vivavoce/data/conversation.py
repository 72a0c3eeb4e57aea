"""One row of data is one conversation: messages of text and audio parts, with what is known about the audio.

The shape is that of transformers and OpenAI, so rows are plain JSON; the dataclasses below are how code reads them.
``read_conversation(row).row()`` gives the row back in its one normal form.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vivavoce.base.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
Loss = float | Mapping[str, float] | None
Word = tuple[str, float, float]


@dataclass
class Text:
    """Words of a message."""

    text: str

    def row(self) -> dict[str, Any]:
        return {"type": "text", "text": self.text}


@dataclass
class Audio:
    """A recording in a message, or a part of one.

    Attributes:
        audio: A path, ``shard.tar::member``, a data URI, ``{"path", "bytes"}``, or the index of one of the row's
            ``audios``; None if only ``tokens`` are there.
        start_s, end_s: The part of it that counts; to its end if ``end_s`` is None. JSON keys ``start``, ``end``.
        transcript: What is said. A teacher reads it instead of the audio, and word error rates count against it.
        language: Code such as "en".
        speaker: Any name that is the same for the same voice.
        words: (word, start, end) in seconds from ``start_s``.
        labels: Anything else that is known, such as ``{"emotion": "happy"}``.
        tokens: Codes: ``{"codec", "layout", "num_samples", "path" or "codes"}``.
    """

    audio: str | int | Mapping[str, Any] | None = None
    start_s: float = 0.0
    end_s: float | None = None
    transcript: str | None = None
    language: str | None = None
    speaker: str | None = None
    words: list[Word] | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] | None = None

    def row(self) -> dict[str, Any]:
        found = {
            "type": "audio",
            "audio": self.audio,
            "start": self.start_s or None,
            "end": self.end_s,
            "transcript": self.transcript,
            "language": self.language,
            "speaker": self.speaker,
            "words": None if self.words is None else [list(w) for w in self.words],
            "labels": self.labels or None,
            "tokens": self.tokens,
        }
        return {k: v for k, v in found.items() if v is not None}


Part = Text | Audio


@dataclass
class Message:
    """One turn.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        parts: Text and audio, in order.
        loss: Weight of this turn in training: a number, ``{"text", "audio"}``, or None for the default
            (assistant turns only).
        more: Other keys of the message that chat templates read (``tool_calls``, ``name``, ``time``, ...).
    """

    role: str
    parts: list[Part]
    loss: Loss = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The typed words, joined."""
        return "".join(p.text for p in self.parts if isinstance(p, Text))

    @property
    def audios(self) -> list[Audio]:
        return [p for p in self.parts if isinstance(p, Audio)]

    @property
    def words(self) -> str:
        """Typed words, and transcripts in the place of audio: what a text-only model reads."""
        return "".join(p.text if isinstance(p, Text) else p.transcript or "" for p in self.parts)

    def row(self) -> dict[str, Any]:
        content: Any = self.text if not self.audios else [p.row() for p in self.parts]
        loss = {} if self.loss is None else {"loss": self.loss}
        return {"role": self.role, "content": content, **loss, **self.more}


@dataclass
class Conversation:
    """One row of data.

    Attributes:
        id: Unique in its set.
        messages: In order.
        audios: Recordings that audio parts name by index; each as ``Audio.audio``.
        tools: For templates that describe tools.
        task: "chat", "asr", "tts", "describe_tts", "translate", "continue", "trajectory", "interleave", ...
        source: Where it comes from.
        license: SPDX name, lower case.
        weight: How often it is drawn, relative to others.
        meta: Anything else.
    """

    id: str
    messages: list[Message]
    audios: list[Any] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    task: str = "chat"
    source: str | None = None
    license: str | None = None
    weight: float = 1.0
    meta: dict[str, Any] = field(default_factory=dict)

    def audio_parts(self) -> Iterator[Audio]:
        """All audio parts in reading order."""
        for message in self.messages:
            yield from message.audios

    def row(self) -> dict[str, Any]:
        """The row as JSON (bytes of in-memory recordings excepted), with defaults left out."""
        found = {
            "id": self.id,
            "messages": [m.row() for m in self.messages],
            "audios": self.audios or None,
            "tools": self.tools or None,
            "task": self.task,
            "source": self.source,
            "license": self.license,
            "weight": None if self.weight == 1.0 else self.weight,
            "meta": self.meta or None,
        }
        return {k: v for k, v in found.items() if v is not None}

    def content_hash(self) -> str:
        """Hash of everything in the row, bytes of recordings included; the same wherever it is stored."""
        return hash_json(self.row())


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value in one normal form; bytes count by their own hash."""

    def plain(item: Any) -> Any:
        if isinstance(item, bytes | bytearray | memoryview):
            return {"sha256": hashlib.sha256(item).hexdigest()}
        raise TypeError(f"{type(item).__name__} is not JSON")

    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


_ROW_KEYS = ("id", "messages", "audios", "tools", "task", "source", "license", "weight", "meta")
_AUDIO_KEYS = (
    "type",
    "audio",
    "start",
    "end",
    "transcript",
    "language",
    "speaker",
    "words",
    "labels",
    "tokens",
)


def read_conversation(row: Mapping[str, Any], number: int | None = None) -> Conversation:
    """Read a row.

    Args:
        row: JSON object. OpenAI's ``input_audio`` and ``audio_url`` parts are understood too; keys whose value is
            None count as absent.
        number: Its place in the file, for messages and for an ``id`` where it has none.

    Raises:
        DataError: All faults of the row at once.
    """
    where = f"row {number}" if number is not None else "the row"
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is {type(row).__name__}; wanted an object with messages.")
    row = {k: v for k, v in row.items() if v is not None}
    where = f"row {row['id']!r}" if "id" in row else where
    faults = [_unknown(key, _ROW_KEYS, "") for key in row if key not in _ROW_KEYS]
    messages = row.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        faults.append("messages is missing or empty")
        messages = []
    made = [_read_message(message, i, faults) for i, message in enumerate(messages)]
    audios = list(row.get("audios", ()))
    for part in (p for m in made for p in m.audios):
        if isinstance(part.audio, int) and not 0 <= part.audio < len(audios):
            faults.append(f"an audio part names recording {part.audio} of {len(audios)} in audios")
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        faults.append(f"weight is {weight!r}, wanted a number of 0 or more")
    if faults:
        raise DataError(f"{where}: {'; '.join(faults)}.")
    return Conversation(
        str(row.get("id", "" if number is None else number)),
        made,
        audios,
        list(row.get("tools", ())),
        row.get("task", "chat"),
        row.get("source"),
        row.get("license"),
        float(weight),
        dict(row.get("meta", {})),
    )


def _read_message(message: Any, number: int, faults: list[str]) -> Message:
    where = f"message {number}"
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        faults.append(f"{where} is {str(message)[:60]!r}, wanted {{'role', 'content'}}")
        return Message("user", [])
    message = {k: v for k, v in message.items() if v is not None}
    if message["role"] not in ROLES:
        faults.append(f"the role of {where} is {message['role']!r}, wanted one of {', '.join(ROLES)}")
    content = message.get("content", "")
    parts: list[Part] = []
    if isinstance(content, str):
        parts = [Text(content)] if content else []
    elif isinstance(content, Sequence):
        parts = [
            p for i, part in enumerate(content) if (p := _read_part(part, f"part {i} of {where}", faults))
        ]
    else:
        faults.append(f"the content of {where} is {type(content).__name__}, wanted text or a list of parts")
    loss = message.get("loss")
    if isinstance(loss, bool):
        loss = float(loss)
    more = {k: v for k, v in message.items() if k not in ("role", "content", "loss")}
    return Message(message["role"], parts, loss, more)


def _read_part(part: Any, where: str, faults: list[str]) -> Part | None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping):
        part = {k: v for k, v in part.items() if v is not None}
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"])
    if kind == "input_audio" and isinstance(part.get("input_audio"), Mapping):
        given = part["input_audio"]
        form = given.get("format", "wav")
        return Audio(f"data:audio/{form};base64,{given.get('data', '')}")
    if kind == "audio_url":
        url = part.get("audio_url")
        return Audio(url.get("url") if isinstance(url, Mapping) else url)
    if kind != "audio":
        faults.append(f"{where} is {str(part)[:60]!r}, wanted type 'text' with text, or 'audio'")
        return None
    faults += [_unknown(key, _AUDIO_KEYS, f"{where}: ") for key in part if key not in _AUDIO_KEYS]
    source = part.get("audio")
    if source is None and part.get("tokens") is None:
        faults.append(f"{where} has neither audio nor tokens")
    start, end = part.get("start", 0.0), part.get("end")
    for name, value in (("start", start), ("end", end)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            faults.append(f"{name} of {where} is {value!r}, wanted seconds")
            return None
    if end is not None and end <= start:
        faults.append(f"{where} ends at {end} s, before or at its start {start} s")
    words = part.get("words")
    if words is not None:
        try:
            words = [(str(w), float(a), float(b)) for w, a, b in words]
        except (TypeError, ValueError):
            faults.append(f"words of {where} are not [word, start, end]")
            words = None
    return Audio(
        source, float(start), None if end is None else float(end), part.get("transcript"), part.get("language"),
        part.get("speaker"), words, dict(part.get("labels", {})), part.get("tokens"),
    )  # fmt: skip


def _unknown(key: str, known: Sequence[str], where: str) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "put what has no key of its own under meta or labels"
    return f"{where}{key} is unknown, {hint}"
