"""One row of data as a document: what a model reads of it and how much it learns at each position.

Letters: L positions, N chunks of clips, M mel bins, T feature frames, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.data.reader.reading import Sample
from vivavoce.models.clips import ClipInputs
from vivavoce.models.config import TokensOut
from vivavoce.training.rendering import Rendering, render_row

EMBEDDED, TEXT, MARKER, FIRST_SLOT = -1, 0, 1, 2


@dataclass
class Document:
    """What one row gives a model to read.

    Attributes:
        id: Of the row.
        source: Name of the set it is of.
        input_ids: int64 [L], one placeholder for each embedding of a clip.
        weights: float32 [L], how much predicting the token at a position counts; 0 at the first, which nothing
            predicts.
        kinds: int8 [L], what each token is: ``EMBEDDED``, ``TEXT``, ``MARKER`` (start or end of audio), or
            ``FIRST_SLOT + s`` for the code of slot s of a frame.
        features: What the encoder hears, [N, M, T] or [N, S], with its lengths; None without clips as embeddings.
        audio_s: Seconds of audio, heard and spoken.
        teacher: int64 [L'] ids and float32 [L'] weights of what the teacher reads, for distillation.
    """

    id: str
    source: str
    input_ids: np.ndarray
    weights: np.ndarray
    kinds: np.ndarray
    features: ClipInputs | None = None
    audio_s: float = 0.0
    teacher: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


def make_document(
    sample: Sample, processor: Any, objective: str = "sft", root: Path | None = None
) -> Document:
    """Make a row into a document, by what renders rows for people to look at.

    Args:
        sample: A row and its waveforms. Parts without a waveform are read from ``root``, if their codes are not in the
            row. Waveforms at a file's own rate are resampled as at inference; give the reader no ``sample_rate``.
        processor: Of the model, a ``SpeechProcessor``. Its codec runs where the row has no codes.
        objective: As in ``render_row``.
        root: Where relative paths start.

    Raises:
        DataError: Nothing of the row is learned.
        VivavoceError: Why the model cannot read the row, as in ``render_row``.
    """
    found = render_row(sample.row, processor, objective, root=root, encode=True, waveforms=sample.waveforms)
    weights = np.array(found.weights, dtype=np.float32)
    weights[:1] = 0.0
    if not (weights > 0).any():
        raise DataError(f"row {sample.row.id!r} has nothing to learn by {objective!r}; leave it out.")
    teacher = None
    if found.teacher_ids is not None:
        teacher = np.array(found.teacher_ids), np.array(found.teacher_weights, dtype=np.float32)
    return Document(
        sample.row.id,
        sample.source,
        np.array(found.input_ids, dtype=np.int64),
        weights,
        kinds_of(found, processor),
        found.heard,
        sum(found.clips[span.index].seconds or 0.0 for span in found.spans),
        teacher,
    )


def kinds_of(rendering: Rendering, processor: Any) -> np.ndarray:
    """What each token of a row is, int8 [L]; see ``Document``."""
    kinds = np.full(len(rendering.input_ids), TEXT, dtype=np.int8)
    for span in rendering.spans:
        inside = slice(span.start, span.start + span.length)
        if span.embedded:
            kinds[inside] = EMBEDDED
            continue
        spoken = isinstance(processor.mouth, TokensOut) and rendering.clips[span.index].role == "assistant"
        vocabulary = processor.vocabulary_out if spoken else processor.vocabulary_in
        kinds[inside] = FIRST_SLOT + (np.arange(span.length) - 1) % vocabulary.flattening.period
        kinds[[span.start, span.start + span.length - 1]] = MARKER
    return kinds
