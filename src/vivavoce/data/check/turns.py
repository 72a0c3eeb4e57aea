"""Checks of a row's turns: their order, what is learned of them, and what a teacher reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from vivavoce.base.errors import ConfigError
from vivavoce.data.check.config import DISTILL, LEARN_ALL, VIEWS
from vivavoce.data.check.findings import Finding, short
from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.tokens.messages import loss_weights

ANSWER = "assistant"


def check_types(conversation: Conversation) -> Iterator[Finding]:
    """Find values that are no text where text belongs; the other checks want a row without such."""
    for where, part in audio_places(conversation):
        for name in ("transcript", "language", "speaker"):
            value = getattr(part, name)
            if value is not None and not isinstance(value, str):
                yield Finding("invalid_row", f"{name} is {short(value)}", "text", where)
        if part.tokens is not None and not isinstance(part.tokens, dict):
            yield Finding(
                "invalid_row", f"tokens is {short(part.tokens)}", "an object with codec and ids", where
            )


def check_turns(conversation: Conversation, task: str) -> Iterator[Finding]:
    """Check the order of turns and what is learned of them.

    Args:
        conversation: The row.
        task: That it is for.
    """
    messages = conversation.messages
    yield from _order(messages)
    try:
        weights = loss_weights([m.row() for m in messages], ANSWER)
    except ConfigError as error:
        yield Finding("bad_loss", str(error).rstrip("."), "a weight of 0 or more")
        return
    learned = [m for m, w in zip(messages, weights, strict=True) if _is_learned(m, w)]
    if task not in LEARN_ALL:
        yield from _learned_questions(messages, weights)
    answers = [i for i, m in enumerate(messages) if m.role == ANSWER]
    empty = [i for i in answers if not has_content(messages[i]) and weights[i] != (0, 0)]
    if learned:
        for i in empty:
            yield Finding("empty_answer", "the assistant says nothing", "text or audio", f"message {i}")
    elif not answers and task in VIEWS:
        if not any((part.transcript or "").strip() for part in conversation.audio_parts()):
            yield Finding(
                "nothing_to_learn", "no assistant turn and no transcript", f"a transcript for task {task!r}"
            )
    else:
        seen = "no assistant turn has a loss" if answers else "no assistant turn"
        seen = "the assistant says nothing" if empty else seen
        yield Finding("nothing_to_learn", seen, "an assistant turn with text or audio and a loss")


def check_teacher(conversation: Conversation, task: str) -> Iterator[Finding]:
    """Check that the transcripts are there that a task is made of.

    Args:
        conversation: The row.
        task: That it is for; "distill" needs a transcript for every clip, and an answer in text.
    """
    if task not in (DISTILL, *VIEWS):
        return
    kind = "no_teacher_text" if task == DISTILL else "no_transcript"
    clips = 0
    for where, part in audio_places(conversation):
        clips += 1
        if not (part.transcript or "").strip():
            yield Finding(kind, f"transcript {part.transcript!r}", "what is said in the clip", where)
    if task != DISTILL:
        return
    if not clips:
        yield Finding("no_clip_to_distill", "no audio part", "a clip that the student hears")
    last = conversation.messages[-1]
    if last.role == ANSWER and last.audios:
        where = f"message {len(conversation.messages) - 1}"
        yield Finding(
            "answer_not_text", f"an answer with {len(last.audios)} audio parts", "text alone", where
        )


def audio_places(conversation: Conversation) -> Iterator[tuple[str, Audio]]:
    """All audio parts with where they are: "message 1, part 0"."""
    for i, message in enumerate(conversation.messages):
        for j, part in enumerate(message.parts):
            if isinstance(part, Audio):
                yield f"message {i}, part {j}", part


def has_content(message: Message) -> bool:
    """Whether a message says anything, by text, audio or a call of a tool."""
    return bool(message.text.strip() or message.audios or message.more.get("tool_calls"))


def _order(messages: list[Message]) -> Iterator[Finding]:
    for i, message in enumerate(messages):
        if message.role == "system" and i > 0:
            yield Finding(
                "system_not_first", f"a system message as number {i}", "it first, once", f"message {i}"
            )
    for i, (before, message) in enumerate(pairwise(messages), 1):
        if before.role == message.role and message.role in ("user", ANSWER):
            seen = f"two {message.role} turns in a row"
            yield Finding("turns_not_alternating", seen, "user and assistant in turn", f"message {i}")


def _learned_questions(messages: list[Message], weights: list[tuple[float, float]]) -> Iterator[Finding]:
    asked = [i for i, m in enumerate(messages) if m.role != ANSWER and has_content(m)]
    learned = [i for i in asked if _is_learned(messages[i], weights[i])]
    if learned and learned == asked:
        roles = ", ".join(dict.fromkeys(messages[i].role for i in learned))
        yield Finding(
            "labels_equal_inputs", f"a loss on every message ({roles} too)", "a loss on assistant turns only"
        )
        return
    for i in learned:
        text, audio = weights[i]
        seen = f"loss {text:g} on text and {audio:g} on audio of a {messages[i].role} message"
        yield Finding("loss_on_question", seen, "0, or no loss of its own", f"message {i}")


def _is_learned(message: Message, weight: tuple[float, float]) -> bool:
    typed = bool(message.text.strip() or message.more.get("tool_calls"))
    return bool((typed and weight[0] > 0) or (message.audios and weight[1] > 0))
