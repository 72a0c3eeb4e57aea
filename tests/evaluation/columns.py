"""Items of metrics from columns of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vivavoce.evaluation.items import Item


def make_items(
    hypotheses: Sequence[str | None],
    references: Sequence[str | Sequence[str]] | None = None,
    all_language: str | None = None,
    **columns: Sequence[Any],
) -> list[Item]:
    """One item for each hypothesis, numbered from 0; columns are further fields of `Item`."""
    assert all(len(column) == len(hypotheses) for column in columns.values())
    right: Sequence[str | Sequence[str]] = [()] * len(hypotheses) if references is None else references
    made = []
    for index, (hypothesis, texts) in enumerate(zip(hypotheses, right, strict=True)):
        row = {"id": str(index), "language": all_language}
        row |= {name: column[index] for name, column in columns.items()}
        several = (texts,) if isinstance(texts, str) else tuple(texts)
        made.append(Item(hypothesis=hypothesis, references=several, **row))
    return made
