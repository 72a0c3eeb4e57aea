"""Messages as OpenAI's clients write them to the messages the model reads, with audio decoded."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from vivavoce.serving.decoding import Decoder, from_base64
from vivavoce.serving.fetching import Fetcher
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.tool_calls import check_calls

ROLES = ("system", "developer", "user", "assistant", "tool")
FORMATS = ("wav", "mp3", "flac", "ogg", "opus")
KEPT_S = 3600
MOST_KEPT = 4096


class SpokenAnswers:
    """Remembers what spoken answers said, for messages that name them by id; each for an hour.

    Only the text is kept; that is what the model reads of its own turns.

    Attributes:
        mark: Begins every id; says which replica remembers it.
    """

    def __init__(self) -> None:
        self.mark = ""
        self._texts: OrderedDict[str, tuple[str, float, str]] = OrderedDict()

    def reserve(self) -> tuple[str, int]:
        """A new id and when it expires, seconds since 1970."""
        return f"audio_{self.mark}{secrets.token_hex(12)}", int(time.time()) + KEPT_S

    def keep(self, name: str, expires_at: float, caller: str, text: str) -> None:
        self._texts[name] = (caller, expires_at, text)
        while len(self._texts) > MOST_KEPT:
            self._texts.popitem(last=False)

    def text(self, name: str, caller: str) -> str | None:
        """What an answer said; None if unknown, expired or another caller's."""
        owner, expires_at, text = self._texts.get(name, ("", 0.0, ""))
        return text if owner == caller and time.time() < expires_at else None


