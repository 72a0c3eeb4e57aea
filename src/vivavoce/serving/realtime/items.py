"""The items of a conversation, as clients see them and as the model reads them."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from vivavoce.inference.played import GivenOut
from vivavoce.serving.realtime.formats import encoded
from vivavoce.serving.realtime.outbox import Fault

Key = tuple[str, int]
History = list[tuple[Key, dict[str, Any]]]


@dataclass
class Content:
    """A part of an item.

    Attributes:
        kind: ``input_text``, ``input_audio``, ``output_text`` or ``output_audio``.
        text: What it says; of audio the transcript, None if nobody knows it.
        part: Of ``input_audio``: the audio part of a message, float32 [S] and its rate; the transcript is there if
            the model trusts it.
        format: Of ``input_audio``: how it came.
    """

    kind: Literal["input_text", "input_audio", "output_text", "output_audio"]
    text: str | None = None
    part: dict[str, Any] | None = None
    format: str = "audio/pcm"

    def fields(self, audio: bool = False) -> dict[str, Any]:
        if not self.kind.endswith("audio"):
            return {"type": self.kind, "text": self.text or ""}
        fields: dict[str, Any] = {"type": self.kind, "transcript": self.text}
        if audio and self.part is not None:
            fields["audio"] = base64.b64encode(encoded(self.part["audio"], self.format)).decode()
        return fields


@dataclass
class Item:
    """One message.

    Attributes:
        id: Its name.
        role: Whose it is.
        content: Its parts.
        status: How far it is.
        revision: Counts changes of what the model reads.
        given: Of an answer: what was given out, to tell what of it was played.
    """

    id: str
    role: Literal["system", "user", "assistant"]
    content: list[Content] = field(default_factory=list)
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    revision: int = 0
    given: GivenOut | None = None

    @property
    def key(self) -> Key:
        return self.id, self.revision

    def fields(self, audio: bool = False) -> dict[str, Any]:
        """The item as JSON; recordings only if asked for."""
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "status": self.status,
            "role": self.role,
            "content": [content.fields(audio) for content in self.content],
        }

    def message(self) -> dict[str, Any]:
        """The item as a message; recordings are the same objects each time, so that they are read once."""
        if any(content.part is not None for content in self.content):
            parts = [content.part or {"type": "text", "text": content.text or ""} for content in self.content]
            return {"role": self.role, "content": parts}
        return {"role": self.role, "content": "".join(content.text or "" for content in self.content)}

    @property
    def num_samples(self) -> int:
        """Of recordings."""
        return sum(len(c.part["audio"]) for c in self.content if c.part is not None)

    def truncate(self, index: int, audio_end_ms: int) -> None:
        """Forget what was not played.

        Raises:
            Fault: Not a spoken answer, or more than there is.
        """
        given = self.given
        if self.role != "assistant" or given is None or not 0 <= index < len(self.content):
            raise Fault(
                f"item {self.id} has no spoken answer at content_index {index}.", "invalid_value", "item_id"
            )
        if self.content[index].kind != "output_audio":
            raise Fault(f"item {self.id} is not spoken; only audio can be cut.", "invalid_value", "item_id")
        if audio_end_ms > given.num_ms:
            raise Fault(
                f"audio_end_ms is {audio_end_ms}, but the audio has only {given.num_ms} ms.",
                "invalid_value",
                "audio_end_ms",
            )
        whole = audio_end_ms == given.num_ms  # which is rounded down
        self.content[index].text = given.played(None if whole else audio_end_ms / 1000)
        self.revision += 1


class Items:
    """A conversation in order.

    Args:
        most: Items it may hold.
        most_s: Seconds of recordings it may hold.
    """

    def __init__(self, most: int, most_s: float) -> None:
        self._most, self._most_s = most, most_s
        self._items: list[Item] = []
        self._left_out: set[str] = set()

    def __len__(self) -> int:
        return len(self._items)

    def find(self, name: str, param: str = "item_id") -> Item:
        """An item by its id.

        Raises:
            Fault: There is none.
        """
        for item in self._items:
            if item.id == name:
                return item
        raise Fault(f"no item {name!r} in this conversation.", "item_not_found", param)

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Put an item in; returns the id of the one before it.

        Args:
            item: New.
            after: Id of the item before it, "root" for the beginning, None for the end.

        Raises:
            Fault: The conversation is full, the id is taken, or the item before it is not there.
        """
        self.check_room()
        seconds = sum(map(_seconds, self._items)) + _seconds(item)
        if seconds > self._most_s:
            raise Fault(
                f"the conversation has more than {self._most_s:g} s of recordings; delete some items.",
                "too_much_audio",
            )
        if any(known.id == item.id for known in self._items):
            raise Fault(f"there is an item {item.id!r} already.", "item_id_taken", "item.id")
        place = len(self._items)
        if after == "root":
            place = 0
        elif after is not None:
            place = self._items.index(self.find(after, "previous_item_id")) + 1
        self._items.insert(place, item)
        return self._items[place - 1].id if place else None

    def check_room(self) -> None:
        """Refuse what would be an item too many.

        Raises:
            Fault: The conversation is full.
        """
        if len(self._items) >= self._most:
            raise Fault(
                f"the conversation has {self._most} items, the most allowed; delete some.", "too_many_items"
            )

    def leave_out(self, share: float) -> None:
        """Leave the oldest items out of the history for good, up to a question; clients still see them."""
        kept = [item for item in self._items if item.id not in self._left_out]
        first = math.ceil(len(kept) * share)
        while first < len(kept) and kept[first].role != "user":
            first += 1
        self._left_out |= {item.id for item in kept[:first] if item.role != "system"}

    def remove(self, name: str) -> Item:
        """Take an item out.

        Raises:
            Fault: There is none.
        """
        item = self.find(name)
        self._items.remove(item)
        return item

    def before(self, item: Item) -> str | None:
        """Id of the item before one, None for the first."""
        place = self._items.index(item)
        return self._items[place - 1].id if place else None

    def question(self) -> Item | None:
        """The last item, if it is the user's."""
        return self._items[-1] if self._items and self._items[-1].role == "user" else None

    def history(self, end: Item | None = None) -> History:
        """All complete items as messages, up to ``end``."""
        found: History = []
        for item in self._items:
            if item is end:
                break
            if item.status != "in_progress" and item.id not in self._left_out:
                found.append((item.key, item.message()))
        return found


def _seconds(item: Item) -> float:
    return sum(len(c.part["audio"]) / c.part["sampling_rate"] for c in item.content if c.part is not None)
