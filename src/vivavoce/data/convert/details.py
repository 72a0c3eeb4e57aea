"""The details of a conversation that a form may or may not have room for, by name.

A format lists those it keeps; from that come the counts of what was dropped, the table in the docs, and the tests
that compare a conversation with what is read back.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from vivavoce.data.conversation import Audio, Conversation, Loss, Message, Part, Text

DETAILS = {
    "id": "the row's id; without it, the row's number",
    "roles": "who speaks in which turn",
    "typed text": "text that is typed and not spoken",
    "message borders": "which turns of one speaker were one message",
    "part order": "whether typed words come before or after a recording",
    "user transcripts": "what is said in recordings of the user",
    "reply transcripts": "what is said in recordings of the assistant",
    "language": "of recordings",
    "speaker": "of recordings",
    "words": "times of words",
    "labels": "emotion and other knowledge about recordings",
    "spans": "start and end inside a longer recording; without them, the part is cut out",
    "tokens": "codes of recordings",
    "codec hash": "which weights made the codes; an option tells it when reading",
    "code lengths": "the true length of codes that end inside a frame",
    "recordings": "sound, where a row has both sound and codes",
    "loss": "which turns are learned",
    "loss numbers": "weights of turns other than 0 and 1",
    "loss by kind": "weights for text and sound apart",
    "tool calls": "of assistant messages",
    "times": "when turns begin and end on a common time line",
    "message keys": "names and other keys of messages",
    "tools": "descriptions of tools",
    "task": "of the row",
    "source": "where the row is from",
    "license": "of the row",
    "weight": "how often the row is drawn",
    "meta": "what else is known about the row",
}

_KEY_DETAILS = {"tool_calls": "tool calls", "time": "times"}

CHAT = frozenset({"roles", "typed text", "part order"})
ROW = frozenset({"id", "task", "source", "license", "weight"})
ALL = frozenset(DETAILS)


@dataclass(frozen=True)
class Room:
    """What of a conversation comes back from a form.

    Attributes:
        name: Of the form; what it keeps under this name in ``meta`` comes back.
        holds: Details.
        task: What the row's task becomes.
        meta_keys: Keys of ``meta`` that have a place.
        audio_first: Whether the user's recordings stand before typed words, where the form has no order.
    """

    name: str
    holds: frozenset[str]
    task: str
    meta_keys: frozenset[str] = frozenset()
    audio_first: bool = False


def details_of(row: Conversation, room: Room) -> set[str]:
    """The names of the details that a conversation has, seen from a form; a number is no id."""
    found = set() if row.id.isdecimal() or not row.id else {"id"}
    if len(row.messages) > 1 or any(m.role != "user" for m in row.messages):
        found.add("roles")
    if row.task != room.task:
        found.add("task")
    if set(row.meta) - {room.name} - room.meta_keys:
        found.add("meta")
    values = {"source": row.source, "license": row.license, "tools": row.tools}
    found |= {name for name, value in values.items() if value}
    found |= {"weight"} if row.weight != 1.0 else set()
    for message in row.messages:
        found |= _of_message(message, room.audio_first)
    return found


def _in_order(message: Message, audio_first: bool) -> list[Part]:
    """Recordings on one side of the typed words: of the user, where the form has them; of replies, after."""
    first = audio_first and message.role != "assistant"
    return sorted(message.parts, key=lambda part: isinstance(part, Text) is first)


def _of_message(message: Message, audio_first: bool) -> set[str]:
    found = set()
    if isinstance(message.loss, Mapping):
        found.add("loss by kind")
    elif message.loss is not None:
        found.add("loss" if message.loss in (0, 1) else "loss numbers")
    found |= {_KEY_DETAILS.get(key, "message keys") for key in message.more}
    if any(isinstance(part, Text) and part.text for part in message.parts):
        found.add("typed text")
    if message.parts != _in_order(message, audio_first):
        found.add("part order")
    for part in message.audios:
        if part.transcript is not None:
            found.add("reply transcripts" if message.role == "assistant" else "user transcripts")
        if part.start_s or part.end_s is not None:
            found.add("spans")
        for name in ("language", "speaker", "words", "labels", "tokens"):
            if getattr(part, name):
                found.add(name)
    return found


def kept(row: Conversation, room: Room) -> Conversation:
    """A copy without the details that a form has no room for; what is typed, and by whom, stays."""
    row, holds = copy.deepcopy(row), room.holds
    row.meta = {k: v for k, v in row.meta.items() if "meta" in holds or k == room.name or k in room.meta_keys}
    row.tools = row.tools if "tools" in holds else []
    row.weight = row.weight if "weight" in holds else 1.0
    row.source = row.source if "source" in holds else None
    row.license = row.license if "license" in holds else None
    row.task = room.task
    for message in row.messages:
        message.loss = _loss(message.loss, holds)
        message.more = {k: v for k, v in message.more.items() if _KEY_DETAILS.get(k, "message keys") in holds}
        if "part order" not in holds:
            message.parts = _in_order(message, room.audio_first)
        for part in message.audios:
            _strip(part, message.role == "assistant", holds)
    return row


def _loss(loss: Loss, holds: frozenset[str]) -> Loss:
    """A turn's weight as far as there is room: one number for two kinds is that of the text."""
    if isinstance(loss, Mapping):
        if "loss by kind" in holds:
            return loss
        loss = loss.get("text") if "loss numbers" in holds else None
    if loss is None:
        return None
    return loss if ("loss" if loss in (0, 1) else "loss numbers") in holds else None


def _strip(part: Audio, is_reply: bool, holds: frozenset[str]) -> None:
    if ("reply transcripts" if is_reply else "user transcripts") not in holds:
        part.transcript = None
    if "spans" not in holds:
        part.start_s, part.end_s = 0.0, None
    for name in ("language", "speaker", "words", "tokens"):
        if name not in holds:
            setattr(part, name, None)
    part.labels = part.labels if "labels" in holds else {}
