"""What metrics score: one item is what a system gave for one input, and what is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vivavoce.base.errors import DataError


class Sound(NamedTuple):
    """A recording.

    Attributes:
        waveform: float [S] within -1 and 1.
        sample_rate: Hz.
    """

    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True)
class Item:
    """One input of a test set with its answer.

    Attributes:
        id: Unique in the set; systems are compared by it.
        hypothesis: What the system wrote; None where it gave nothing, which counts as a failure.
        references: What is right; metrics that take only one say so.
        language: ISO 639-1, a region may follow ("en", "pt-BR").
        question: What was asked, as a judge reads it.
        audio: What the system spoke, or the codec gave back.
        reference_audio: The recording that went into the codec.
        choices: Texts of a multiple choice in the order of the letters A, B, ...
        checks: Instructions to follow, `instructions.CHECKS`: ``{"kind": "max_words", "value": 50}``.
        cluster: Items of one cluster (a dialogue, a speaker) are drawn together, as they are not independent;
            None for an item that stands alone.
        speaker: Who speaks the input.
        duration_s: Of the input.
        snr_db: Signal to noise ratio of the input.
    """

    id: str
    hypothesis: str | None = None
    references: tuple[str, ...] = ()
    language: str | None = None
    question: str = ""
    audio: Sound | None = None
    reference_audio: Sound | None = None
    choices: tuple[str, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    cluster: str | None = None
    speaker: str | None = None
    duration_s: float | None = None
    snr_db: float | None = None


def checked(items: Sequence[Item], metric: str, num_references: int | None = 1) -> list[Item]:
    """Refuse what no metric can score.

    Args:
        items: To be scored.
        metric: Its name, for messages.
        num_references: How many each item needs; 0 for none or any, None for at least one.

    Raises:
        DataError: No items, ids that are not unique, or items without the references.
    """
    items = list(items)
    if not items:
        raise DataError(f"{metric} got no items; wanted one or more.")
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise DataError(
            f"{metric}: {len(twice)} ids stand more than once, first {twice[0]!r}; make them unique."
        )
    if num_references is None:
        bad = [item for item in items if not item.references]
        wanted = "one or more"
    else:
        bad = [item for item in items if num_references and len(item.references) != num_references]
        wanted = str(num_references)
    if bad:
        raise DataError(
            f"{metric}: {len(bad)} of {len(items)} items have a wrong number of references, first "
            f"{bad[0].id!r} with {len(bad[0].references)}; wanted {wanted}."
        )
    return items


def base_language(item: Item, default: str | None, metric: str) -> str:
    """The item's language without region ("pt" of "pt-BR").

    Raises:
        DataError: Neither the item nor the metric names one.
    """
    language = item.language or default
    if not language:
        raise DataError(
            f"{metric}: item {item.id!r} has no language; set it in the item or as the metric's language."
        )
    return language.replace("_", "-").split("-")[0].lower()
