"""Conversations as pairs of rows for distillation: what the student hears and what its teacher reads.

Both rows are the same chat. In the student's, placeholders stand where clips are; in the teacher's, the
transcripts of the clips. The answers are token for token the same, and only they are learned.

Source: the training rows of Ultravox v0.3 to v0.6 (github.com/fixie-ai/ultravox).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.conversation import places_audio
from vivavoce.tokens.chat import IGNORED, Rendered, render_chat
from vivavoce.tokens.messages import Message, Part, message_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossMask = Literal["last_assistant", "after_audio", "all"]


@dataclass(frozen=True)
class DistillationRow:
    """One conversation for student and teacher.

    Attributes:
        input_ids: The student's L ids, with one placeholder per audio embedding.
        labels: L ids, -100 where nothing is learned; not shifted.
        teacher_ids: The teacher's L' ids.
        teacher_labels: L' ids, -100 where nothing is learned.
    """

    input_ids: list[int]
    labels: list[int]
    teacher_ids: list[int]
    teacher_labels: list[int]


def distillation_row(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    counts: Sequence[int],
    placeholder_id: int,
    *,
    loss_mask: LossMask = "last_assistant",
    max_response_tokens: int | None = None,
    include_header: bool = True,
    keep_end: bool = False,
    apart: bool = True,
    template: str | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> DistillationRow:
    """Write a conversation as the student's and the teacher's row.

    Defaults are those of Ultravox, but for ``max_response_tokens``, which is 50 there.

    Args:
        tokenizer: A fast tokenizer with a chat template that knows nothing of audio.
        messages: In order, the last one an answer. Every audio part has its ``transcript``; the clip itself is
            not read.
        counts: Embeddings of each clip, in order.
        placeholder_id: Id at the positions of embeddings, never learned; no token of the template.
        loss_mask: What is learned. "last_assistant": the last answer, with the header that opens its turn.
            "after_audio": all that follows the first clip. "all": every position but placeholders, which is
            for cross entropy, as student and teacher then do not pair up; nor does "after_audio" with several
            clips.
        max_response_tokens: Cut both rows after so many learned tokens. A cut row teaches nothing about where
            an answer ends; its last position is that of the last token kept.
        include_header: False leaves the header of the last answer out of what is learned.
        keep_end: Learn the token that ends the last answer and nothing after it. With ``max_response_tokens``
            the rows are then not cut: tokens past the limit are read but not learned, except for that end.
        apart: Tokenize text after a clip as if a new text began there, as Ultravox does; give the model's own
            ``audio_in.text_apart``.
        template: Instead of the tokenizer's own, as in ``tokens.chat.render_chat``.
        template_options: Further variables of the template.

    Raises:
        ConfigError: malformed messages, a missing transcript, no answer at the end, counts that do not match
            the clips, options that exclude each other, or a limit that cuts a clip.
        ModelError: a template that places audio itself, or renders the answer differently when it is not the
            end or when the clip is text.
        VocabularyError: text or transcript holds the placeholder.
    """
    _check_options(loss_mask, max_response_tokens, include_header, keep_end)
    _check_template(tokenizer, template, placeholder_id)
    parts = [message_parts(i, message) for i, message in enumerate(messages)]
    heard = [{k: v for k, v in message.items() if k != "loss"} for message in messages]
    read = [{**m, "content": _as_read(i, p)} for i, (m, p) in enumerate(zip(heard, parts, strict=True))]

    def render(chat: list[dict[str, Any]], entries: Sequence[int], **more: Any) -> Rendered:
        return render_chat(
            tokenizer,
            chat,
            entries,
            placeholder_id=placeholder_id,
            apart=apart,
            template=template,
            template_options=template_options,
            **{"loss_on": "nothing", **more},
        )

    student = render(heard, list(counts), loss_on="last_assistant" if keep_end else "nothing")
    ids, teacher = student.input_ids, render(read, ()).input_ids
    shift = len(teacher) - len(ids)  # both rows end alike, so this is how far the answer moves
    start = 0
    if loss_mask == "after_audio":
        if not student.spans:
            raise ConfigError(
                "loss_mask 'after_audio' for a conversation without audio; use 'last_assistant'."
            )
        start = student.spans[0].start + student.spans[0].length
    elif loss_mask == "last_assistant":
        if (
            len(heard) < 2
            or heard[-1]["role"] != "assistant"
            or any(not isinstance(p, str) for p in parts[-1])
        ):
            raise ConfigError(
                f"the last of {len(heard)} messages is no answer to learn; wanted text from 'assistant' after a "
                "question."
            )
        asked = render(heard[:-1], list(counts), add_generation_prompt=not include_header).input_ids
        start = len(asked)
        if ids[:start] != asked or teacher[start + shift :] != ids[start:]:
            raise ModelError(
                "the chat template writes the question otherwise once it is answered, or the answer otherwise after "
                "a transcript than after a clip; student and teacher cannot be paired. Use another template."
            )
    end = max(i for i, weight in enumerate(student.loss_weights) if weight > 0) if keep_end else None
    limit = len(ids) if max_response_tokens is None else min(len(ids), start + max_response_tokens)
    stop = limit if end is None else end + 1
    clips = {i for span in student.spans for i in range(span.start, span.start + span.length)}
    if clips and max(clips) >= stop:
        raise ConfigError(
            f"max_response_tokens {max_response_tokens} with loss_mask {loss_mask!r} cuts a clip off; use "
            "'last_assistant', or no limit."
        )
    reach = {*range(start, min(limit, stop)), *([] if end is None else [end])}
    ids, teacher = ids[:stop], teacher[: stop + shift]
    return DistillationRow(
        ids, _labels(ids, reach - clips), teacher, _labels(teacher, {i + shift for i in reach})
    )


def collate_rows(rows: Sequence[DistillationRow], pad_id: int) -> dict[str, Tensor]:
    """Pad rows on the right and stack them.

    Args:
        rows: B of them.
        pad_id: Id of padding, often that of the end of a turn; it is masked and never learned.

    Returns:
        ``input_ids``, ``attention_mask``, ``labels`` int64 [B, L] and the same three with ``teacher_`` before
        them, int64 [B, L'].

    Raises:
        ConfigError: no rows.
    """
    if not rows:
        raise ConfigError("no rows to collate; wanted at least one.")
    made: dict[str, Tensor] = {}
    for before, ids, labels in (
        ("", [r.input_ids for r in rows], [r.labels for r in rows]),
        ("teacher_", [r.teacher_ids for r in rows], [r.teacher_labels for r in rows]),
    ):
        made[f"{before}input_ids"] = _padded(ids, pad_id)
        made[f"{before}attention_mask"] = _padded([[1] * len(row) for row in ids], 0)
        made[f"{before}labels"] = _padded(labels, IGNORED)
    return made


def _labels(ids: list[int], learned: set[int]) -> list[int]:
    return [token if i in learned else IGNORED for i, token in enumerate(ids)]


def _padded(rows: Sequence[list[int]], fill: int) -> Tensor:
    size = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (size - len(row))] for row in rows])


def _as_read(index: int, parts: Sequence[Part]) -> str:
    """A message's content with the transcripts of its clips in their places."""
    content = ""
    for part in parts:
        said = part if isinstance(part, str) else part.get("transcript")
        if not isinstance(part, str) and not (isinstance(said, str) and said.strip()):
            raise ConfigError(
                f"an audio part of message {index} has the transcript {said!r}; the teacher reads it in the "
                "clip's place. Transcribe the clip, or leave the conversation out."
            )
        content += str(said)
    return content


def _check_options(
    loss_mask: str, max_response_tokens: int | None, include_header: bool, keep_end: bool
) -> None:
    if loss_mask not in get_args(LossMask):
        raise ConfigError(f"unknown loss_mask {loss_mask!r}; known: {', '.join(get_args(LossMask))}.")
    if loss_mask != "last_assistant" and (keep_end or not include_header):
        raise ConfigError(
            f"keep_end and include_header=False need loss_mask 'last_assistant', not {loss_mask!r}."
        )
    if max_response_tokens is not None and max_response_tokens < 1:
        raise ConfigError(f"max_response_tokens is {max_response_tokens}, wanted 1 or more, or None.")


def _check_template(tokenizer: PreTrainedTokenizerBase, template: str | None, placeholder_id: int) -> None:
    placeholder = tokenizer.convert_ids_to_tokens(placeholder_id)
    if places_audio(template or tokenizer.chat_template, str(placeholder or "")):
        raise ModelError(
            "the chat template places audio itself, so a transcript cannot take the place of a clip; give "
            "template=... that knows nothing of audio."
        )
