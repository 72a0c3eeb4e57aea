"""The recordings of a conversation as a model reads them, each read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from vivavoce.inference.kept import Chunk
from vivavoce.models.audio_parts import is_audio
from vivavoce.models.clips import ClipInputs, ClipReader
from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.processor import SpeechProcessor

Entry = list[int] | int


@dataclass
class HeardClip:
    """One recording: its samples as the model hears them, and what they become in the prompt."""

    source: Any
    wave: np.ndarray | None
    entry: Entry
    chunks: list[Chunk]


class HeardClips:
    """Remembers audio parts by the object that holds their samples.

    Args:
        processor: Of the model.
    """

    def __init__(self, processor: SpeechProcessor) -> None:
        self._processor = processor
        self._known: dict[tuple[Any, ...], HeardClip] = {}

    def remember(self, part: Mapping[str, Any], ids: list[int]) -> None:
        """Take the sound tokens of a part that were made while it was spoken."""
        self._known[_key(part)] = HeardClip(_source(part), None, ids, [])

    def keep(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Forget all other clips."""
        wanted = {_key(part) for part in parts}
        self._known = {key: clip for key, clip in self._known.items() if key in wanted}

    def entries(self, parts: Sequence[Mapping[str, Any]]) -> tuple[list[Entry], list[Chunk]]:
        """What clips become in a prompt (sound tokens, or a number of positions), and their chunks in order.

        Raises:
            AudioError: A clip that cannot be used.
            ModelError: The model does not hear.
        """
        found = [self._clip(part) for part in parts]
        ears = self._processor.ears
        if isinstance(ears, EmbeddingsIn) and ears.reference_padding and found:
            # as its reference pads: a clip's features hang on the longest beside it
            reader = self._processor.clip_reader
            read = reader.read([clip.wave for clip in found if clip.wave is not None])
            return list(read.positions), _chunks(read, reader, whole_rows=True)
        return [clip.entry for clip in found], [chunk for clip in found for chunk in clip.chunks]

    def _clip(self, part: Mapping[str, Any]) -> HeardClip:
        key = _key(part)
        if key not in self._known:
            processor, source = self._processor, _source(part)
            wave = processor.read_clip(part)
            if isinstance(processor.ears, EmbeddingsIn):
                reader = processor.clip_reader
                read = reader.read([wave])
                clip = HeardClip(source, wave, read.positions[0], _chunks(read, reader, whole_rows=False))
            else:
                clip = HeardClip(source, wave, processor.audio_ids(wave), [])
            self._known[key] = clip
        return self._known[key]


def audio_parts_of(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All audio parts in reading order."""
    contents = [message.get("content") for message in messages]
    return [p for content in contents if isinstance(content, list | tuple) for p in content if is_audio(p)]


def _chunks(read: ClipInputs, reader: ClipReader, whole_rows: bool) -> list[Chunk]:
    counts = reader.num_embeddings(read.lengths)
    ends = [0, *accumulate(read.chunks)]  # a chunk has its own count, their sum is its clip's
    assert [sum(counts[a:b]) for a, b in pairwise(ends)] == read.positions
    return [
        Chunk(row if whole_rows else row[..., :length], length, count)
        for row, length, count in zip(read.features, read.lengths.tolist(), counts, strict=True)
    ]


def _source(part: Mapping[str, Any]) -> Any:
    names = ("audio", "input_audio", "audio_url", "path", "url", "bytes", "array")
    return next((part[name] for name in names if part.get(name) is not None), part)


def _key(part: Mapping[str, Any]) -> tuple[Any, ...]:
    return id(_source(part)), part.get("start"), part.get("end")
