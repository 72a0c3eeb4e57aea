"""Messages as OpenAI's clients write them to the messages the model reads, with audio decoded."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from vivavoce.serving.decoding import Decoder, from_base64
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal

ROLES = ("system", "developer", "user", "assistant")
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


async def read_messages(
    messages: Sequence[Mapping[str, Any]],
    caller: str,
    hears: bool,
    decoder: Decoder | None,
    spoken: SpokenAnswers,
    limits: Limits,
) -> tuple[list[dict[str, Any]], float]:
    """Check messages and decode their audio.

    Content parts may be ``text`` and ``input_audio``; nothing in a message is ever taken as a path or address.

    Args:
        messages: From the request.
        caller: Whose spoken answers may be named.
        hears: Whether the model takes audio.
        decoder: For the audio; None if it does not hear.
        spoken: Earlier spoken answers.
        limits: Of text, clips and seconds.

    Returns:
        Messages with ``{"type": "audio", "audio": float32 [S], "sampling_rate"}`` parts, and the seconds of
        audio in them.

    Raises:
        Refusal: 400 with the place of the fault; 413 for too much.
    """
    read: list[dict[str, Any]] = []
    budget = _Budget(limits)
    for i, message in enumerate(messages):
        at = f"messages.{i}"
        role = message.get("role")
        if role not in ROLES:
            raise Refusal(400, f"{at}: role {role!r}; wanted one of {', '.join(ROLES)}.", "invalid_role", at)
        if message.get("tool_calls") or message.get("function_call"):
            raise Refusal(400, f"{at}: tools are not supported here.", "unsupported_value", at)
        content = message.get("content")
        if role == "assistant" and message.get("audio"):
            content = _said(message["audio"], caller, spoken, at)
        if isinstance(content, str):
            budget.text(content, at)
            read.append({"role": "system" if role == "developer" else role, "content": content})
            continue
        if not isinstance(content, list) or not content:
            raise Refusal(400, f"{at}.content: wanted a text or a list of parts.", "invalid_content", at)
        parts = []
        for j, part in enumerate(content):
            parts.append(await _part(part, f"{at}.content.{j}", role, hears, decoder, budget))
        read.append({"role": "system" if role == "developer" else role, "content": _joined(parts)})
    return read, budget.seconds


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


async def _part(
    part: Any, at: str, role: str, hears: bool, decoder: Decoder | None, budget: _Budget
) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        budget.text(part["text"], at)
        return {"type": "text", "text": part["text"]}
    if kind in ("audio_url", "image_url", "file"):
        what = "this server fetches nothing" if kind == "audio_url" else "it is not audio or text"
        hint = "send the audio itself as input_audio (base64)" if kind == "audio_url" else "leave it out"
        raise Refusal(400, f"{at}: {kind} is not accepted, {what}; {hint}.", "unsupported_content", at)
    if kind != "input_audio" or not isinstance(part.get("input_audio"), Mapping):
        wanted = "{'type': 'text', 'text'} or {'type': 'input_audio', 'input_audio': {'data', 'format'}}"
        raise Refusal(400, f"{at}: wanted {wanted}.", "invalid_content", at)
    if not hears or decoder is None:
        raise Refusal(400, f"{at}: this model does not hear; send text.", "unsupported_content", at)
    if role != "user":
        raise Refusal(400, f"{at}: audio belongs to messages of the user.", "invalid_content", at)
    data, form = part["input_audio"].get("data"), part["input_audio"].get("format")
    if form is not None and form not in FORMATS:
        wanted = ", ".join(FORMATS)
        raise Refusal(
            400, f"{at}: unknown format {form!r}; wanted one of {wanted}.", "unsupported_format", at
        )
    if not isinstance(data, str):
        raise Refusal(400, f"{at}: data is missing; wanted base64.", "invalid_base64", at)
    left = budget.clip(at)
    waveform = await decoder.read(await asyncio.to_thread(from_base64, data, at), left, at)
    budget.seconds += len(waveform) / decoder.sample_rate
    return {"type": "audio", "audio": waveform, "sampling_rate": decoder.sample_rate}


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
