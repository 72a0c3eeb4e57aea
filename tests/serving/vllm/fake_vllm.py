"""vLLM's completions in small: a causal LM of transformers behind the fields that we send, with our processor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import types
from collections.abc import AsyncIterator, Generator, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer

from vivavoce.inference.sampling import Sampler, SamplingOptions

TAKEN = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed",
    "stop_token_ids", "ignore_eos", "stream", "skip_special_tokens", "add_special_tokens", "return_token_ids",
    "vllm_xargs", "logprobs", "return_tokens_as_token_ids",
}  # fmt: skip


class Direction(Enum):
    """As vLLM names them."""

    UNIDIRECTIONAL = 0
    SWAP = 1


def slots_class(monkeypatch: Any) -> Any:
    """Our logits processor, on a stand-in for vLLM's base class."""
    names = ("vllm", "vllm.v1", "vllm.v1.sample", "vllm.v1.sample.logits_processor")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[-1]].LogitsProcessor = object  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "vivavoce.serving.vllm.slots", raising=False)
    from vivavoce.serving.vllm.slots import AudioSlots

    return AudioSlots


def config_of(folder: Path) -> Any:
    return types.SimpleNamespace(model_config=types.SimpleNamespace(model=str(folder)))


def update(**changes: Any) -> Any:
    return types.SimpleNamespace(**{"removed": [], "added": [], "moved": [], **changes})


class FakeVllm:
    """Serves a folder.

    Attributes:
        asked: Bodies of the requests.
        ended: Tokens of each answer when it ended.
        fault: Sent instead of the third token.
    """

    def __init__(self, folder: Path, slots: Any = None, ids_given: bool = True) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.slots = slots(config_of(folder), "cpu", False) if slots else None
        self.ids_given, self.per_event = ids_given, 3
        self.asked: list[dict[str, Any]] = []
        self.ended: list[int] = []
        self.fault = ""
        self.key: str | None = None
        routes = [Route("/health", self._health), Route("/v1/completions", self._complete, methods=["POST"])]
        self.app = Starlette(routes=routes)

    async def _health(self, request: Request) -> Any:
        return JSONResponse({})

    async def _complete(self, request: Request) -> Any:
        body = await request.json()
        self.asked.append(body)
        unknown = set(body) - TAKEN
        if unknown or (self.key and request.headers.get("authorization") != f"Bearer {self.key}"):
            return JSONResponse({"error": {"message": f"no: {unknown}"}}, 400 if unknown else 401)
        return StreamingResponse(self._told(body), media_type="text/event-stream")

    async def _told(self, body: dict[str, Any]) -> AsyncIterator[str]:
        with contextlib.closing(self._events(body)) as events:
            for event in events:
                yield event
                await asyncio.sleep(0)

    def _events(self, body: dict[str, Any]) -> Generator[str, None, None]:
        drawn: list[int] = []
        try:
            waiting: list[tuple[int, Any]] = []
            for token, logprob in self._draw(body, drawn):
                waiting.append((token, logprob))
                if len(waiting) == self.per_event:
                    yield self._event(body, waiting)
                    waiting = []
                    if self.fault:
                        yield f"data: {json.dumps({'error': self.fault})}\n\n"
                        return
            stopped = bool(drawn) and drawn[-1] in body["stop_token_ids"]
            yield self._event(body, waiting, "stop" if stopped else "length", drawn[-1] if stopped else None)
            yield "data: [DONE]\n\n"
        finally:
            self.ended.append(len(drawn))

    @torch.inference_mode()
    def _draw(self, body: dict[str, Any], drawn: list[int]) -> Iterator[tuple[int, Any]]:
        sampler = Sampler(
            SamplingOptions(
                temperature=body["temperature"],
                top_p=body["top_p"],
                top_k=max(0, body["top_k"]),
                min_p=body["min_p"],
                repetition_penalty=body["repetition_penalty"],
                seed=body["seed"],
                logprobs="logprobs" in body,
                top_logprobs=body.get("logprobs", 0),
            )
        )
        if self.slots is not None:
            params = types.SimpleNamespace(extra_args=body["vllm_xargs"])
            self.slots.validate_params(params)
            self.slots.update_state(update(added=[(0, params, body["prompt"], drawn)]))
        ids, cache = list(body["prompt"]), None
        feed = ids
        while len(drawn) < body["max_tokens"]:
            out = self.model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1]
            raw = logits[0].clone()
            if self.slots is not None:
                logits = self.slots.apply(logits)
            token = sampler(logits[0], ids)
            drawn.append(token)
            ids.append(token)
            yield token, sampler.logprob(raw, token) if "logprobs" in body else None
            if token in body["stop_token_ids"]:
                return
            feed = [token]

    def _event(
        self, body: dict[str, Any], tokens: list[tuple[int, Any]], reason: str | None = None, by: Any = None
    ) -> str:
        ids = [token for token, _ in tokens]
        choice: dict[str, Any] = {"index": 0, "text": self.tokenizer.decode(ids), "finish_reason": reason}
        choice["stop_reason"] = by
        if body.get("return_token_ids") and self.ids_given:
            choice["token_ids"] = ids
        if "logprobs" in body:
            choice["logprobs"] = {
                "tokens": [f"token_id:{i}" for i in ids],
                "token_logprobs": [p.logprob for _, p in tokens],
                "top_logprobs": [{f"token_id:{i}": v for i, v in p.top} for _, p in tokens],
            }
        return f"data: {json.dumps({'id': 'cmpl-1', 'choices': [choice]})}\n\n"
