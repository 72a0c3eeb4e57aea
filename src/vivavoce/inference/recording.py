"""A recording of the user while it comes in, and the tokens of the prompt in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch

from vivavoce.codecs.contract import Codes
from vivavoce.inference.heard_clips import Entry
from vivavoce.inference.kept import Chunk
from vivavoce.inference.listening import Listener
from vivavoce.models.processor import SpeechProcessor


class IncomingRecording:
    """A recording that is coming in.

    Args:
        ears: Hears it.
        sample_rate: Of its chunks, Hz.
        before: Tokens of the prompt in front of it.
        chunks_before: Audio among them.
    """

    def __init__(
        self, ears: Listener, sample_rate: int, before: list[int], chunks_before: list[Chunk]
    ) -> None:
        self.ears, self.sample_rate = ears, sample_rate
        self.begin_again(before, chunks_before)
        self._pieces: list[np.ndarray] = []

    def begin_again(self, before: list[int], chunks_before: list[Chunk]) -> None:
        """Take what is now in front of it; nothing has been read of it after that."""
        self.before, self.chunks_before, self.num_read = before, chunks_before, 0

    def push(self, chunk: np.ndarray) -> None:
        """Take float32 [S]."""
        self._pieces.append(chunk)
        self.ears.push(chunk)

    def prompt(self, placeholder: int | None) -> tuple[list[int], list[Chunk]]:
        """The prompt as far as it is final, and its audio; the placeholder stands for embeddings."""
        new = self.ears.chunks()
        ids = [*self.before, *self.ears.ids()]
        if new:
            assert placeholder is not None
            ids += [placeholder] * sum(chunk.count for chunk in new)
        return ids, [*self.chunks_before, *new]

    def part(self) -> dict[str, Any]:
        """The whole as an audio part of a message."""
        wave = np.concatenate(self._pieces)
        return {"type": "audio", "audio": wave, "sampling_rate": self.sample_rate}


def tokens_before(
    processor: SpeechProcessor,
    messages: Sequence[Mapping[str, Any]],
    entries: Sequence[Entry],
    chunks: Sequence[Chunk],
) -> list[int]:
    """The tokens before a recording that begins now, as far as they are certain.

    Args:
        processor: Of the model.
        messages: Prepared; their last audio part stands for the recording.
        entries: What all earlier clips become in the prompt.
        chunks: Their audio.
    """
    vocabulary = processor.vocabulary_in

    def render(entry: Entry) -> list[int]:
        ids: list[int] = processor.prepare(messages, entries=[*entries, entry])["input_ids"]
        return ids

    if vocabulary is None:
        ids, placeholder = render(1), processor.audio_token_id
        places = [i for i, token in enumerate(ids) if token == placeholder]
        return ids[: places[sum(chunk.count for chunk in chunks)]]
    samples, per_level = vocabulary.frame_samples, vocabulary.codes_per_level
    frames = [
        Codes([torch.full((1, n), code) for n in per_level], [samples]) for code in (0, 1)
    ]  # two recordings that differ from their first token on
    one, other = (render(vocabulary.to_ids(codes)) for codes in frames)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return one[: same - 1]  # the start of audio is the recording's
