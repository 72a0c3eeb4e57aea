"""From logits to the next token: options, their checks, and the draw.

Letters: V vocabulary.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.inference.finish import TokenLogprob

# field -> (lowest, highest), both allowed
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 2**31),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "max_new_tokens": (1, 2**31),
    "top_logprobs": (0, 20),
}


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How the next token is drawn and when to stop.

    Attributes:
        temperature: 0 takes the best token always; 1 samples the model's own distribution.
        top_p: Keep the smallest set of tokens whose probability reaches this, (0, 1].
        top_k: Keep this many tokens; 0 keeps all.
        min_p: Keep tokens at least this likely relative to the best, [0, 1].
        repetition_penalty: Above 1 makes tokens seen in prompt or answer less likely.
        seed: Same seed, same draw; None draws anew each time.
        max_new_tokens: Most tokens of one answer, text and audio together.
        stop: Strings that end the answer; they are not part of it.
        logprobs: Give the log probability of each text token of the answer.
        top_logprobs: And of so many of the likeliest tokens in its place, 0 to 20.

    Raises:
        ConfigError: All values out of range at once.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        faults = []
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                faults.append(f"{name} is {value!r}, wanted {low:g} to {high:g}")
            elif isinstance(low, int) and not isinstance(value, int):
                faults.append(f"{name} is {value!r}, wanted a whole number")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int)):
            faults.append(f"seed is {self.seed!r}, wanted a whole number or nothing")
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, Sequence) or not all(isinstance(s, str) and s for s in stop):
            faults.append(f"stop is {self.stop!r}, wanted strings of at least one character")
        else:
            object.__setattr__(self, "stop", tuple(stop))
        if not isinstance(self.logprobs, bool):
            faults.append(f"logprobs is {self.logprobs!r}, wanted True or False")
        if self.top_logprobs and not self.logprobs:
            faults.append("top_logprobs is given without logprobs=True")
        if faults:
            raise ConfigError("sampling: " + "; ".join(faults) + ".")

    @classmethod
    def merge(cls, *layers: Mapping[str, Any]) -> SamplingOptions:
        """Make options from layers of settings; later layers win, None means not set.

        Raises:
            ConfigError: Unknown names (with the nearest) or values out of range.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        values: dict[str, Any] = {}
        for layer in layers:
            for key, value in layer.items():
                if key not in names:
                    near = difflib.get_close_matches(key, names, n=1)
                    hint = f" Did you mean {near[0]!r}?" if near else ""
                    raise ConfigError(f"unknown sampling option {key!r}.{hint} Known: {', '.join(names)}.")
                if value is not None:
                    values[key] = value
        return cls(**values)


class Sampler:
    """Draws tokens by one set of options; holds the random state of one answer.

    The draw is made on the CPU in float32, so a seed gives the same tokens wherever the model runs.
    """

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options
        self._generator = torch.Generator()
        if options.seed is not None:
            self._generator.manual_seed(options.seed)
        else:
            self._generator.seed()

    def __call__(self, logits: Tensor, seen: Sequence[int], allowed: Tensor | None = None) -> int:
        """Draw the next token.

        Args:
            logits: float [V].
            seen: Ids of prompt and answer so far, for the repetition penalty.
            allowed: bool [V]; None allows all.
        """
        scores = self.scores(logits, seen, allowed)
        if self.options.temperature == 0:
            return int(scores.argmax())
        return int(torch.multinomial(torch.softmax(scores, dim=-1), 1, generator=self._generator))

    def logprob(self, logits: Tensor, token_id: int) -> TokenLogprob:
        """How likely a token was in the model's own distribution, and the likeliest ones.

        Args:
            logits: float [V].
            token_id: The token.
        """
        log_probs = torch.log_softmax(logits.detach().to("cpu", torch.float32), dim=-1)
        best = log_probs.topk(min(self.options.top_logprobs, len(log_probs)))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return TokenLogprob(token_id, float(log_probs[token_id]), top)

    def scores(self, logits: Tensor, seen: Sequence[int], allowed: Tensor | None = None) -> Tensor:
        """Logits after penalty, mask, temperature and cuts, float32 [V]; -inf where a token cannot be drawn.

        Source: the order and formulas of transformers' logits processors (penalty, temperature, top-k, top-p,
            min-p).
        """
        options = self.options
        scores = logits.detach().to("cpu", torch.float32).clone()
        if options.repetition_penalty != 1 and seen:
            ids = torch.tensor(sorted(set(seen)))
            ids = ids[ids < len(scores)]
            part = scores[ids]
            penalty = options.repetition_penalty
            scores[ids] = torch.where(part < 0, part * penalty, part / penalty)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        if options.temperature == 0:
            return scores
        scores = scores / options.temperature
        if 0 < options.top_k < len(scores):
            scores = scores.masked_fill(scores < scores.topk(options.top_k).values[-1], -torch.inf)
        if options.top_p < 1:
            ordered, order = scores.sort(descending=False)
            below = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - options.top_p
            below[-1] = False
            scores = scores.masked_fill(torch.zeros_like(below).scatter(0, order, below), -torch.inf)
        if options.min_p > 0:
            odds = scores.softmax(dim=-1)
            scores = scores.masked_fill(odds < options.min_p * odds.max(), -torch.inf)
        return scores
