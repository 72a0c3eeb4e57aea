"""Messages to token ids by chat templates that place audio themselves, and the end-of-turn tokens of a
template.

Templates that know nothing of audio are rendered by ``tokens.chat``. This module is for those that write the
model's placeholder token for an audio part, and may treat spoken turns in their own way, such as "transcript
first".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.audio_parts import AUDIO_TYPES, is_audio
from vivavoce.tokens.messages import Message, message_parts


def places_audio(template: str | None, audio_token: str | None) -> bool:
    """Whether a chat template writes the placeholder of audio itself."""
    return bool(template and audio_token and audio_token in template)


def plain_messages(
    messages: Sequence[Message],
    spoken: Callable[[str], str] | None = None,
    transcripts: bool = False,
    around: tuple[str, str] = ("", ""),
) -> list[dict[str, Any]]:
    """Messages checked and in one form: strings, or lists of text and audio parts.

    Args:
        messages: transformers / OpenAI shape; not changed.
        spoken: Applied to every text.
        transcripts: Write the ``transcript`` of an audio part as text after it.
        around: Text before and after each audio part; words that follow get a space before them.

    Raises:
        ConfigError: Malformed messages.
    """
    if not messages:
        raise ConfigError("no messages; wanted at least one.")
    plain = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ConfigError(f"message {i} is {message!r}; wanted {{'role': ..., 'content': ...}}.")
        parts: list[dict[str, Any]] = []
        for part in message_parts(i, _input_audio(message)):
            if isinstance(part, str):
                gap = " " if around[1] and parts and part and not part[0].isspace() else ""
                parts.append({"type": "text", "text": spoken(part) if spoken else gap + part})
                continue
            parts += _between({**part, "type": "audio"}, around)
            said = part.get("transcript")
            if transcripts and said:
                parts.append({"type": "text", "text": spoken(said) if spoken else said})
        only_text = all(not is_audio(p) for p in parts)
        content: Any = (
            "".join(p["text"] for p in parts) if only_text else [p for p in parts if p.get("text") != ""]
        )
        plain.append({**message, "content": content})
    return plain


def _between(part: dict[str, Any], around: tuple[str, str]) -> list[dict[str, Any]]:
    """An audio part with the text that stands around it."""
    before, after = ([{"type": "text", "text": text}] if text else [] for text in around)
    return [*before, part, *after]


def _input_audio(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with OpenAI's and vLLM's audio part types under one name."""
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return dict(message)
    parts = [
        {**p, "type": "audio"} if isinstance(p, Mapping) and p.get("type") in AUDIO_TYPES else p
        for p in content
    ]
    return {**message, "content": parts}


def audio_parts(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """All audio parts in reading order."""
    return [p for m in messages if isinstance(m["content"], list) for p in m["content"] if is_audio(p)]


def texts_of(content: Any) -> list[str]:
    """The texts of a plain message's content."""
    return [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]


def refuse_placeholder(messages: Sequence[Mapping[str, Any]], placeholder: str) -> None:
    """Refuse plain messages whose text has the placeholder, which is no place for audio there.

    Raises:
        ConfigError: The first of them.
    """
    for i, message in enumerate(messages):
        if any(placeholder in text for text in texts_of(message["content"])):
            raise ConfigError(
                f"the text of message {i} contains {placeholder}; pass audio as an audio part in its place: "
                "{'type': 'audio', 'audio': ...}."
            )


def render_with_placeholders(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    counts: Sequence[int],
    audio_token_id: int,
    add_generation_prompt: bool,
    template: str | None = None,
    tools: Sequence[Any] = (),
) -> list[int]:
    """Render messages and repeat each placeholder for its clip.

    Args:
        tokenizer: With a chat template that writes one placeholder per audio part.
        messages: As ``plain_messages`` makes them.
        counts: Positions of each audio part, in order.
        audio_token_id: The placeholder.
        add_generation_prompt: End where the model is to go on.
        template: Instead of the tokenizer's own.
        tools: For templates that describe them.

    Raises:
        ModelError: The template drops a message or an audio part.
    """
    texts = [
        (i, message["role"], text.strip())
        for i, message in enumerate(messages)
        for text in texts_of(message["content"])
    ]
    rendered = tokenizer.apply_chat_template(
        [dict(m) for m in messages],
        chat_template=template,
        add_generation_prompt=add_generation_prompt,
        tools=list(tools) or None,
        tokenize=False,
    )
    at = 0
    for i, role, text in texts:
        found = rendered.find(text, at)
        if found < 0:
            raise ModelError(
                f"this model's chat template has no place for message {i} ({role}); leave it out."
            )
        at = found + len(text)
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    places = [i for i, token in enumerate(ids) if token == audio_token_id]
    if len(places) != len(counts):
        raise ModelError(
            f"the chat template wrote {len(places)} placeholders for {len(counts)} audio parts; "
            "it does not fit this model."
        )
    for place, count in zip(reversed(places), reversed(counts), strict=True):
        ids[place : place + 1] = [audio_token_id] * count
    return list(ids)


def turn_end_ids(tokenizer: Any, template: str | None = None) -> set[int]:
    """Ids that end an answer: the tokenizer's end of sequence and the first special token after an answer."""
    ids = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    if not (template or getattr(tokenizer, "chat_template", None)):
        return ids
    asked, said = "vvQuestion", "vvAnswer"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    try:
        text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    except Exception:  # noqa: BLE001  (a template may refuse these roles; it then tells nothing)
        return ids
    after = tokenizer(text.rpartition(said)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | {
        i for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special
    }
    first = next((i for i in after if i in special), None)
    return ids if first is None else ids | {first}


def answer_ends(model: Any, processor: Any) -> frozenset[int]:
    """Ids that end an answer: those of tokenizer, template, generation config and text config."""
    ids = set(processor.stop_ids)
    for config in (model.generation_config, model.config.text_config):
        found = getattr(config, "eos_token_id", None)
        ids |= set() if found is None else set(found) if isinstance(found, list | tuple) else {found}
    return frozenset(int(i) for i in ids)


def room_for_answer(config: Any, length: int) -> int | None:
    """Positions that are left after a prompt of ``length``; None if the text model knows no limit.

    Raises:
        ModelError: The prompt is longer than the model can read.
    """
    longest: int | None = getattr(config.text_config, "max_position_embeddings", None)
    if longest and length >= longest:
        raise ModelError(
            f"the conversation has {length} positions, the model reads {longest - 1} at most; shorten the audio or "
            "the history."
        )
    return longest - length if longest else None
