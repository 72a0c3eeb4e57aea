"""Documents side by side in one row: a batch without padding.

Letters: L positions, N chunks of clips, M mel bins, T feature frames, S samples, n learned positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.training.documents import EMBEDDED, Document
from vivavoce.training.packed_attention import length_arguments

TooLong = Literal["skip", "cut", "split"]


@dataclass
class PackedText:
    """Documents one after the other.

    Attributes:
        input_ids: int64 [1, L].
        position_ids: int64 [1, L], from 0 in every document.
        lengths: Of the documents; their sum is L.
        borders: int32 [documents + 1], 0 and the sums of lengths.
        weights: float32 [1, L], of predicting the token at a position; 0 at the first of every document.
        learned: int64 [n], positions with a weight above 0, rising. The model predicts them one position before.
        ends: int64, places in ``learned`` of the last learned position of each document that has one.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[int, ...]
    borders: Tensor
    weights: Tensor
    learned: Tensor
    ends: Tensor

    @property
    def num_tokens(self) -> int:
        return int(self.input_ids.shape[1])

    @property
    def num_learned(self) -> int:
        return len(self.learned)

    def targets(self) -> Tensor:
        """The tokens at learned positions, int64 [n]."""
        return self.input_ids[0, self.learned]

    def inputs(self) -> dict[str, Any]:
        """Arguments of a causal LM's forward."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "use_cache": False,
            **length_arguments(self.lengths, self.borders),
        }

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor | PackedText)
        }
        return replace(self, **moved)


@dataclass
class PackedBatch(PackedText):
    """What one pass of the model reads.

    Attributes:
        kinds: int8 [1, L], as in ``Document``.
        input_features: float32 [N, M, T] or [N, S], of all clips in reading order; None without.
        feature_lengths: int64 [N], true frames or samples.
        teacher: What the teacher reads, for distillation; learned positions pair up with these in order.
        audio_s: Seconds of audio, heard and spoken.
        ids: Of the documents.
        sources: Of the documents.
        padding: Positions at the end that fill up; they are a document of their own without weight.
    """

    kinds: Tensor
    input_features: Tensor | None = None
    feature_lengths: Tensor | None = None
    teacher: PackedText | None = None
    audio_s: float = 0.0
    ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    padding: int = 0

    def inputs(self) -> dict[str, Any]:
        """Arguments of a speech LM's forward."""
        made = super().inputs()
        if self.input_features is not None:
            made |= {"input_features": self.input_features, "feature_lengths": self.feature_lengths}
        return made


def pack(documents: Sequence[Document], max_tokens: int, max_audio_s: float | None = None) -> list[list[int]]:
    """Say which documents share a row: the longest first, each in the first row that has room.

    Args:
        documents: None longer than ``max_tokens``; see ``fit``.
        max_tokens: Most positions in a row.
        max_audio_s: Most seconds of audio in a row; a document with more goes alone.

    Returns:
        Rows of indices. Every document is in one row; rows and what is in them are in the order of the documents.

    Raises:
        ConfigError: A document is too long, or a limit is out of range.
    """
    if max_tokens < 1 or (max_audio_s is not None and not max_audio_s > 0):
        raise ConfigError(f"max_tokens is {max_tokens}, max_audio_s {max_audio_s}; wanted above 0.")
    rows: list[list[int]] = []
    room: list[tuple[int, float]] = []
    for i in sorted(range(len(documents)), key=lambda i: (-len(documents[i].input_ids), i)):
        tokens, seconds = len(documents[i].input_ids), documents[i].audio_s
        if tokens > max_tokens:
            raise ConfigError(
                f"document {documents[i].id!r} has {tokens} tokens, a row {max_tokens}; fit() it first."
            )
        at = next(
            (r for r, (free, left) in enumerate(room) if tokens <= free and (not seconds or seconds <= left)),
            len(rows),
        )
        if at == len(rows):
            rows.append([])
            room.append((max_tokens, float("inf") if max_audio_s is None else max_audio_s))
        rows[at].append(i)
        room[at] = (room[at][0] - tokens, room[at][1] - seconds)
    return sorted(sorted(row) for row in rows)


def fit(document: Document, max_tokens: int, how: TooLong = "skip") -> list[Document]:
    """Make a document no longer than a row.

    Args:
        document: Not changed.
        max_tokens: Most positions.
        how: For one that is longer. "skip" leaves it out. "cut" keeps its beginning. "split" makes several documents;
            each begins with the last token of the one before, so that every learned token is learned once.

    Returns:
        Documents; none for "skip".

    Raises:
        ConfigError: ``how`` or ``max_tokens`` is out of range.
        DataError: Cutting would part a clip from its embeddings or leave nothing to learn; or splitting would part
            documents of a teacher, or those with clips as embeddings.
    """
    if how not in ("skip", "cut", "split") or max_tokens < 2:
        raise ConfigError(
            f"how is {how!r}, max_tokens {max_tokens}; wanted 'skip', 'cut' or 'split', and 2 or more."
        )
    size = len(document.input_ids)
    if size <= max_tokens:
        return [document]
    if how == "skip":
        return []
    name = f"document {document.id!r} of {size} tokens"
    if how == "cut":
        return [_cut(document, max_tokens, name)]
    if document.features is not None or document.teacher is not None:
        raise DataError(
            f"{name} cannot be split into {max_tokens}: it has clips as embeddings, or a teacher. Skip it, or allow "
            "more tokens."
        )
    made = []
    for number, start in enumerate(range(0, size - 1, max_tokens - 1)):
        ids, weights, kinds = (
            getattr(document, name)[start : start + max_tokens].copy()
            for name in ("input_ids", "weights", "kinds")
        )
        weights[0] = 0.0
        made.append(
            replace(
                document, id=f"{document.id}/{number}", input_ids=ids, weights=weights, kinds=kinds,
                audio_s=document.audio_s * (len(ids) - (number > 0)) / size,
            )
        )  # fmt: skip
    return made


