"""What happens to a conversation before a model reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vivavoce.base.errors import ConfigError
from vivavoce.inference.reply import Transcript
from vivavoce.models.audio_parts import is_audio
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig
from vivavoce.models.processor import SpeechProcessor

Messages = str | Sequence[Mapping[str, Any]]


def as_messages(messages: Messages) -> list[dict[str, Any]]:
    """A list of messages that may be changed without touching the caller's.

    Raises:
        ConfigError: None, or the last one is not from the user.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    found = [m for m in messages if isinstance(m, Mapping)] if isinstance(messages, list | tuple) else []
    if not found or len(found) != len(messages):
        raise ConfigError(
            "wanted a list of messages such as [{'role': 'user', 'content': 'Hello'}], or one text."
        )
    if found[-1].get("role") == "assistant":
        raise ConfigError("the last message is from the assistant; end with a question of the user.")
    return [dict(m) for m in found]


def parts_of(message: Mapping[str, Any]) -> list[Any]:
    """The content parts of a message; a string is one part."""
    content = message.get("content")
    return list(content) if isinstance(content, list | tuple) else [content]


def typed_texts(message: Mapping[str, Any]) -> list[str]:
    """The typed texts of a message that say something."""
    texts = [p if isinstance(p, str) else p.get("text") for p in parts_of(message) if p and not is_audio(p)]
    return [text for text in texts if isinstance(text, str) and text.strip()]


def last_clips(messages: Sequence[Mapping[str, Any]]) -> int:
    """Audio parts of the last message."""
    return sum(is_audio(part) for part in parts_of(messages[-1]))


def prepare_history(
    messages: Sequence[Mapping[str, Any]],
    config: SpeechLMConfig,
    transcribe: Callable[[Any], Transcript],
) -> list[dict[str, Any]]:
    """Put a conversation in the form that a "transcript first" model was trained on.

    Earlier spoken turns get their transcript, by listening again where the caller did not keep it; exchanges
    that were not understood are left out, as they hold nothing to build on. A transcript of the last turn is
    taken away: the model is to listen. A model that answers from transcripts reads earlier spoken turns as typed. For
    other models nothing changes.

    Args:
        messages: Checked to be mappings; not changed.
        config: Of the model.
        transcribe: Listens to an audio part.

    Raises:
        ConfigError: The last turn has both a recording and typed words.
    """
    ears = config.audio_in
    if not (isinstance(ears, EmbeddingsIn) and ears.transcript_first):
        return [dict(m) for m in messages]
    if last_clips(messages) and any(typed_texts(messages[-1])):
        raise ConfigError(
            "this model takes a recording or typed words in one turn, not both; send one of them."
        )
    kept: list[dict[str, Any]] = []
    skip_answer = False
    for i, message in enumerate(messages):
        if skip_answer and message.get("role") == "assistant":
            skip_answer = False
            continue
        skip_answer = False
        if not any(is_audio(p) for p in parts_of(message)):
            kept.append(dict(message))
            continue
        parts = []
        for part in parts_of(message):
            if is_audio(part):
                part = {k: v for k, v in part.items() if k != "transcript" or i + 1 < len(messages)}
                if i + 1 < len(messages) and not part.get("transcript"):
                    heard = transcribe(part)
                    skip_answer |= not heard.understood
                    part["transcript"] = heard.text
            parts.append(part)
        if skip_answer:
            continue
        if ears.answer_from == "transcript" and i + 1 < len(messages):
            said = [
                p if isinstance(p, str) else p.get("transcript" if is_audio(p) else "text")
                for p in parts
                if p
            ]
            kept.append({**message, "content": " ".join(words for words in said if words)})
        else:
            kept.append({**message, "content": parts})
    return kept


def unknown_words(messages: Sequence[Mapping[str, Any]], processor: SpeechProcessor) -> bool:
    """Whether the last turn has typed words outside a closed spoken vocabulary, or no words at all."""
    if processor.text_form != "spoken":
        return False
    if last_clips(messages):
        return False
    words = processor.spoken(" ".join(typed_texts(messages[-1])))
    unknown = processor.tokenizer.unk_token_id
    ids = processor.tokenizer(words, add_special_tokens=False)["input_ids"]
    return not words or (unknown is not None and unknown in ids)
