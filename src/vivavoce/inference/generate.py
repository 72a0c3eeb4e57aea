"""The token loop: one sequence, one cache, one id at a time.

Letters: L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vivavoce.base.errors import SessionError
from vivavoce.inference.batching.calls import Calls
from vivavoce.inference.batching.rows import CachedSequence, Row
from vivavoce.inference.finish import TokenLogprob
from vivavoce.inference.sampling import Sampler
from vivavoce.models.speech_lm import HeardAudio, SpeechLM


class Constraint(Protocol):
    """Says which tokens may come next."""

    def allowed(self) -> Tensor | None:
        """bool [V], or None if everything may come."""

    def advance(self, token_id: int) -> None:
        """Take note of the token that was chosen."""


class Decoding:
    """One sequence in the key-value cache of a model.

    Prefill and single steps give the logits that one pass over the whole sequence would give, whatever else goes
    through the model at that moment. Memory is taken by the first ``feed``.

    Args:
        model: The speech LM.
        calls: Runs the model; default at once, in this thread.

    Attributes:
        ids: Everything the model has read, placeholders of audio included.
    """

    def __init__(self, model: SpeechLM, calls: Calls | None = None) -> None:
        self.model, self.calls = model, calls or Calls(model)
        self.ids: list[int] = []
        self._sequence: CachedSequence | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sequence(self) -> CachedSequence:
        """Its keys and values."""
        if self._sequence is None:
            self._sequence = self.calls.open()
        return self._sequence

    def feed(self, ids: Sequence[int], heard: HeardAudio | None = None) -> Tensor:
        """Read more tokens.

        Args:
            ids: At least one token id.
            heard: Audio for the placeholders among ``ids``.

        Returns:
            float [V], the logits after the last of them.

        Raises:
            SessionError: ``ids`` is empty.
            ModelError: Placeholders and audio differ in number.
        """
        if not len(ids):
            raise SessionError("nothing to read: feed needs at least one token.")
        if heard is None and self.model.config.audio_token_id not in ids:
            row = Row(self.sequence, ids)
        else:
            tokens = torch.tensor([list(ids)], device=self.model.device)
            embeddings = self.calls.do(lambda: self.model.embed(tokens, heard))
            row = Row(self.sequence, embeddings=embeddings[0])
        logits = self.calls.feed([row])[0][-1]
        self.ids += [int(i) for i in ids]
        return logits

    def fork(self) -> Decoding:
        """Another sequence that begins like this one."""
        other = Decoding(self.model, self.calls)
        other.ids, other._sequence = list(self.ids), self.calls.fork(self.sequence)
        return other

    def crop(self, length: int) -> int:
        """Forget all but the first ``length`` positions, and free their memory.

        A cache that does not hold every position (sliding windows, linear attention) cannot be cut and is dropped:
        the caller then reads from the beginning, which costs time and changes no number.

        Returns:
            Positions that are left: ``length``, or 0.
        """
        if length >= len(self.ids):
            return len(self.ids)
        left = self.calls.do(lambda: self.sequence.crop(length)) if length > 0 else 0
        if not left:
            self.clear()
        del self.ids[left:]
        return left

    def clear(self) -> None:
        """Forget everything and give the memory back; the next ``feed`` begins anew."""
        self.close()
        self._sequence, self.ids = None, []

    def close(self) -> None:
        """Give the memory back; nothing can be fed any more."""
        if self._sequence is not None:
            self._sequence.close()


class TokenRun:
    """Iterates over the tokens of one answer as they are drawn.

    A stop token ends the run; it is neither returned nor fed to the model. The token loop is lazy: the model
    reads a token only when the next one is asked for.

    Args:
        decoding: The sequence so far.
        logits: float [V], from the last ``feed``.
        sampler: Draws the tokens.
        stop_ids: Ids that end the run.
        max_new_tokens: Most tokens of the run.
        constraint: Which tokens may come; None allows all.

    Attributes:
        stopped_by: The stop id that ended the run; None if the limit or the caller did.
        num_tokens: Tokens returned so far.
        logprob: Of the token returned last, if the options ask for it.
    """

    def __init__(
        self,
        decoding: Decoding,
        logits: Tensor,
        sampler: Sampler,
        stop_ids: Collection[int],
        max_new_tokens: int,
        constraint: Constraint | None = None,
    ) -> None:
        self._decoding, self._logits, self._sampler = decoding, logits, sampler
        self._stop_ids, self._limit, self._constraint = frozenset(stop_ids), max_new_tokens, constraint
        self.stopped_by: int | None = None
        self.num_tokens = 0
        self.logprob: TokenLogprob | None = None

    @property
    def done(self) -> bool:
        return self.stopped_by is not None or self.num_tokens >= self._limit

    def __iter__(self) -> Iterator[int]:
        while not self.done:
            allowed = self._constraint.allowed() if self._constraint else None
            token = self._sampler(self._logits, self._decoding.ids, allowed)
            if token in self._stop_ids:
                self.stopped_by = token
                return
            self.num_tokens += 1
            if self._sampler.options.logprobs:
                self.logprob = self._sampler.logprob(self._logits, token)
            if self._constraint:
                self._constraint.advance(token)
            yield token
            self._logits = self._decoding.feed([token])