class MessageReader:
    """Checks messages and decodes their audio.

    Content parts may be ``text``, ``input_audio`` and ``audio_url``; nothing in a message is ever taken as a path, and
    only the fetcher opens addresses.

    Args:
        decoder: For audio; None if the model does not hear.
        takes_tools: Whether the model's template knows tools.
        spoken: Earlier spoken answers.
        fetcher: For ``audio_url``.
        limits: Of text, clips and seconds.
    """

    def __init__(
        self,
        decoder: Decoder | None,
        takes_tools: bool,
        spoken: SpokenAnswers,
        fetcher: Fetcher,
        limits: Limits,
    ) -> None:
        self._decoder, self._takes_tools, self._limits = decoder, takes_tools, limits
        self._spoken, self._fetcher = spoken, fetcher

    async def read(self, messages: Sequence[Mapping[str, Any]], caller: str) -> list[dict[str, Any]]:
        """Messages as the model reads them, audio as ``{"type": "audio", "audio": float32 [S], "sampling_rate"}``.

        Args:
            messages: From the request.
            caller: Whose spoken answers may be named.

        Raises:
            Refusal: 400 with the place of the fault; 413 for too much.
        """
        budget = _Budget(self._limits)
        return [
            await self._message(message, f"messages.{i}", caller, budget)
            for i, message in enumerate(messages)
        ]

    async def _message(
        self, message: Mapping[str, Any], at: str, caller: str, budget: _Budget
    ) -> dict[str, Any]:
        role, calls = message.get("role"), message.get("tool_calls")
        if role not in ROLES:
            raise Refusal(400, f"{at}: role {role!r}; wanted one of {', '.join(ROLES)}.", "invalid_role", at)
        if role == "tool" or calls or message.get("function_call"):
            if not self._takes_tools:
                raise Refusal(400, f"{at}: this model takes no tools; leave them out.", "no_tools", at)
            if message.get("function_call"):
                raise Refusal(
                    400, f"{at}: function_call has given way to tool_calls.", "unsupported_value", at
                )
        made: dict[str, Any] = {"role": "system" if role == "developer" else role}
        if calls:
            if role != "assistant":
                raise Refusal(400, f"{at}: tool_calls belong to the assistant.", "invalid_tools", at)
            made["tool_calls"] = check_calls(calls, at)
            budget.text(json.dumps(made["tool_calls"]), at)
        if role == "tool":
            if not isinstance(message.get("tool_call_id"), str):
                raise Refusal(400, f"{at}: tool_call_id is missing.", "invalid_tools", at)
            made["tool_call_id"] = message["tool_call_id"]
        content = message.get("content")
        if role == "assistant" and message.get("audio"):
            content = _said(message["audio"], caller, self._spoken, at)
        if content is None and calls:
            content = ""
        if isinstance(content, str):
            budget.text(content, at)
            return {**made, "content": content}
        if not isinstance(content, list) or not content:
            raise Refusal(400, f"{at}.content: wanted a text or a list of parts.", "invalid_content", at)
        parts = [await self._part(part, f"{at}.content.{j}", role, budget) for j, part in enumerate(content)]
        return {**made, "content": _joined(parts)}

    async def _part(self, part: Any, at: str, role: Any, budget: _Budget) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            budget.text(part["text"], at)
            return {"type": "text", "text": part["text"]}
        if kind in ("image_url", "file"):
            raise Refusal(
                400, f"{at}: {kind} is not accepted, it is not audio or text; leave it out.",
                "unsupported_content", at,
            )  # fmt: skip
        if kind not in ("input_audio", "audio_url") or not isinstance(part.get(kind), Mapping):
            wanted = "{'type': 'text', 'text'} or {'type': 'input_audio', 'input_audio': {'data', 'format'}}"
            raise Refusal(400, f"{at}: wanted {wanted}.", "invalid_content", at)
        if self._decoder is None:
            raise Refusal(400, f"{at}: this model does not hear; send text.", "unsupported_content", at)
        if role != "user":
            raise Refusal(400, f"{at}: audio belongs to messages of the user.", "invalid_content", at)
        left = budget.clip(at)
        waveform = await self._decoder.read(await self._data(part[kind], kind, at), left, at)
        budget.seconds += len(waveform) / self._decoder.sample_rate
        return {"type": "audio", "audio": waveform, "sampling_rate": self._decoder.sample_rate}

    async def _data(self, given: Mapping[str, Any], kind: str, at: str) -> bytes:
        """The file of an audio part."""
        if kind == "audio_url":
            if not isinstance(given.get("url"), str):
                raise Refusal(400, f"{at}: url is missing; wanted an address.", "invalid_url", at)
            return await self._fetcher.get(given["url"], at)
        data, form = given.get("data"), given.get("format")
        if form is not None and form not in FORMATS:
            wanted = ", ".join(FORMATS)
            raise Refusal(
                400, f"{at}: unknown format {form!r}; wanted one of {wanted}.", "unsupported_format", at
            )
        if not isinstance(data, str):
            raise Refusal(400, f"{at}: data is missing; wanted base64.", "invalid_base64", at)
        return await asyncio.to_thread(from_base64, data, at)


class _Budget:
    def __init__(self, limits: Limits) -> None:
        self.limits, self.chars, self.clips, self.seconds = limits, 0, 0, 0.0

    def text(self, text: str, at: str) -> None:
        self.chars += len(text)
        if self.chars > self.limits.max_text_chars:
            raise Refusal(413, f"more than {self.limits.max_text_chars} characters.", "text_too_long", at)

    def clip(self, at: str) -> float:
        self.clips += 1
        if self.clips > self.limits.max_clips:
            raise Refusal(413, f"more than {self.limits.max_clips} clips.", "too_many_clips", at)
        left = self.limits.max_audio_s - self.seconds
        if left <= 0:
            limit = self.limits.max_audio_s
            raise Refusal(413, f"{at} is too much audio: at most {limit:g} s.", "audio_too_long", at)
        return left


def _said(audio: Any, caller: str, spoken: SpokenAnswers, at: str) -> str:
    name = audio.get("id") if isinstance(audio, Mapping) else None
    text = spoken.text(name, caller) if isinstance(name, str) else None
    if text is None:
        raise Refusal(
            400, f"{at}.audio: no spoken answer {name!r} is kept; send its transcript as content.",
            "unknown_audio", at,
        )  # fmt: skip
    return text


def _joined(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A list with nothing but texts is one text."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts
