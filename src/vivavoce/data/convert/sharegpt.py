"""The ShareGPT family: ``conversations`` of ``{"from", "value"}``, with recordings in four ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert.chat_messages import (
    REJECTED,
    call_texts,
    conversation,
    id_entry,
    marked_text,
    read_call,
    read_tools,
    splits_calls,
)
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.details import CHAT
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips
from vivavoce.data.convert.sounds import length_of
from vivavoce.data.convert.texts import Slots, object_of, rest, seconds_of, text_of, typed

# variant -> the placeholder in its texts, and the key of its recordings
_MARKS = {"audios": "<audio>", "speech": "<speech>", "sound": "<sound>"}
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "model": "assistant", "bot": "assistant", "system": "system", "observation": "tool", "tool": "tool",
}  # fmt: skip
_NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
_CALL = "function_call"
_IN_TURNS = CHAT | {"id", "user transcripts", "reply transcripts", "spans"}


class ShareGPTFormat(Format):
    """``{"conversations": [{"from", "value"}]}`` with recordings as the variant says.

    Variants: "audios" (LLaMA-Factory: ``<audio>`` and a list ``audios``; ``chosen`` and ``rejected``), "speech"
    (LLaVA's shape: ``<speech>`` and one ``speech``), "sound" (NeMo's ShareGPT: ``<sound>`` and one ``sound``),
    "nemo" (NeMo's conversations: every turn is text or audio, ``{"from", "type", "value", "duration", "offset",
    "text"}``).
    """

    name: ClassVar[str] = "sharegpt"
    description: ClassVar[str] = (
        "conversations of from and value: LLaMA-Factory, LLaVA's speech, NeMo's turns"
    )
    holds: ClassVar[frozenset[str]] = CHAT | {"id", "tool calls", "tools"}
    meta_keys: ClassVar[frozenset[str]] = frozenset({REJECTED})
    variants: ClassVar[tuple[str, ...]] = ("audios", "speech", "sound", "nemo")

    def detect(self, path: Path) -> float:
        seen = look(path)
        turns = seen.messages("conversations")
        if not turns or not all("from" in turn and "value" in turn for turn in turns):
            return 0.0
        return 0.95

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return json_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        turns = [object_of(turn) for turn in row.get("conversations") or ()]
        if any("type" in turn for turn in turns):
            columns = rest(row, "id", "conversations")
            yield conversation(item, _read_turns(turns), self.name, columns)
            return
        key = next((k for k in _MARKS if row.get(k) is not None), "audios")
        found = row.get(key) or []
        slots = Slots(tuple(_MARKS.values()), found if isinstance(found, list) else [found])
        messages = [_read(turn, i, slots) for i, turn in enumerate(turns)]
        known = ["id", "conversations", key, "system", "tools"]
        if row.get("system"):
            messages.insert(0, {"role": "system", "content": str(row["system"])})
        meta = None
        if isinstance(row.get("chosen"), Mapping) and isinstance(row.get("rejected"), Mapping):
            messages.append(_read(row["chosen"], len(turns), slots))
            meta = {REJECTED: text_of(row["rejected"], "value", "content")}
            known += ["chosen", "rejected"]
        slots.check()
        columns = rest(row, *known)
        yield conversation(item, messages, self.name, columns, meta=meta, tools=read_tools(row.get("tools")))

    def lost(self, row: Conversation, options: Options) -> set[str]:
        joins = options.variant == "nemo" and any(
            a.role == b.role and (a.audios or b.audios) for a, b in pairwise(row.messages)
        )
        return super().lost(row, options) | ({"message borders"} if joins or splits_calls(row) else set())

    def held(self, options: Options) -> frozenset[str]:
        return _IN_TURNS if options.variant == "nemo" else self.holds

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        variant = options.variant or self.variants[0]
        entry = id_entry(row, number)
        columns = dict(row.meta.get(self.name, {}))
        if variant == "nemo":
            if REJECTED in row.meta or any(
                m.role == "tool" or m.more.get("tool_calls") for m in row.messages
            ):
                raise Unfit("a tool call or a rejected answer, which NeMo's turns do not have")
            turns = [turn for m in row.messages for turn in _write_turns(m, row, clips)]
            yield {"id": row.id, "conversations": turns} | columns
            return
        mark, paths, turns = _MARKS[variant], [], []
        for message in row.messages:
            text, found = marked_text(message, row, mark, clips, tuple(_MARKS.values()))
            paths += found
            turns += _write(message, text)
        if variant != "audios" and len(paths) > 1:
            raise Unfit(f"several recordings in a row of the variant {variant}")
        entry["conversations"] = turns
        if paths:
            entry[variant] = paths if variant == "audios" else paths[0]
        if row.tools:
            entry["tools"] = json.dumps(row.tools, ensure_ascii=False)
        if REJECTED in row.meta:
            if turns[-1]["from"] != "gpt":
                raise Unfit("a rejected answer without an accepted one")
            entry["chosen"] = turns.pop()
            entry["rejected"] = {"from": "gpt", "value": row.meta[REJECTED]}
        yield entry | columns


def _read(turn: Mapping[str, Any], number: int, slots: Slots) -> dict[str, Any]:
    name, value = (
        str(turn.get("from") or turn.get("role") or "").lower(),
        turn.get("value", turn.get("content")),
    )
    if name == _CALL:
        calls = [read_call(value, f"the call in turn {number}")]
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {"role": _role(name, number), "content": slots.parts(text_of({"value": value}, "value"))}


def _role(name: str, number: int) -> str:
    if name not in _ROLES:
        known = ", ".join(sorted({*_ROLES, _CALL}))
        raise RowError("malformed", f"turn {number} is from {name!r}, wanted one of {known}.")
    return _ROLES[name]


def _read_turns(turns: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """NeMo's turns: neighbours of the same role are one message, but two texts stay two."""
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        role = _role(str(turn.get("from", "")).lower(), number)
        part: dict[str, Any]
        if turn.get("type") == "audio":
            part = {"type": "audio", "audio": text_of(turn, "value"), "transcript": turn.get("text")}
            offset, duration = seconds_of(turn, "offset"), seconds_of(turn, "duration")
            if offset is not None:
                end = None if duration is None else round(offset + duration, 6)
                part |= {"start": offset, "end": end}
        elif turn.get("type", "text") == "text":
            part = {"type": "text", "text": text_of(turn, "value")}
        else:
            raise RowError("malformed", f"turn {number} has type {turn['type']!r}, wanted text or audio.")
        last = messages[-1] if messages else None
        if last and last["role"] == role and "audio" in (last["content"][-1]["type"], part["type"]):
            last["content"].append(part)
        else:
            messages.append({"role": role, "content": [part]})
    return messages


def _write(message: Message, text: str) -> list[dict[str, Any]]:
    calls = [{"from": _CALL, "value": call} for call in call_texts(message)]
    turn = [{"from": _NAMES[message.role], "value": text}] if text or not calls else []
    return turn + calls


def _write_turns(message: Message, row: Conversation, clips: Clips) -> Iterator[dict[str, Any]]:
    name = message.role.title()
    for is_text, parts in groupby(message.parts or [Text("")], lambda part: isinstance(part, Text)):
        if is_text:
            yield {"value": typed(list(parts)), "from": name, "type": "text"}
        else:
            yield from (_write_audio(part, name, row, clips) for part in parts if isinstance(part, Audio))


def _write_audio(part: Audio, name: str, row: Conversation, clips: Clips) -> dict[str, Any]:
    if part.audio is None:
        raise Unfit("an audio part has only tokens")
    seconds = length_of(part, row, clips.root).seconds
    path = clips.path(part, row, cut=False)
    made = {"value": path, "from": name, "type": "audio", "duration": round(seconds, 6)}
    if part.start_s or part.end_s is not None:
        made["offset"] = part.start_s
    return made | ({"text": part.transcript} if part.transcript is not None else {})