def _cut(document: Document, size: int, name: str) -> Document:
    if (document.kinds[size:] == EMBEDDED).any():
        raise DataError(
            f"{name} cannot be cut to {size}: a clip is behind that. Skip it, or allow more tokens."
        )
    kept = int((document.weights[:size] > 0).sum())
    if not kept:
        raise DataError(f"{name} has nothing to learn in its first {size}. Skip it, or allow more tokens.")
    teacher = document.teacher
    if teacher is not None:
        until = int(np.flatnonzero(teacher[1] > 0)[kept - 1]) + 1
        teacher = (teacher[0][:until], teacher[1][:until])
    return replace(
        document,
        input_ids=document.input_ids[:size],
        weights=document.weights[:size],
        kinds=document.kinds[:size],
        teacher=teacher,
    )


def make_batch(
    documents: Sequence[Document], chain: bool = False, pad_to: int | None = None, pad_id: int = 0
) -> PackedBatch:
    """Put documents into one row.

    Args:
        documents: At least one; all with a teacher or none.
        chain: As if they were one document: positions run on and attention crosses borders, as Orpheus was trained.
        pad_to: Fill the row up to a multiple of this, so that compiled code meets few lengths.
        pad_id: What it is filled with; not the placeholder of embeddings.

    Raises:
        ConfigError: No documents, or ``pad_to`` below 1.
        DataError: A student learns other tokens than its teacher, or only some documents have a teacher.
    """
    if not documents or (pad_to is not None and pad_to < 1):
        raise ConfigError(f"{len(documents)} documents, pad_to is {pad_to}; wanted 1 or more.")
    text = _text([(d.input_ids, d.weights) for d in documents], chain, pad_to, pad_id)
    padding = text.num_tokens - sum(len(d.input_ids) for d in documents)
    kinds = torch.from_numpy(np.concatenate([d.kinds for d in documents]).astype(np.int8))
    heard = [d.features for d in documents if d.features is not None]
    teacher = None
    read = [d.teacher for d in documents if d.teacher is not None]
    if read:
        _check_pairs(documents)
        teacher = _text(read, chain, pad_to, pad_id)
    return PackedBatch(
        **vars(text),
        kinds=F.pad(kinds, (0, padding))[None],
        input_features=_joined([f.features for f in heard]) if heard else None,
        feature_lengths=torch.cat([f.lengths for f in heard]) if heard else None,
        teacher=teacher,
        audio_s=sum(d.audio_s for d in documents),
        ids=tuple(d.id for d in documents),
        sources=tuple(d.source for d in documents),
        padding=padding,
    )


def blank(pad_id: int, teacher: bool = False) -> PackedBatch:
    """A batch without anything to learn, for a process that has no more batches while others have.

    Its loss is 0 and so are its gradients; every layer of the language model runs, as sharded models must.

    Args:
        pad_id: What it is filled with.
        teacher: Whether it has one, for distillation.
    """
    ids, weights = np.full(2, pad_id), np.zeros(2, dtype=np.float32)
    kinds = np.zeros(2, dtype=np.int8)
    return make_batch([Document("", "", ids, weights, kinds, teacher=(ids, weights) if teacher else None)])


def _text(
    rows: Iterable[tuple[np.ndarray, np.ndarray]], chain: bool, pad_to: int | None, pad_id: int
) -> PackedText:
    pairs = list(rows)
    ids = np.concatenate([ids for ids, _ in pairs]).astype(np.int64)
    weights = np.concatenate([weights for _, weights in pairs]).astype(np.float32)
    own = [len(ids) for ids, _ in pairs]
    starts = [0, *accumulate(own)]
    weights[[s for s, size in zip(starts, own, strict=False) if size]] = 0.0
    learned = np.flatnonzero(weights > 0)
    until = np.searchsorted(learned, starts)
    ends = [int(b) - 1 for a, b in pairwise(until) if b > a]
    lengths = [len(ids)] if chain else own
    padding = -len(ids) % pad_to if pad_to else 0
    if padding:
        lengths = [*lengths, padding]
    positions = np.concatenate([np.arange(size) for size in lengths])
    return PackedText(
        torch.from_numpy(np.pad(ids, (0, padding), constant_values=pad_id))[None],
        torch.from_numpy(positions)[None],
        tuple(lengths),
        torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
        torch.from_numpy(np.pad(weights, (0, padding)))[None],
        torch.from_numpy(learned),
        torch.tensor(ends, dtype=torch.int64),
    )


def _joined(features: Sequence[Tensor]) -> Tensor:
    """Features of several documents, filled up with zeros to the longest."""
    longest = max(f.shape[-1] for f in features)
    return torch.cat([F.pad(f, (0, longest - f.shape[-1])) for f in features])


def _check_pairs(documents: Sequence[Document]) -> None:
    for document in documents:
        if document.teacher is None:
            raise DataError(f"document {document.id!r} has no teacher, and others of its batch have one.")
        wanted, given = document.input_ids[document.weights > 0], document.teacher[0][document.teacher[1] > 0]
        if not np.array_equal(wanted, given):
            raise DataError(
                f"document {document.id!r}: the student learns {len(wanted)} tokens, the teacher {len(given)}, and "
                "they are not the same; make both by make_document."
            )
