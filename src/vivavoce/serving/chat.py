"""``/v1/chat/completions``: conversations in text and audio, whole or as they arrive."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from vivavoce.inference.finish import Finish, TokenLogprob
from vivavoce.serving.encoding import StreamEncoder, check_format, whole
from vivavoce.serving.logprobs import content
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.requests import ChatRequest, check_voice
from vivavoce.serving.service import Results, Service, Streamed, collected, service_of
from vivavoce.serving.tool_calls import ToolCalls

FORMATS = ("wav", "mp3", "flac", "opus", "pcm16")
REASONS = {"stop": "stop", "length": "length", "refusal": "stop", "interrupted": "stop"}

router = APIRouter()


@dataclass
class Answer:
    """One of the answers, growing.

    Attributes:
        index: Its place among the answers.
        text: What it says, without space at either end.
        samples: Pieces of its audio.
        audio_id: Name of the spoken answer.
        expires_at: When the name is forgotten, seconds since 1970.
        data: base64 of the encoded audio, at the end.
        finish: How it ended, at the end.
        calls: Calls of tools in it, at the end.
        rest: Log probabilities of tokens whose text was not given out.
    """

    index: int
    text: str = ""
    samples: list[np.ndarray] = field(default_factory=list)
    num_samples: int = 0
    audio_id: str = ""
    expires_at: int = 0
    data: str = ""
    finish: Finish = field(default_factory=lambda: Finish("stop"))
    rest: tuple[TokenLogprob, ...] = ()
    calls: list[dict[str, Any]] = field(default_factory=list)
    _space: str = ""

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else REASONS[self.finish.reason]

    def grow(self, piece: str) -> str:
        """Take a piece of text; returns what may be sent now: space at the end waits for what follows."""
        text = self._space + piece
        text = text if self.text else text.lstrip()
        kept = text.rstrip()
        self._space = text[len(kept) :]
        self.text += kept
        return kept


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatRequest, request: Request) -> Any:
    """Answer a conversation."""
    service = service_of(request)
    engine, limits = service.engine, service.limits
    service.check_model(body.model)
    body.check(limits)
    if not engine.chats:
        raise Refusal(
            400, f"{engine.name} reads text aloud and does not chat; use /v1/audio/speech.", "no_chat"
        )
    form = "pcm16"
    if body.speaks:
        if not engine.speaks:
            raise Refusal(400, f"{engine.name} answers in text only.", "no_speech", "modalities")
        check_voice(body.voice, engine.voices, "audio.voice")
        form = check_format(body.audio.format if body.audio else "wav", FORMATS, "audio.format")
        if body.stream and form != "pcm16":
            raise Refusal(
                400,
                f"audio.format {form!r} with stream=true; wanted 'pcm16'.",
                "unsupported_format",
                "audio.format",
            )
    caller = request.scope["caller"]
    if body.tools and not engine.takes_tools:
        raise Refusal(400, f"{engine.name} takes no tools; leave them out.", "no_tools", "tools")
    messages = await service.messages.read(body.messages, caller)
    work = _Work(service, body, messages, form, request.scope["began"])
    if body.stream:
        results = await Results.of(request, work.run)
        stream = results.events(_Chunks(service, body, caller).rows, "[DONE]")
        return Streamed(results, stream, "text/event-stream", {"Cache-Control": "no-cache"})
    made = await collected(request, work.run)
    answers = [result for kind, result, _ in made if kind == "end"]
    usage = next(result for kind, result, _ in made if kind == "usage")
    for answer in answers:
        _keep(service, answer, caller)
    return JSONResponse(
        {
            "id": _new_id(),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": engine.name,
            "choices": [_choice(service, answer, body) for answer in answers],
            "usage": usage,
        }
    )


class _Work:
    """What the worker does for a request: (kind, what, answer) for each thing that happens."""

    def __init__(
        self,
        service: Service,
        body: ChatRequest,
        messages: list[dict[str, Any]],
        form: str,
        began: float,
    ) -> None:
        self.service, self.body, self.messages, self.form, self.began = service, body, messages, form, began

    def run(self) -> Iterator[tuple[str, Any, Answer | None]]:
        answers = [Answer(i) for i in range(self.body.n or 1)]
        for answer in answers:
            yield from self._answer(answer)
            if self.body.speaks and not self.body.stream:
                samples = np.concatenate(answer.samples) if answer.samples else np.zeros(0, np.float32)
                answer.data = base64.b64encode(
                    whole(samples, self.service.engine.speaking_hz, self.form)
                ).decode()
            yield "end", answer, answer
        yield "usage", usage([answer.finish for answer in answers]), None

    def _answer(self, answer: Answer) -> Iterator[tuple[str, Any, Answer]]:
        engine, metrics, body = self.service.engine, self.service.metrics, self.body
        options = body.sampling(self.service.limits, answer.index)
        tools = body.offered_tools()
        names = [tool["function"]["name"] for tool in tools]
        called = ToolCalls(names, 1 if body.parallel_tool_calls is False else None)
        started, spoke, wrote = time.monotonic(), False, False
        encoder = StreamEncoder(self.form, engine.speaking_hz) if body.speaks and body.stream else None
        voice = body.voice if body.speaks else None
        if body.speaks:
            answer.audio_id, answer.expires_at = self.service.spoken.reserve()
        yield "begin", None, answer
        for delta in engine.chat(self.messages, body.speaks, voice, options, tools):
            answer.finish = delta.finish or answer.finish
            answer.rest += delta.logprobs
            text = answer.grow(called.push(delta.text) + (called.close() if delta.finish else ""))
            if text and not wrote:
                wrote = True
                metrics.ttft.add(time.monotonic() - self.began)
            if text:
                yield "text", (text, answer.rest), answer
                answer.rest = ()
            if delta.audio is not None and len(delta.audio):
                if not spoke:
                    spoke = True
                    metrics.first_audio.add(time.monotonic() - self.began)
                answer.num_samples += len(delta.audio)
                if encoder is None:
                    answer.samples.append(delta.audio)
                elif data := encoder.push(delta.audio):
                    yield "audio", base64.b64encode(data).decode(), answer
        answer.calls = called.calls
        if encoder is not None and (data := encoder.close()):
            yield "audio", base64.b64encode(data).decode(), answer
        if answer.num_samples:
            metrics.rtf.add((time.monotonic() - started) * engine.speaking_hz / answer.num_samples)


def usage(finishes: Sequence[Finish]) -> dict[str, Any]:
    """Token counts of all answers to one prompt."""
    text, audio = finishes[0].prompt_text_tokens, finishes[0].prompt_audio_tokens
    written = sum(finish.text_tokens for finish in finishes)
    spoken = sum(finish.audio_tokens for finish in finishes)
    return {
        "prompt_tokens": text + audio,
        "completion_tokens": written + spoken,
        "total_tokens": text + audio + written + spoken,
        "prompt_tokens_details": {"text_tokens": text, "audio_tokens": audio, "cached_tokens": 0},
        "completion_tokens_details": {"text_tokens": written, "audio_tokens": spoken, "reasoning_tokens": 0},
    }


class _Chunks:
    """Events of a streamed answer."""

    def __init__(self, service: Service, body: ChatRequest, caller: str) -> None:
        self._service, self._body, self._caller = service, body, caller
        self._head = {
            "id": _new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": service.engine.name,
        }
        self._counts = bool(body.stream_options and body.stream_options.include_usage)

    def rows(self, result: tuple[str, Any, Answer | None]) -> Iterator[dict[str, Any]]:
        kind, what, answer = result
        if answer is None:
            if self._counts:
                yield {**self._head, "choices": [], "usage": what}
            return
        speaks = self._body.speaks
        if kind == "begin":
            begun = {"audio": {"id": answer.audio_id, "transcript": ""}} if speaks else {"content": ""}
            yield self._chunk(answer, {"role": "assistant", **begun})
        elif kind == "text":
            text, entries = what
            told = {"audio": {"transcript": text}} if speaks else {"content": text}
            yield self._chunk(answer, told, entries=entries)
        elif kind == "audio":
            yield self._chunk(answer, {"audio": {"data": what}})
        elif kind == "end":
            if speaks:
                _keep(self._service, answer, self._caller)
                yield self._chunk(answer, {"audio": {"expires_at": answer.expires_at}})
            if answer.calls:
                calls = [{"index": i, **call} for i, call in enumerate(answer.calls)]
                yield self._chunk(answer, {"tool_calls": calls})
            yield self._chunk(answer, {}, answer.finish_reason, answer.rest)

    def _chunk(
        self,
        answer: Answer,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        entries: Sequence[TokenLogprob] = (),
    ) -> dict[str, Any]:
        logprobs = content(self._service.engine.tokenizer, entries) if entries else None
        choice = {"index": answer.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._counts else {}
        return {**self._head, "choices": [choice], **usage}


def _choice(service: Service, answer: Answer, body: ChatRequest) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if body.speaks else answer.text,
        "refusal": None,
    }
    if answer.calls:
        message["tool_calls"] = answer.calls
        message["content"] = answer.text or None
    if body.speaks:
        message["audio"] = {
            "id": answer.audio_id,
            "data": answer.data,
            "expires_at": answer.expires_at,
            "transcript": answer.text,
        }
    return {
        "index": answer.index,
        "message": message,
        "logprobs": content(service.engine.tokenizer, answer.finish.logprobs) if body.logprobs else None,
        "finish_reason": answer.finish_reason,
    }


def _keep(service: Service, answer: Answer, caller: str) -> None:
    if answer.audio_id:
        service.spoken.keep(answer.audio_id, answer.expires_at, caller, answer.text)


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
