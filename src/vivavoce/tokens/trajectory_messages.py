"""Emotional-trajectory dialogues as messages: one clip per user turn, or all turns in one clip.

Training rows and questions to a model are built by the same functions, so that a model is asked the way it
was taught.
"""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

TURN_NAMES = {"zh": "第{}轮：", "en": "Turn {}: "}


def turn_messages(
    clips: Sequence[Mapping[str, Any]],
    replies: Sequence[str] = (),
    texts: Sequence[str] = (),
    question: str = "",
    question_apart: bool = False,
) -> list[Message]:
    """Messages of a dialogue that ends with a user turn: roles kept, a clip per user turn.

    Args:
        clips: One part per user turn, audio or text; at least one.
        replies: What the assistant said after each turn but the last; "" for nothing, () for nothing ever.
        texts: What is typed beside each clip, such as its transcript; () for nothing.
        question: Typed with the last clip.
        question_apart: The question gets a message of its own.
    """
    messages: list[Message] = []
    last = len(clips) - 1
    for i, clip in enumerate(clips):
        typed = [texts[i] if texts else "", question if i == last and not question_apart else ""]
        messages.append(one_message([clip], "\n".join(t for t in typed if t)))
        if i < last and replies and replies[i]:
            messages.append({"role": "assistant", "content": replies[i]})
    if question and question_apart:
        messages.append({"role": "user", "content": question})
    return messages


def one_message(clips: Sequence[Mapping[str, Any]], text: str) -> Message:
    """A user message of clips, then text; a plain string where no clip is audio."""
    if all(clip["type"] == "text" for clip in clips):
        return {"role": "user", "content": "\n".join(t for t in [*(c["text"] for c in clips), text] if t)}
    typed = [{"type": "text", "text": text}] if text else []
    return {"role": "user", "content": [*(dict(clip) for clip in clips), *typed]}


def merge_turns(messages: Sequence[Message], language: str) -> list[Message]:
    """Make neighbouring user messages one, its turns numbered, for templates where roles must alternate.

    Args:
        messages: As ``turn_messages`` makes them; not changed.
        language: Of the numbering, "zh" or "en".
    """
    merged: list[Message] = []
    group: list[tuple[int, list[Any]]] = []

    def close() -> None:
        parts: list[Any] = []
        for turn, content in group:
            named = TURN_NAMES[language].format(turn) if any(p["type"] == "audio" for p in content) else ""
            label = ("\n" if parts else "") + named if len(group) > 1 else ""
            parts += [{"type": "text", "text": label}, *content] if label else content
        if group:
            merged.append({"role": "user", "content": parts})
        group.clear()

    turn = 0
    for message in messages:
        if message["role"] != "user":
            close()
            merged.append(dict(message))
            continue
        turn += 1
        content = message["content"]
        group.append((turn, [{"type": "text", "text": content}] if isinstance(content, str) else content))
    close()
    return merged


def dialogue_text(texts: Sequence[str], replies: Sequence[str], question: str) -> str:
    """The text of a dialogue without roles, a line per message and the question last.

    This is how the published single-clip form writes what was said.

    Args:
        texts: What the user said in each turn, "" or () for unknown.
        replies: What the assistant said after each turn but the last, "" or () for nothing.
        question: The last line; "" for none.
    """
    lines: list[str] = []
    for i in range(max(len(texts), len(replies))):
        lines += [texts[i] if i < len(texts) else "", replies[i] if i < len(replies) else ""]
    return "\n".join(line for line in [*lines, question] if line)
