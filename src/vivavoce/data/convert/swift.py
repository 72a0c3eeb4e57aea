"""The form of ms-swift, LLaMA-Factory and SALMONN-2: ``messages`` with ``<audio>`` in their text, and ``audios``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Conversation, Message
from vivavoce.data.convert.chat_messages import (
    REJECTED,
    call_texts,
    conversation,
    id_entry,
    marked_text,
    number_of,
    read_call,
    read_tools,
    splits_calls,
)
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.details import CHAT
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips
from vivavoce.data.convert.texts import Slots, object_of, rest

MARK = "<audio>"
_CALL, _RESPONSE = "tool_call", "tool_response"
_OURS = ("audios", REJECTED, "rejected_messages", "channel", "objects", "videos", "images")
_MESSAGE_KEYS = {"role", "content", "loss", "loss_scale"}


class SwiftFormat(Format):
    """``{"messages": [{"role", "content", "loss", "loss_scale"}], "audios": [path], "tools", "rejected_response"}``."""

    name: ClassVar[str] = "swift"
    description: ClassVar[str] = (
        "ms-swift, LLaMA-Factory, SALMONN-2: messages with <audio> in the text, and audios"
    )
    holds: ClassVar[frozenset[str]] = CHAT | {
        "id",
        "loss",
        "loss numbers",
        "message keys",
        "times",
        "tool calls",
        "tools",
    }
    meta_keys: ClassVar[frozenset[str]] = frozenset({REJECTED})

    def detect(self, path: Path) -> float:
        seen = look(path)
        messages = seen.messages()
        if seen.kind != "json" or not messages:
            return 0.0
        contents = [m.get("content") for m in messages]
        if not all(isinstance(c, str) for c in contents) or seen.any_has("audio"):
            return 0.0
        if seen.any_has(*_OURS) or any(MARK in str(c) for c in contents):
            return 0.95
        return 0.95 if any(m.get("role") in (_CALL, _RESPONSE) for m in messages) else 0.4

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return json_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        if row.get("images") or row.get("videos"):
            raise RowError("other media", "the row has images or videos, which are not read.")
        audios = row.get("audios") or []
        slots = Slots((MARK,), [audios] if isinstance(audios, str | Mapping) else audios)
        messages = [_read(object_of(m), i, slots) for i, m in enumerate(row.get("messages") or ())]
        slots.check()
        if row.get("system"):
            messages.insert(0, {"role": "system", "content": str(row["system"])})
        columns = rest(row, "id", "messages", "audios", "images", "videos", "system", "tools", REJECTED)
        meta = {REJECTED: row[REJECTED]} if row.get(REJECTED) is not None else None
        tools = read_tools(row.get("tools"))
        yield conversation(item, messages, self.name, columns, meta=meta, tools=tools)

    def lost(self, row: Conversation, options: Options) -> set[str]:
        return super().lost(row, options) | ({"message borders"} if splits_calls(row) else set())

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        import json

        entry: dict[str, Any] = id_entry(row, number) | {"messages": []}
        audios: list[str] = []
        for message in row.messages:
            text, paths = marked_text(message, row, MARK, clips)
            entry["messages"] += _write(message, text)
            audios += paths
        entry |= {"audios": audios} if audios else {}
        entry |= {"tools": json.dumps(row.tools, ensure_ascii=False)} if row.tools else {}
        entry |= {REJECTED: row.meta[REJECTED]} if REJECTED in row.meta else {}
        yield entry | dict(row.meta.get(self.name, {}))


def _read(message: Mapping[str, Any], number: int, slots: Slots) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    loss = message.get("loss")
    if message.get("loss_scale") is not None and loss is not False:
        loss = message["loss_scale"]
    more = {k: v for k, v in message.items() if k not in _MESSAGE_KEYS and v is not None}
    made = {"loss": loss} | more
    if role == _CALL:
        call = read_call(content, f"the tool call in message {number}")
        return {"role": "assistant", "content": "", "tool_calls": [call]} | made
    role = "tool" if role == _RESPONSE else role
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise RowError("malformed", f"the content of message {number} is no text; this is another form.")
    return {"role": role, "content": slots.parts(content)} | made


def _write(message: Message, text: str) -> list[dict[str, Any]]:
    loss = number_of(message.loss)
    weight: dict[str, Any] = (
        {} if loss is None else {"loss": bool(loss)} if loss in (0, 1) else {"loss_scale": loss}
    )
    more = {k: v for k, v in message.more.items() if k != "tool_calls"}
    calls = list(call_texts(message))
    if calls and (message.role != "assistant" or more):
        raise Unfit("tool calls beside other keys of a message")
    made: list[dict[str, Any]] = [{"role": _CALL, "content": call} | weight for call in calls]
    if text or not calls:
        role = _RESPONSE if message.role == "tool" else message.role
        made.insert(0, {"role": role, "content": text} | weight | more)
    return made
