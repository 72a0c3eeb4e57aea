"""What the chat forms with ``messages`` or ``conversations`` have in common: roles, tools, weights, text with marks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vivavoce.data.conversation import Audio, Conversation, Message, read_conversation
from vivavoce.data.convert.contract import RowError, Unfit
from vivavoce.data.convert.json_rows import Item
from vivavoce.data.convert.outputs import Clips
from vivavoce.data.convert.texts import with_marks

REJECTED = "rejected_response"


def conversation(
    item: Item, messages: list[dict[str, Any]], form: str, columns: Mapping[str, Any], **known: Any
) -> Conversation:
    """Make a conversation of JSON messages.

    Args:
        item: The raw row; its ``id`` is kept, its number stands in for one.
        messages: In our form.
        form: Name under which ``columns`` are kept in ``meta``.
        columns: Of the raw row, without a place of their own.
        known: Other keys of the row.
    """
    meta = dict(known.pop("meta", None) or {})
    if columns:
        meta[form] = dict(columns)
    row = {"messages": messages, "meta": meta or None, **known}
    given = item.value.get("id")
    if given is not None:
        row["id"] = str(given)
    return read_conversation(row, item.number)


def id_entry(row: Conversation, number: int) -> dict[str, Any]:
    """The id of a row for the target, left out where it is only the row's number."""
    return {} if row.id in ("", str(number)) else {"id": row.id}


def marked_text(
    message: Message, row: Conversation, mark: str, clips: Clips, others: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The text of a message with placeholders, and the paths of its recordings.

    Raises:
        Unfit: The text has the placeholder's letters in it, or a part has only tokens.
        AudioError: A recording cannot be read.
    """
    texts, paths = [], []
    for piece in with_marks(message, mark, others):
        if isinstance(piece, Audio):
            paths.append(clips.path(piece, row))
        else:
            texts.append(piece)
    return "".join(texts), paths


def read_tools(value: Any) -> list[Any] | None:
    """Descriptions of tools, which some forms write as JSON text.

    Raises:
        RowError: They are no list.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError("malformed", f"tools is no JSON: {error}") from error
    if value is not None and not isinstance(value, list):
        raise RowError("malformed", f"tools is {str(value)[:60]!r}, wanted a list.")
    return value or None


def read_call(text: Any, where: str) -> dict[str, Any]:
    """A tool call written as JSON text, in OpenAI's form.

    Raises:
        RowError: It is none.
    """
    try:
        call = json.loads(text) if isinstance(text, str) else text
        return {"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
    except (ValueError, TypeError, KeyError) as error:
        raise RowError(
            "malformed", f"{where} is {str(text)[:60]!r}, wanted JSON with name and arguments."
        ) from error


def call_texts(message: Message) -> Iterator[str]:
    """The tool calls of a message as JSON texts.

    Raises:
        Unfit: One of them is no function.
    """
    for call in message.more.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise Unfit("a tool call that is no function")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError as error:
                raise Unfit("a tool call whose arguments are no JSON") from error
        yield json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)


def splits_calls(row: Conversation) -> bool:
    """Whether a message has several tool calls, or one beside text, so that forms with a turn per call divide it."""
    calls = [(message, message.more.get("tool_calls") or ()) for message in row.messages]
    return any(len(found) > 1 or (found and message.parts) for message, found in calls)


def number_of(loss: Any) -> float | None:
    """The weight of a turn as one number: that of its text where there are two."""
    if isinstance(loss, Mapping):
        loss = loss.get("text")
    return None if loss is None else float(loss)
