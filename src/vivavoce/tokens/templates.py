"""A tokenizer's own chat template, rendered so that the place of every message is known.

Templates trim, move and sometimes drop what messages say. So a conversation is rendered twice: once with a
marker in the place of each message's content, which shows the template's own text, and once for real; the two
are aligned. A template that cannot be aligned is refused, because masks and audio would land in the wrong
place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# for tokenizers without a chat template, used only when asked for by the name "plain"; the space after "Assistant:"
# belongs to the first word of the answer, as most tokenizers have it
PLAIN = (
    "{{ bos_token or '' }}"
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


@dataclass(frozen=True)
class Aligned:
    """A rendered conversation.

    Attributes:
        text: As the template renders it.
        contents: For each message the characters [begin, end) of its content in ``text``.
    """

    text: str
    contents: tuple[tuple[int, int], ...]


def find_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> str | None:
    """The Jinja source to use; None for the tokenizer's own.

    Args:
        tokenizer: It has a chat template, unless ``template`` is given.
        template: None for the tokenizer's own, "plain" for ``PLAIN``, or Jinja source.

    Raises:
        ConfigError: an unknown name.
        ModelError: the tokenizer has no template, or, for "plain", no end-of-sequence token.
    """
    if template is None:
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "the tokenizer has no chat template, so it is unknown how its model was taught to take "
                "turns; load the instruct variant's tokenizer, or say template='plain' for a base model."
            )
        return None
    if template == "plain":
        if tokenizer.eos_token is None:
            raise ModelError(
                "template 'plain' ends turns with the end-of-sequence token; set tokenizer.eos_token."
            )
        return PLAIN
    if "{" not in template:
        raise ConfigError(f"unknown chat template {template!r}; wanted 'plain', Jinja source, or None.")
    return template


def render_aligned(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    *,
    template: str | None = None,
    add_generation_prompt: bool = False,
    tools: Sequence[Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Aligned:
    """Render messages whose contents are strings, and find each content in the result.

    Args:
        tokenizer: Its template renders.
        messages: ``role`` and string ``content``, and further keys the template may know.
        template: As ``find_template`` returns it.
        add_generation_prompt: End with the opening of an assistant turn.
        tools: For templates that describe tools.
        options: Further variables of the template, such as ``{"enable_thinking": False}``.

    Raises:
        ModelError: the template fails, drops or repeats a content, or changes with what a content says.
    """
    salt = marker_salt("".join(str(m["content"]) for m in messages))
    # what only calls tools says nothing, and templates that write calls leave its content out
    silent = [bool(m.get("tool_calls")) and not m["content"] for m in messages]
    marks = ["" if quiet else f"vvMessage{salt}n{i}x" for i, quiet in enumerate(silent)]
    marked = [{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)]

    def render(conversation: Sequence[Mapping[str, Any]]) -> str:
        try:
            text = tokenizer.apply_chat_template(
                [dict(m) for m in conversation],
                chat_template=template,
                add_generation_prompt=add_generation_prompt,
                tools=list(tools) if tools else None,
                tokenize=False,
                **(options or {}),
            )
        except Exception as error:
            raise ModelError(f"the chat template refuses these messages: {error}") from error
        return str(text)

    shown = [i for i, quiet in enumerate(silent) if not quiet]
    found = _align(
        render(messages),
        render(marked),
        [marks[i] for i in shown],
        [str(messages[i]["content"]) for i in shown],
    )
    spans, at = iter(found.contents), 0
    contents = []
    for quiet in silent:
        contents.append((at, at) if quiet else next(spans))
        at = contents[-1][1]
    return Aligned(found.text, tuple(contents))


def marker_salt(text: str) -> str:
    """Letters that do not occur in ``text``, the same for the same text."""
    count = 0
    while f"q{count}q" in text:
        count += 1
    return f"q{count}q"


def _align(text: str, skeleton: str, marks: list[str], contents: list[str]) -> Aligned:
    """Walk along both renderings; between the markers they must be equal, letter for letter."""
    places = []
    for i, mark in enumerate(marks):
        if skeleton.count(mark) != 1:
            raise ModelError(
                f"the chat template shows the content of message {i} {skeleton.count(mark)} times, wanted once; its "
                f"place cannot be told. Check the roles and their order, or use another template."
            )
        places.append(skeleton.index(mark))
        if i and places[i] < places[i - 1]:
            raise ModelError(
                f"the chat template moves message {i} before message {i - 1}; use another template."
            )
    spans, at, seen = [], 0, 0
    for i, (mark, content, place) in enumerate(zip(marks, contents, places, strict=True)):
        between = skeleton[seen:place]
        quoted = json.dumps(content, ensure_ascii=False)[
            1:-1
        ]  # Llama's template writes what tools say as JSON
        variants = (content, content.strip(), content.lstrip(), content.rstrip(), quoted)
        shown = None
        if text.startswith(between, at):
            begin = at + len(between)
            following = _until_mark(skeleton, place + len(mark), marks[i + 1 : i + 2])
            shown = next((v for v in variants if text.startswith(v + following, begin)), None)
        if shown is None:
            raise ModelError(
                f"the chat template renders message {i} differently because of what it says "
                f"({content[:40]!r}); masks and audio cannot be placed. Change that text, or use another "
                "template."
            )
        spans.append((begin, begin + len(shown)))
        at, seen = begin + len(shown), place + len(mark)
    if text[at:] != skeleton[seen:]:
        raise ModelError(
            "the chat template ends differently because of what the messages say; use another template."
        )
    return Aligned(text, tuple(spans))


def _until_mark(skeleton: str, begin: int, marks: list[str]) -> str:
    end = skeleton.find(marks[0], begin) if marks else len(skeleton)
    return skeleton[begin : end if end >= 0 else len(skeleton)]
