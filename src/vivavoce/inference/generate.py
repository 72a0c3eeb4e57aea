"""The token loop: one sequence, one cache, one id at a time.

Letters: L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from vivavoce.base.errors import SessionError
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

    Prefill and single steps give the logits that one pass over the whole sequence would give. The cache is
    whatever the text model makes itself, so any architecture works.

    Attributes:
        ids: Everything the model has read, placeholders of audio included.
    """

    def __init__(self, model: SpeechLM) -> None:
        self.model = model
        self.ids: list[int] = []
        self._cache: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cache(self) -> Any:
        """The key-value cache; copy it before using it elsewhere."""
        return self._cache

    @torch.inference_mode()
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
        tokens = torch.tensor([list(ids)], device=self.model.device)
        embeddings = self.model.embed(tokens, heard)
        output = self.model.language_model(
            inputs_embeds=embeddings, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = output.past_key_values
        self.ids += [int(i) for i in ids]
        return output.logits[0, -1]

    def crop(self, length: int) -> int:
        """Forget all but the first ``length`` positions, and free their memory.

        A cache that does not hold every position (sliding windows, linear attention) cannot be cut and is dropped:
        the caller then reads from the beginning, which costs time and changes no number.

        Returns:
            Positions that are left: ``length``, or 0.
        """
        extra = len(self.ids) - length
        if extra <= 0:
            return len(self.ids)
        layers = getattr(self._cache, "layers", [])
        if length > 0 and layers and all(type(layer) is DynamicLayer for layer in layers):
            self._cache.crop(-extra)
            for layer in layers:  # a slice would hold on to the whole
                layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
        else:
            length, self._cache = 0, None
        del self.ids[length:]
        return length


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
