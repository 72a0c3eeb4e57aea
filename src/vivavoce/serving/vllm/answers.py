"""Answers whose tokens vLLM draws; everything before and after the tokens is as for our own engine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vivavoce.inference.assistant import Assistant
from vivavoce.inference.finish import Tally, TokenLogprob
from vivavoce.inference.generate import TokenRun
from vivavoce.inference.legal_tokens import LegalTokens
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.inference.session import Session
from vivavoce.inference.turn import ReadPrompt, Turn
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.serving.engine import Engine
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.vllm.completions import Completions


class RemoteSequence:
    """The ids of a sequence whose cache is vLLM's, which keeps prefixes itself."""

    def __init__(self, num_rows: int) -> None:
        self.ids: list[int] = []
        self._nothing = torch.zeros(num_rows)

    def __len__(self) -> int:
        return len(self.ids)

    def feed(self, ids: Sequence[int], heard: Any = None) -> Tensor:
        """Take note of tokens; there are no logits to give."""
        self.ids += ids
        return self._nothing

    def close(self) -> None:
        """Nothing is held."""


class RemoteRun(TokenRun):
    """The tokens of one run as vLLM draws them; each is checked against what may come.

    Args:
        completions: vLLM.
        sequence: The prompt, and what comes of it.
        options: Sampling.
        stop_ids: Ids that end the run.
        limit: Most tokens.
        legal: What may come.
    """

    def __init__(
        self,
        completions: Completions,
        sequence: RemoteSequence,
        options: SamplingOptions,
        stop_ids: Collection[int],
        limit: int,
        legal: LegalTokens,
    ) -> None:
        self._completions, self._sequence, self._options = completions, sequence, options
        self._stop_ids, self._limit, self._legal = frozenset(stop_ids), limit, legal
        self.stopped_by: int | None = None
        self.num_tokens = 0
        self.logprob: TokenLogprob | None = None

    def __iter__(self) -> Iterator[int]:
        if self.done:
            return
        stream = self._completions.stream(
            self._sequence.ids, self._options, self._limit, self._stop_ids, self._legal.to_dict()
        )
        for token, logprob in stream:
            if token in self._stop_ids:
                self.stopped_by = token
                return
            if not bool(self._legal.allowed()[token]):
                raise Refusal(
                    502,
                    f"vLLM drew token {token}, which is no legal audio at this place; start it with "
                    "--logits-processors vivavoce.serving.vllm.slots:AudioSlots.",
                    "engine_not_constrained",
                )
            self.num_tokens, self.logprob = self.num_tokens + 1, logprob
            self._legal.advance(token)
            self._sequence.feed([token])
            yield token


class RemoteTurn(Turn):
    """One answer drawn by vLLM."""

    def __init__(
        self,
        completions: Completions,
        model: SpeechLM,
        processor: SpeechProcessor,
        options: SamplingOptions,
        prompt: dict[str, Any],
        tally: Tally | None = None,
    ) -> None:
        self._completions, self._sequence = completions, RemoteSequence(model.config.vocab_size)
        ids = prompt["input_ids"]

        def read(gated: bool) -> Any:
            return self._sequence, self._sequence.feed(ids), None

        super().__init__(model, processor, options, prompt, read, tally)

    def _run(self, stop_ids: Sequence[int] | frozenset[int], legal: LegalTokens) -> TokenRun:
        limit = max(self._left, 0)
        return RemoteRun(self._completions, self._sequence, self.options, stop_ids, limit, legal)


class RemoteAssistant(Assistant):
    """An assistant without weights.

    Args:
        completions: vLLM.
        model: Config, and no language model.
        processor: With the codecs.
        name: For messages.
    """

    def __init__(
        self, completions: Completions, model: SpeechLM, processor: SpeechProcessor, name: str
    ) -> None:
        super().__init__(model, processor, name)
        self.completions = completions

    def turn(
        self,
        prompt: dict[str, Any],
        sampling: SamplingOptions,
        tally: Tally | None = None,
        read: ReadPrompt | None = None,
    ) -> Turn:
        return RemoteTurn(self.completions, self.model, self.processor, sampling, prompt, tally)


class RemoteSession(Session):
    """A conversation whose cache is vLLM's: nothing is read before the end of a question."""

    def _read_early(self, recording: Any) -> None:
        pass


class Stoppable(Protocol):
    """Something that we started."""

    def stop(self) -> None: ...


class RemoteEngine(Engine):
    """The server's view of a model that vLLM runs.

    Args:
        assistant: In front of vLLM.
        name: Its id in requests.
        process: vLLM, if it is ours to end.
    """

    assistant: RemoteAssistant

    def __init__(self, assistant: RemoteAssistant, name: str, process: Stoppable | None = None) -> None:
        super().__init__(assistant, name)
        self._process = process

    def start(self) -> None:
        """Nothing of the model runs here."""

    def stop(self) -> None:
        """End vLLM if it is ours, and the connections to it."""
        self.assistant.completions.close()
        if self._process is not None:
            self._process.stop()

    def session(self) -> Session:
        return RemoteSession(self.assistant)
