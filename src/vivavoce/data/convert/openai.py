"""OpenAI's chat form: ``input_audio`` and ``audio_url`` parts, replies in ``message.audio``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert.chat_messages import conversation, id_entry
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.details import CHAT
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, suffix_of
from vivavoce.data.convert.sounds import encode_wav
from vivavoce.data.convert.texts import object_of, rest

_AUDIO_PARTS = ("input_audio", "audio_url")
_REPLY_KEYS = ("id", "expires_at")


class OpenAIFormat(Format):
    """``{"messages": [...]}`` with recordings inside as base64, a line per conversation.

    A reply's ``audio`` is ``{"id", "data", "transcript", "expires_at"}``; the keys that only the service uses are kept
    in ``Message.more["audio"]``. A message's ``weight`` of fine-tuning, 0 or 1, is its loss.
    """

    name: ClassVar[str] = "openai"
    description: ClassVar[str] = (
        "OpenAI and vLLM chat: input_audio or audio_url parts, replies in message.audio"
    )
    holds: ClassVar[frozenset[str]] = CHAT | {
        "id",
        "loss",
        "message keys",
        "times",
        "tool calls",
        "tools",
        "reply transcripts",
    }
    audio: ClassVar[str] = "embed"

    def detect(self, path: Path) -> float:
        seen = look(path)
        messages = seen.messages()
        if seen.kind != "json" or not messages:
            return 0.0
        contents = [m.get("content") for m in messages]
        kinds = {
            str(p.get("type")) for c in contents if isinstance(c, list) for p in c if isinstance(p, Mapping)
        }
        if kinds & set(_AUDIO_PARTS) or any(isinstance(m.get("audio"), Mapping) for m in messages):
            return 0.95
        return 0.0 if kinds - {"text"} or seen.any_has("audios", "audio") else 0.3

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return json_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        name = row.get("id", item.number)
        messages = [
            _read(object_of(m), i, f"audio_{name}_{i}") for i, m in enumerate(row.get("messages") or ())
        ]
        columns = rest(row, "id", "messages", "tools")
        yield conversation(item, messages, self.name, columns, tools=row.get("tools"))

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        entry: dict[str, Any] = id_entry(row, number)
        entry["messages"] = [_write(m, i, row, clips) for i, m in enumerate(row.messages)]
        entry |= {"tools": row.tools} if row.tools else {}
        yield entry | dict(row.meta.get(self.name, {}))


def _read(message: Mapping[str, Any], number: int, made_up: str) -> dict[str, Any]:
    made = {k: v for k, v in message.items() if k not in ("audio", "weight", "content") and v is not None}
    content = message.get("content")
    made["content"] = [_read_part(p, number) for p in content] if isinstance(content, list) else content or ""
    made |= {"loss": message["weight"]} if message.get("weight") is not None else {}
    reply = message.get("audio")
    if reply is None:
        return made
    if not isinstance(reply, Mapping) or not isinstance(reply.get("data"), str):
        raise RowError(
            "no sound", f"the audio of message {number} has no data, only {', '.join(map(str, reply))}."
        )
    part = {
        "type": "audio",
        "audio": data_uri(reply["data"], "", number),
        "transcript": reply.get("transcript"),
    }
    text = made["content"]
    if isinstance(text, str):
        text = [{"type": "text", "text": text}] if text else []
    made["content"] = [*text, part]
    more = {k: reply[k] for k in _REPLY_KEYS if reply.get(k) not in (None, made_up)}
    return made | ({"audio": more} if more else {})


def _read_part(part: Any, number: int) -> Any:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "input_audio":
        given = object_of(part.get("input_audio"))
        return {
            "type": "audio",
            "audio": data_uri(given.get("data"), str(given.get("format") or ""), number),
        }
    if kind == "audio_url":
        url = part.get("audio_url")
        url = url.get("url") if isinstance(url, Mapping) else url
        if isinstance(url, str) and url.startswith("data:"):
            url = data_uri(url.partition(",")[2], url[5:].partition(";")[0], number)
        return {"type": "audio", "audio": url}
    return part


def data_uri(data: Any, form: str, number: int) -> str:
    """Base64 of a recording as a data URI.

    Raises:
        RowError: It is no base64.
    """
    try:
        sound = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise RowError("malformed", f"the audio data of message {number} is no base64: {error}") from error
    if not sound:
        raise RowError("no sound", f"the audio data of message {number} is empty.")
    form = form or suffix_of(sound).lstrip(".")
    return f"data:{form if '/' in form else f'audio/{form}'};base64,{data}"


def _write(message: Message, number: int, row: Conversation, clips: Clips) -> dict[str, Any]:
    more = {k: v for k, v in message.more.items() if k != "audio"}
    made: dict[str, Any] = {"role": message.role}
    if message.role == "assistant" and message.audios:
        if len(message.audios) > 1:
            raise Unfit("several recordings in one reply")
        if not isinstance(message.parts[-1], Audio):
            raise Unfit("a reply that is spoken first and typed then")
        code, _ = _base64(message.audios[0], row, clips)
        known = message.more.get("audio") or {"id": f"audio_{row.id}_{number}"}
        made |= {"content": message.text or None, "audio": known | {"data": code}}
        if message.audios[0].transcript is not None:
            made["audio"]["transcript"] = message.audios[0].transcript
    elif message.audios:
        made["content"] = [_write_part(p, row, clips) for p in message.parts]
    else:
        made["content"] = message.text or (None if "tool_calls" in more else "")
    if message.loss in (0, 1):
        made["weight"] = int(message.loss)  # type: ignore[arg-type]
    return made | more


def _write_part(part: Text | Audio, row: Conversation, clips: Clips) -> dict[str, Any]:
    if isinstance(part, Text):
        return part.row()
    code, form = _base64(part, row, clips)
    return {"type": "input_audio", "input_audio": {"data": code, "format": form}}


def _base64(part: Audio, row: Conversation, clips: Clips) -> tuple[str, str]:
    """A recording as WAV or MP3, which is what every service takes."""
    data, suffix = clips.data(part, row)
    if suffix not in (".wav", ".mp3"):
        data, suffix = encode_wav(*clips.waveform(part, row)), ".wav"
    return base64.b64encode(data).decode("ascii"), suffix[1:]
