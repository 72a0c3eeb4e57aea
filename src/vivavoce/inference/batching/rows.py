"""What is fed to a backbone: rows of tokens, each for one sequence, and what comes back.

Letters: n new positions, L positions, D width, V vocabulary.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivavoce.base.errors import SessionError

SMALLEST = 64  # positions a new cache has room for
JOINED = 32  # rows of so many new positions at most go together with others


def room_for(length: int) -> int:
    """Positions to reserve for ``length`` of them: a power of two, so that growing copies each one twice at most."""
    return max(SMALLEST, 1 << (length - 1).bit_length()) if length > 0 else SMALLEST


class CachedSequence(ABC):
    """The keys and values of one sequence; it owns them and nobody else does.

    Args:
        backbone: Reads it.

    Attributes:
        length: Positions that are in it.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.length, self.closed = backbone, 0, False

    def check_open(self) -> None:
        """Refuse to go on with a sequence that was given back.

        Raises:
            SessionError: It was.
        """
        if self.closed:
            raise SessionError("this sequence was closed and its cache given back; open a new one.")

    def close(self) -> None:
        """Give the memory back at once."""
        self.closed, self.length = True, 0
        self.clear()

    @abstractmethod
    def crop(self, length: int) -> int:
        """Forget all but the first ``length`` positions; returns how many are left: ``length``, or 0."""

    @abstractmethod
    def fork(self) -> CachedSequence:
        """Another sequence that begins like this one."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything and free the memory."""


@dataclass(eq=False, slots=True)
class Row:
    """New positions of one sequence.

    Attributes:
        sequence: Where they go.
        ids: Their tokens, or None if they are given as
        embeddings: float [n, D].
        keep: Give results for so many last positions, at least 1.
        logits: Give logits [keep, V]; else the last layer's normed states [keep, D].
    """

    sequence: Any
    ids: SequenceOf[int] | None = None
    embeddings: Tensor | None = None
    keep: int = 1
    logits: bool = True

    def __len__(self) -> int:
        return len(self.ids) if self.ids is not None else len(self.embeddings)  # type: ignore[arg-type]


class Backbone(ABC):
    """Runs rows through a causal LM.

    It holds the LM weakly, so that it may be remembered beside it.

    Args:
        language_model: A causal LM of transformers.
    """

    def __init__(self, language_model: Any) -> None:
        self._model = weakref.ref(language_model)

    @property
    def language_model(self) -> Any:
        found = self._model()
        assert found is not None, "the model is gone"
        return found

    @abstractmethod
    def open(self) -> CachedSequence:
        """An empty sequence."""

    @abstractmethod
    def joins(self, row: Row) -> bool:
        """Whether a row may go together with others."""

    @abstractmethod
    def fits(self) -> bool:
        """Whether the LM is still as it was when this was made."""

    @abstractmethod
    def forward(self, rows: list[Row]) -> list[Tensor]:
        """Feed rows of different sequences; a row gets the numbers it would get alone.

        If it raises, no sequence has changed, or the ones that have are closed.
        """

    def embedded(self, row: Row) -> Tensor:
        """The embeddings of a row, float [n, D]."""
        if row.embeddings is not None:
            return row.embeddings
        table = self.language_model.get_input_embeddings()
        return table(torch.tensor(list(row.ids or ()), device=table.weight.device))
