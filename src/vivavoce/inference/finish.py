"""How an answer ended: why, of how many tokens, and how likely they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vivavoce.models.processor import SpeechProcessor

Reason = Literal["stop", "length", "refusal", "interrupted"]


@dataclass(frozen=True)
class TokenLogprob:
    """A token that was drawn, with its natural log probability in the model's own distribution.

    Temperature, cuts, penalties and constraints do not count in it.

    Attributes:
        token_id: What was drawn.
        logprob: Of it.
        top: (token id, log probability) of the likeliest tokens, best first; the drawn one need not be among them.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Finish:
    """The end of an answer, in tokens that the model read and drew; tokens that end a run are not counted.

    Attributes:
        reason: "stop": the model or a stop string ended it. "length": ``max_new_tokens`` or the model's room was
            full. "refusal": the question was not understood. "interrupted": the user broke in.
        text_tokens: Drawn tokens of text, a transcript of the question included.
        audio_tokens: Drawn codec tokens.
        prompt_text_tokens: Of the prompt; 0 if nothing was read, as for words that are not in a closed vocabulary.
        prompt_audio_tokens: Positions of the prompt that hold audio, as codec tokens or embeddings.
        logprobs: Of the answer's text tokens, in order, if ``logprobs`` was asked for.
    """

    reason: Reason
    text_tokens: int = 0
    audio_tokens: int = 0
    prompt_text_tokens: int = 0
    prompt_audio_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


class Tally:
    """Counts one answer while it is being made.

    Attributes:
        reason: Why the answer would have ended, as far as is known.
        text_tokens, audio_tokens, prompt_text_tokens, prompt_audio_tokens: See ``Finish``.
        logprobs: So far.
    """

    def __init__(self) -> None:
        self.reason: Reason = "stop"
        self.text_tokens = self.audio_tokens = 0
        self.prompt_text_tokens = self.prompt_audio_tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self._taken = 0

    def read(self, processor: SpeechProcessor, ids: Sequence[int]) -> None:
        """Count a prompt."""
        if processor.audio_token_id is not None:
            audio = sum(i == processor.audio_token_id for i in ids)
        elif processor.vocabulary_in is not None:
            codes = processor.vocabulary_in.code_ids
            audio = sum(i in codes for i in ids)
        else:
            audio = 0
        self.prompt_text_tokens += len(ids) - audio
        self.prompt_audio_tokens += audio

    def take(self) -> tuple[TokenLogprob, ...]:
        """Log probabilities that came since the last call."""
        new, self._taken = tuple(self.logprobs[self._taken :]), len(self.logprobs)
        return new

    def finish(self, reason: Reason | None = None) -> Finish:
        """The record; ``reason`` overrules what is known."""
        return Finish(
            reason or self.reason,
            self.text_tokens,
            self.audio_tokens,
            self.prompt_text_tokens,
            self.prompt_audio_tokens,
            tuple(self.logprobs),
        )
