"""Every response, field by field, against the types of OpenAI's own client: all they want, and the rest named here."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai.types import Model
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, TypeAdapter
from tests.serving.live import Live
from tests.serving.test_openai_chat import ASKED, recorded

SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "default", "format": "pcm16"}}
OURS = {  # fields that OpenAI's types do not have
    "Model": {"hears", "speaks", "chats", "transcribes", "voices", "sample_rate"},
    "CompletionTokensDetails": {"text_tokens"},
    "PromptTokensDetails": {"text_tokens"},
    "TranscriptionVerbose": {"task", "understood"},
    "ChoiceDelta": {"audio"},  # sent by OpenAI, not typed by the client
}


def check(kind: type[BaseModel], data: Any) -> None:
    """Validate strictly, and refuse fields that neither the type nor ``OURS`` knows."""
    made = TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    _no_strangers(made)


def _no_strangers(value: Any) -> None:
    if isinstance(value, BaseModel):
        name = type(value).__name__
        strangers = set(value.model_extra or ()) - OURS.get(name, set())
        assert not strangers, (name, strangers)
        for field in type(value).model_fields:
            _no_strangers(getattr(value, field))
    elif isinstance(value, list):
        for one in value:
            _no_strangers(one)


def call(live: Live, path: str, **fields: Any) -> httpx.Response:
    answer = httpx.request(
        "POST" if fields else "GET",
        f"{live.root}{path}",
        headers={"Authorization": f"Bearer {live.key}"},
        timeout=60,
        **fields,
    )
    assert answer.status_code == 200, answer.text
    return answer


def events(answer: httpx.Response) -> list[Any]:
    rows = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(row) for row in rows if row != "[DONE]"]


def test_models(live: Live) -> None:
    page = call(live, "/v1/models").json()
    assert set(page) == {"object", "data"} and page["object"] == "list"
    check(Model, page["data"][0])
    check(Model, call(live, "/v1/models/nano").json())


@pytest.mark.parametrize(
    "more", [{}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}, SPOKEN, {"max_tokens": 1}]
)
@pytest.mark.parametrize("heard", [False, True])
def test_chat(live: Live, question: bytes, more: dict[str, Any], heard: bool) -> None:
    asked = {"model": "nano", "messages": recorded(question) if heard else ASKED, **more}
    check(ChatCompletion, call(live, "/v1/chat/completions", json=asked).json())
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    rows = events(call(live, "/v1/chat/completions", json=streamed))
    assert len(rows) > 2
    for row in rows:
        check(ChatCompletionChunk, row)


def test_transcriptions(live: Live, question: bytes) -> None:
    def asked(**fields: str) -> httpx.Response:
        given = {"model": "nano", **fields}
        return call(live, "/v1/audio/transcriptions", files={"file": ("q.wav", question)}, data=given)

    check(Transcription, asked().json())
    check(TranscriptionVerbose, asked(response_format="verbose_json").json())
    timed = asked(response_format="verbose_json", **{"timestamp_granularities[]": "word"}).json()
    check(TranscriptionVerbose, timed)
    *deltas, done = events(asked(stream="true"))
    for row in deltas:
        check(TranscriptionTextDeltaEvent, row)
    check(TranscriptionTextDoneEvent, done)


def test_speech(live: Live) -> None:
    asked = {"model": "nano", "input": "nine", "response_format": "pcm", "stream_format": "sse"}
    *deltas, done = events(call(live, "/v1/audio/speech", json=asked))
    assert all(set(row) == {"type", "audio"} for row in deltas)  # the client has no types for these
    assert set(done["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}


def test_it_sees_faults() -> None:
    with pytest.raises(ValueError, match="created"):
        check(Model, {"id": "x", "object": "model", "owned_by": "y"})
    with pytest.raises(AssertionError, match="colour"):
        check(Model, {"id": "x", "object": "model", "owned_by": "y", "created": 1, "colour": "red"})
