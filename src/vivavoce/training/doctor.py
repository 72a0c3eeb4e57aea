"""Finds rows that would train badly without an error: by what a model reads of them, before a GPU is asked.

``doctor(rows, processor, objective)`` looks at rows. A trainer that makes its own batches asks ``compare_labels`` with
the labels it made, which finds a loss on the wrong span whatever the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError, VivavoceError
from vivavoce.data.check.findings import Finding, short
from vivavoce.data.check.reading import read_any
from vivavoce.data.conversation import Conversation
from vivavoce.models.config import EmbeddingsIn
from vivavoce.tokens.chat import IGNORED
from vivavoce.training.rendering import Rendering, render_row


@dataclass(frozen=True)
class Doctor:
    """Looks at rows one by one; give it to ``data.check.sets.check_set``.

    Attributes:
        processor: Of the model, a ``SpeechProcessor``.
        objective: As in ``rendering.render_row``.
        max_tokens: Most positions of a row; None for no limit.
    """

    processor: Any
    objective: str = "sft"
    max_tokens: int | None = None

    def __call__(self, conversation: Conversation, root: Path | None = None) -> list[Finding]:
        """Find what is wrong with a row; recordings are read from ``root``."""
        try:
            rendering = render_row(conversation, self.processor, self.objective, root=root)
        except (VivavoceError, OSError) as error:
            return [not_rendered(error)]
        return list(diagnose(conversation, rendering, self.processor, self.max_tokens))


def doctor(
    rows: Iterable[Conversation | Mapping[str, Any]],
    processor: Any,
    objective: str = "sft",
    *,
    root: Path | None = None,
    max_tokens: int | None = None,
) -> list[Finding]:
    """Find what is wrong with rows before they are trained on.

    Found are: rows that the model's template cannot render, nothing to learn, a loss on everything or on embeddings, an
    end that is never learned, rows that are too long, training in another form than inference asks, unknown words,
    answers whose audio the model has no place for, and for "distill" a student that reads what its teacher reads.

    Args:
        rows: Conversations, or JSON objects of them.
        processor: Of the model, a ``SpeechProcessor``; weights are not needed.
        objective: "sft", "distill" or "next_token".
        root: Where relative paths of recordings start.
        max_tokens: Most positions of a row.

    Returns:
        Findings in the order of rows; [] if all is well.
    """
    look = Doctor(processor, objective, max_tokens)
    found: list[Finding] = []
    for number, row in enumerate(rows):
        read = read_any(row, number)
        if isinstance(read, DataError):
            found.append(Finding("invalid_row", str(read), "a row of a set", row=str(number), number=number))
            continue
        found += [dataclasses.replace(f, row=read.id, number=number) for f in look(read, root)]
    return found


def not_rendered(error: Exception) -> Finding:
    """The finding of a row that cannot be rendered."""
    return Finding("cannot_render", short(str(error).rstrip("."), 300), "a row that the model can read")


def diagnose(
    conversation: Conversation, rendering: Rendering, processor: Any, max_tokens: int | None = None
) -> Iterator[Finding]:
    """Find what is wrong with a rendered row.

    Args:
        conversation: The row.
        rendering: Of the row, as ``render_row`` makes it.
        processor: Of the model.
        max_tokens: Most positions of a row.
    """
    ids, length = rendering.input_ids, len(rendering.input_ids)
    if max_tokens is not None and length > max_tokens:
        audio = sum(span.length for span in rendering.spans)
        yield Finding("too_long", f"{length} positions, {audio} of them audio", f"at most {max_tokens}")
    yield from _learned(rendering, processor)
    if rendering.objective == "distill":
        yield from _teacher(rendering)
    asked = rendering.asked_ids
    if asked is not None and ids[: len(asked)] != asked:
        at = next(
            (i for i, (a, b) in enumerate(zip(ids, asked, strict=False)) if a != b), min(length, len(asked))
        )
        seen = f"token {at} is {_spelled(processor, ids, at)}, at inference {_spelled(processor, asked, at)}"
        yield Finding("prompt_differs", seen, "the same up to the answer")
    for clip in rendering.clips:
        if clip.how == "unused":
            seen = "audio in an answer of a model that answers in text"
            yield Finding("answer_audio_unused", seen, "text to learn", f"message {clip.message}")
    if isinstance(processor.ears, EmbeddingsIn) and processor.ears.transcript_first:
        for i, part in enumerate(conversation.audio_parts()):
            if rendering.clips[i].how == "embeddings" and not (part.transcript or "").strip():
                seen = f"transcript {part.transcript!r} for a model that writes what it hears"
                yield Finding("no_transcript", seen, "what is said", f"message {rendering.clips[i].message}")
    unknown = processor.tokenizer.unk_token_id
    if unknown is not None and unknown in ids:
        seen = f"{ids.count(unknown)} tokens {processor.tokenizer.unk_token}"
        yield Finding("unknown_words", seen, "text that the tokenizer has tokens for")


def compare_labels(rendering: Rendering, labels: Sequence[int], processor: Any = None) -> list[Finding]:
    """Compare labels that somebody made for a row with what the row says is to be learned.

    Args:
        rendering: Of the row.
        labels: L labels as transformers' models take them: the position's own id where it is learned, else -100; not
            shifted.
        processor: For readable tokens in messages.

    Returns:
        [] if they agree; weights between 0 and 1 do not count as a difference.
    """
    ids, weights = rendering.input_ids, rendering.weights
    if len(labels) != len(ids):
        return [Finding("wrong_mask", f"{len(labels)} labels", f"{len(ids)}, one a position")]
    other = [i for i, label in enumerate(labels) if label not in (IGNORED, ids[i])]
    if other:
        seen = f"label {labels[other[0]]} at position {other[0]}, whose id is {ids[other[0]]}"
        return [Finding("wrong_mask", f"{seen}; {len(other)} such positions", "labels that are not shifted")]
    learned = [label != IGNORED for label in labels]
    if all(learned) and rendering.objective != "next_token":
        return [Finding("labels_equal_inputs", f"all {len(ids)} positions are learned", "answers only")]
    made: list[Finding] = []
    for name, wrong in (
        ("learned and should not be", [i for i, yes in enumerate(learned) if yes and weights[i] == 0]),
        ("not learned and should be", [i for i, yes in enumerate(learned) if not yes and weights[i] > 0]),
    ):
        if wrong:
            where = f"from position {wrong[0]} ({_spelled(processor, ids, wrong[0])}) on"
            made.append(
                Finding("wrong_mask", f"{len(wrong)} positions are {name}, {where}", "the row's own weights")
            )
    return made


def _learned(rendering: Rendering, processor: Any) -> Iterator[Finding]:
    """What is learned: something, not everything, no embeddings, and the end."""
    weights = rendering.weights
    learned = [i for i, weight in enumerate(weights) if weight > 0]
    said = [i for i in learned if rendering.input_ids[i] not in processor.stop_ids]
    if not said:
        seen = (
            "only the end of the turn is learned"
            if learned
            else f"none of {len(weights)} positions is learned"
        )
        yield Finding("nothing_learned", seen, "an answer that is learned")
        return
    embedded = {i for s in rendering.spans if s.embedded for i in range(s.start, s.start + s.length)}
    on_audio = [i for i in learned if i in embedded]
    if on_audio:
        seen = f"{len(on_audio)} positions of embeddings are learned, from position {on_audio[0]} on"
        yield Finding("loss_on_placeholder", seen, "none")
    if rendering.objective == "next_token":
        return
    if len(learned) + len(embedded) - len(on_audio) >= len(weights):
        yield Finding(
            "labels_equal_inputs", f"{len(learned)} of {len(weights)} positions are learned", "answers only"
        )
    ends = processor.stop_ids | _audio_ends(processor)
    tail = learned[-1]
    if rendering.input_ids[tail] not in ends and not any(
        rendering.input_ids[i] in ends for i in learned[-3:]
    ):
        seen = f"the last learned token is {_spelled(processor, rendering.input_ids, tail)}"
        yield Finding("end_not_learned", seen, "the token that ends the turn")


def _audio_ends(processor: Any) -> set[int]:
    """Ids that end a spoken answer of models that only read aloud."""
    vocabulary = processor.vocabulary_out
    found = None if vocabulary is None else vocabulary.roles.get("end_of_ai")
    return set() if found is None else {found}


def _teacher(rendering: Rendering) -> Iterator[Finding]:
    """Whether student and teacher read different things and answer with the same."""
    if rendering.teacher_ids == rendering.input_ids:
        yield Finding(
            "teacher_equals_student", f"the same {len(rendering.input_ids)} tokens", "a clip for the student"
        )
    ours, theirs = rendering.learned(), rendering.learned("teacher")
    if ours != theirs:
        seen = f"{len(ours)} learned tokens, the teacher has {len(theirs)}"
        if len(ours) == len(theirs):
            seen = f"{sum(a != b for a, b in zip(ours, theirs, strict=True))} of {len(ours)} tokens differ"
        yield Finding("teacher_differs", seen, "the same answer, token for token")


def _spelled(processor: Any, ids: Sequence[int], at: int) -> str:
    """A token as people read it."""
    if at >= len(ids):
        return "nothing"
    return repr(processor.tokenizer.decode([ids[at]])) if processor is not None else f"id {ids[at]}"
