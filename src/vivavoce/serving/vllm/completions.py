"""Token ids in, token ids out, by vLLM's completions over HTTP.

Source: vLLM's OpenAI-compatible server, ``/v1/completions`` with a prompt of ids, ``return_token_ids`` (vLLM 0.10.2 and
later), ``stop_token_ids``, ``ignore_eos`` and ``vllm_xargs``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import httpx

from vivavoce.inference.finish import TokenLogprob
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.serving.refusals import Refusal

AUDIO_ARGUMENT = "vivavoce_audio"  # of ``vllm_xargs``, read by ``slots.AudioSlots``


class Completions:
    """vLLM's server.

    Args:
        url: Its address, with or without ``/v1``.
        model: What it calls the model.
        key: Its API key, if it wants one.
    """

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        self.url, self.model = url.rstrip("/").removesuffix("/v1"), model
        headers = {"authorization": f"Bearer {key}"} if key else {}
        waits = httpx.Timeout(300.0, connect=5.0)
        self._client = httpx.Client(headers=headers, timeout=waits, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def healthy(self) -> bool:
        """Whether it serves."""
        try:
            return self._client.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stream(
        self,
        prompt: Sequence[int],
        options: SamplingOptions,
        max_tokens: int,
        stop_ids: Collection[int],
        audio: dict[str, Any],
    ) -> Iterator[tuple[int, TokenLogprob | None]]:
        """Tokens as they are drawn; the stop token is the last of them where one ended it.

        Closing the iterator ends the work there.

        Args:
            prompt: Token ids.
            options: Sampling; stop strings are the caller's affair.
            max_tokens: Most of them.
            stop_ids: Ids that end it.
            audio: What the answer may be, for ``slots.AudioSlots``.

        Raises:
            Refusal: 503, it is not there or breaks off; 502, it does not take the request.
        """
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k or -1,
            "min_p": options.min_p,
            "repetition_penalty": options.repetition_penalty,
            "seed": options.seed,
            "stop_token_ids": sorted(stop_ids),
            "ignore_eos": True,  # the ends are those above and no others
            "stream": True,
            "skip_special_tokens": False,
            "add_special_tokens": False,
            "return_token_ids": True,
            "vllm_xargs": {AUDIO_ARGUMENT: json.dumps(audio)},
        }
        if options.logprobs:
            body |= {"logprobs": options.top_logprobs, "return_tokens_as_token_ids": True}
        try:
            with self._client.stream("POST", f"{self.url}/v1/completions", json=body) as answer:
                if answer.status_code != 200:
                    said = answer.read().decode("utf-8", "replace")[:300]
                    raise Refusal(502, f"vLLM answered {answer.status_code}: {said}", "engine_refused")
                for line in answer.iter_lines():
                    if line.startswith("data:") and (data := line[5:].strip()) != "[DONE]":
                        yield from _tokens(json.loads(data), frozenset(stop_ids))
        except httpx.HTTPError as error:
            what = f"vLLM at {self.url} does not answer ({type(error).__name__}); try again."
            raise Refusal(503, what, "engine_unavailable", retry_s=5) from error


def _tokens(event: dict[str, Any], stop_ids: frozenset[int]) -> Iterator[tuple[int, TokenLogprob | None]]:
    """The new tokens of one event."""
    if "error" in event:
        raise Refusal(502, f"vLLM broke off: {event['error']}", "engine_refused")
    for choice in event.get("choices", []):
        ids = choice.get("token_ids")
        if ids is None and choice.get("text"):
            raise Refusal(
                502,
                "vLLM gives no token ids; it is older than 0.10.2. Install a newer one.",
                "engine_too_old",
            )
        logprobs = choice.get("logprobs") or {}
        for n, token in enumerate(ids or []):
            yield token, _logprob(logprobs, n, token)
        reason = choice.get("stop_reason")
        if isinstance(reason, int) and reason in stop_ids and (not ids or ids[-1] != reason):
            yield reason, None


def _logprob(logprobs: dict[str, Any], n: int, token: int) -> TokenLogprob | None:
    values = logprobs.get("token_logprobs") or []
    if n >= len(values) or values[n] is None:
        return None
    tops = (logprobs.get("top_logprobs") or [None] * len(values))[n] or {}
    named = ((int(name.rpartition(":")[2]), value) for name, value in tops.items())
    return TokenLogprob(token, values[n], tuple(sorted(named, key=lambda pair: -pair[1])))
