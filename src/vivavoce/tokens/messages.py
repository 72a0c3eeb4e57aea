"""Messages in the transformers / OpenAI shape: their parts, checked, and the loss each asks for.

A message is ``{"role": ..., "content": ..., "loss": ...}``. The content is a string or a list of parts
``{"type": "text", "text": ...}`` and ``{"type": "audio", "audio": ...}`` (or ``"input_audio"``, OpenAI's
name).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vivavoce.base.errors import ConfigError

Message = Mapping[str, Any]
Part = str | Mapping[str, Any]

LOSS_ON = ("assistant", "last_assistant", "everything", "nothing")

# an audio part has one of these keys; what is in it is for the caller who turns it into ids or positions
_AUDIO_KEYS = ("audio", "input_audio", "audio_url", "url", "path", "array", "bytes", "tokens", "codes")


def message_parts(index: int, message: Message) -> list[Part]:
    """The parts of a message, texts as strings and audio parts as they are.

    Raises:
        ConfigError: no role, no content, an unknown part type, or text where audio belongs.
    """
    if (
        not isinstance(message, Mapping)
        or not isinstance(message.get("role"), str)
        or "content" not in message
    ):
        raise ConfigError(f"message {index} is {_short(message)}; wanted {{'role': ..., 'content': ...}}.")
    content = message["content"]
    if content is None or isinstance(content, str):
        return [content or ""]
    if isinstance(content, Mapping) or not isinstance(content, Sequence):
        raise ConfigError(
            f"the content of message {index} is {_short(content)}; wanted text or a list of parts."
        )
    return [_part(index, number, part) for number, part in enumerate(content)]


def _part(index: int, number: int, part: Any) -> Part:
    where = f"part {number} of message {index}"
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise ConfigError(f"{where} is of type 'text' and has no text: {_short(part)}.")
        return str(part["text"])
    if kind in ("audio", "input_audio"):
        given = [key for key in _AUDIO_KEYS if part.get(key) is not None]
        if not given:
            raise ConfigError(
                f"{where} has no audio: {_short(part)}; wanted {{'type': 'audio', 'audio': ...}}. For text "
                f"write {{'type': 'text', 'text': ...}}."
            )
        return dict(part)
    raise ConfigError(f"{where} is {_short(part)}; wanted a part of type 'text', 'audio' or 'input_audio'.")


def loss_weights(messages: Sequence[Message], loss_on: str) -> list[tuple[float, float]]:
    """For each message the loss weights of its text and of its audio.

    A message's own ``"loss"`` (a number, or ``{"text": 1.0, "audio": 0.5}``, what is not named keeps its
    default) decides, whatever its role, unless ``loss_on`` is "nothing".

    Raises:
        ConfigError: unknown ``loss_on``, or a ``"loss"`` that is no weight.
    """
    if loss_on not in LOSS_ON:
        raise ConfigError(f"unknown loss_on {loss_on!r}; known: {', '.join(LOSS_ON)}.")
    if loss_on == "nothing":
        return [(0.0, 0.0)] * len(messages)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = {
        "assistant": set(answers),
        "last_assistant": set(answers[-1:]),
        "everything": set(range(len(messages))),
    }[loss_on]
    weights = []
    for i, message in enumerate(messages):
        default = 1.0 if i in chosen else 0.0
        own = message.get("loss")
        if own is None:
            own = {}
        elif not isinstance(own, Mapping):
            own = {"text": own, "audio": own}
        unknown = sorted(set(own) - {"text", "audio"})
        if unknown:
            raise ConfigError(f"the loss of message {i} names {', '.join(unknown)}; known: text, audio.")
        weights.append((_weight(i, own.get("text", default)), _weight(i, own.get("audio", default))))
    return weights


def _weight(index: int, value: Any) -> float:
    if isinstance(value, int | float) and 0 <= value < float("inf"):
        return float(value)
    raise ConfigError(
        f"the loss of message {index} is {value!r}; wanted a weight of 0 or more, 1 for plain loss."
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
