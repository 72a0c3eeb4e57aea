"""What a session has read already: a key-value cache that is checked against every new prompt before it is used.

Whatever was read early (history, a question that is still being spoken) counts only as far as the whole prompt, made
as for a single answer, begins with the same tokens and the same sound. The rest is cut off and read again. So a kept
cache can save time and never change an answer.

Letters: V vocabulary, M mel bins, T mel frames, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.inference.batching.calls import Calls
from vivavoce.inference.block_ears import BlockEars, first_difference
from vivavoce.inference.generate import Decoding
from vivavoce.models.hearing import HeardAudio
from vivavoce.models.speech_lm import SpeechLM


@dataclass(frozen=True, eq=False)
class Chunk:
    """A piece of a clip that goes through the encoder in one pass.

    Attributes:
        features: float32 [M, T] or [S]; past ``length`` only where the reference pads.
        length: True frames or samples.
        count: Embeddings to read of it; fewer than it has while the rest is not final.
    """

    features: Tensor
    length: int
    count: int


class KeptPrompt:
    """One growing conversation in the cache of a model.

    Args:
        model: The speech LM.
        final_count: Frames or samples of a chunk that are known -> embeddings that no later one can change. None if
            an embedding depends on its whole chunk.
        calls: Runs the model; default at once.

    Attributes:
        decoding: The sequence; answers are written into it.
        num_read: Positions that were read, in all; for measurements.
    """

    def __init__(
        self,
        model: SpeechLM,
        final_count: Callable[[int], int] | None = None,
        calls: Calls | None = None,
    ) -> None:
        self.model, self._final_count = model, final_count
        self.decoding = Decoding(model, calls)
        self.num_read = 0
        self._growing = BlockEars(model) if final_count is not None else None
        self._chunks: list[Chunk] = []
        self._logits: tuple[list[int], Tensor] | None = None

    def clear(self) -> None:
        """Forget everything and free the memory."""
        self.decoding.clear()
        self._chunks, self._logits = [], None
        self.end_recording()

    def end_recording(self) -> None:
        """Free what was kept so that a recording could grow."""
        if self._growing is not None:
            self._growing.clear()

    def read(
        self, ids: Sequence[int], chunks: Sequence[Chunk] = (), hear_last: int = 0
    ) -> tuple[Tensor, HeardAudio | None]:
        """Read a prompt as far as it is not in the cache.

        Args:
            ids: The whole prompt.
            chunks: All its audio, in order; their counts add up to its placeholders.
            hear_last: So many of the last chunks are heard now in any case, and the encoder's states given.

        Returns:
            float [V], the logits after the prompt, and what was heard now.

        Raises:
            ModelError: Placeholders and audio differ in number.
        """
        try:
            return self._read(list(ids), list(chunks), hear_last)
        except BaseException:  # the cache may have been written in part
            self.clear()
            raise

    def trim(self, ids: Sequence[int], chunks: Sequence[Chunk] = ()) -> None:
        """Cut off what is not the beginning of this prompt."""
        self._crop(self._common(list(ids), list(chunks)), self._starts(ids, chunks))

    @torch.inference_mode()
    def _read(self, ids: list[int], chunks: list[Chunk], hear_last: int) -> tuple[Tensor, HeardAudio | None]:
        starts = self._starts(ids, chunks)
        kept = self._common(ids, chunks)
        if hear_last and chunks:
            kept = min(kept, starts[-min(hear_last, len(chunks))])
        if kept == len(ids):
            if self._logits is not None and self._logits[0] == ids == self.decoding.ids:
                return self._logits[1], None
            kept -= 1
        kept = self._crop(kept, starts)
        new = [i for i, chunk in enumerate(chunks) if starts[i] + chunk.count > kept]
        heard = self._hear([chunks[i] for i in new], hear_last > 0)
        rows = []
        for row, i in enumerate(new):
            assert heard is not None
            rows.append(heard.embeddings[row, max(0, kept - starts[i]) : chunks[i].count])
        logits = self.decoding.feed(ids[kept:], _joined(heard, rows))
        self.num_read += len(ids) - kept
        self._chunks, self._logits = chunks, (ids, logits)
        return logits, heard

    def _hear(self, chunks: list[Chunk], keep_states: bool) -> HeardAudio | None:
        if not chunks:
            return None
        ears = self._growing
        if ears is not None and not keep_states:
            found = [self.decoding.calls.do(partial(ears.hear, c.features[..., : c.length])) for c in chunks]
            counts = torch.tensor([len(rows) for rows in found], device=found[0].device)
            embeddings = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
            return HeardAudio(embeddings[:, :0], counts, embeddings, counts)
        width = max(chunk.features.shape[-1] for chunk in chunks)
        features = [F.pad(chunk.features, (0, width - chunk.features.shape[-1])) for chunk in chunks]
        lengths = torch.tensor([chunk.length for chunk in chunks])
        return self.decoding.calls.hear(torch.stack(features), lengths, keep_states)

    def _starts(self, ids: Sequence[int], chunks: Sequence[Chunk]) -> list[int]:
        """First position of each chunk."""
        placeholder = self.model.config.audio_token_id
        places = [i for i, token in enumerate(ids) if token == placeholder] if chunks else []
        starts, at = [], 0
        for chunk in chunks:
            starts.append(places[at] if at < len(places) else len(ids))
            at += chunk.count
        return starts

    def _common(self, ids: list[int], chunks: list[Chunk]) -> int:
        """Positions of the cache that are as this prompt has them."""
        known = self.decoding.ids
        same = next(
            (i for i, (a, b) in enumerate(zip(known, ids, strict=False)) if a != b), min(len(known), len(ids))
        )
        for old, new, start in zip(self._chunks, chunks, self._starts(ids, chunks), strict=False):
            good = self._good(old, new)
            if good < old.count or old.count != new.count:
                return min(same, start + min(good, new.count))
        return same

    def _good(self, old: Chunk, new: Chunk) -> int:
        """Embeddings in the cache that are right for ``new``."""
        if old is new:
            return old.count
        if old.length == new.length and old.features.shape == new.features.shape:
            first = first_difference(old.features, new.features)
            if first == old.features.shape[-1]:
                return old.count
        if self._final_count is None:
            return 0
        width = min(old.length, new.length)
        return min(
            old.count,
            self._final_count(first_difference(old.features[..., :width], new.features[..., :width])),
        )

    def _crop(self, length: int, starts: list[int]) -> int:
        """Cut the cache to ``length`` or less; the chunks that are left begin at ``starts``."""
        length = self.decoding.crop(length)
        pairs = zip(self._chunks, starts, strict=False)
        self._chunks = [replace(c, count=min(c.count, length - s)) for c, s in pairs if s < length]
        return length


def _joined(heard: HeardAudio | None, rows: list[Tensor]) -> HeardAudio | None:
    """What was heard with those embeddings only that are to be read."""
    if heard is None:
        return None
    counts = torch.tensor([len(row) for row in rows], device=heard.counts.device)
    embeddings = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return HeardAudio(heard.states, heard.frames, embeddings, counts)
