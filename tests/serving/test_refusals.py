"""What is wrong with a request is said in OpenAI's error shape, with a status that clients understand."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import Any

import httpx
import openai
import pytest
from tests.serving.live import Live
from tests.serving.test_openai_chat import ASKED, recorded


def test_keys(live: Live, question: bytes) -> None:
    for key in ("wrong key", live.key[:-1], live.key + "x", "ключ"):
        header = {"Authorization": f"Bearer {key}".encode()}
        for path in ("/v1/models", "/metrics", "/nowhere"):
            assert httpx.get(live.root + path, headers=header).status_code == 401
        answer = httpx.post(f"{live.root}/v1/chat/completions", json={}, headers=header)
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError, match="wrong API key"):
        live.client(api_key="wrong key").chat.completions.create(model="nano", messages=ASKED)
    assert httpx.get(f"{live.root}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{live.root}/v1/models").status_code == 401
    assert live.client(api_key="another key").models.list().data


def refused(live: Live, fields: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[int, str, str]:
    """Post something wrong and give status, code and message."""
    given = fields if "speech" in path else {"model": "nano", "messages": ASKED, **fields}
    answer = httpx.post(
        live.root + path, json=given, headers={"Authorization": f"Bearer {live.key}"}, timeout=60
    )
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.status_code, error["code"], error["message"]


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": "hello"}, "invalid_request", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_role", "robot"),
        ({"messages": [{"role": "user"}]}, "invalid_content", r"messages\.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "invalid_content", r"content\.0"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "audio": "x.wav"}]}]}, "invalid_content", ""),
        ({"messages": [{"role": "user", "content": [7]}]}, "invalid_content", "wanted"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "thirteen"}]}, "invalid_request", "last message"),
        ({"temperature": 3}, "invalid_request", "temperature"),
        ({"max_tokens": 100000}, "unsupported_value", "at most 512"),
        ({"n": 100}, "unsupported_value", "at most 8"),
        ({"stop": [""]}, "unsupported_value", "stop"),
        ({"tools": [{"type": "function"}]}, "invalid_tools", "tools"),
        ({"frequency_penalty": 1.0}, "unsupported_value", "repetition_penalty"),
        ({"top_logprobs": 2}, "unsupported_value", "logprobs=true"),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_request", "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "unsupported_value", "response_format"),
        ({"temprature": 1}, "unsupported_value", "temprature"),
        ({"modalities": ["audio"]}, "unsupported_value", "modalities"),
        ({"modalities": ["video"]}, "invalid_request", "modalities"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "unknown_voice", "default"),
        ({"modalities": ["text", "audio"], "audio": {"format": "aac"}}, "unsupported_format", "wav"),
        (
            {"modalities": ["text", "audio"], "audio": {"format": "wav"}, "stream": True},
            "unsupported_format",
            "pcm16",
        ),
        ({"seed": 2**64}, "invalid_request", "seed"),
        ({"stream_options": {"include_usage": True}}, "unsupported_value", "stream=true"),
    ],
)  # fmt: skip
def test_chat_refuses(live: Live, fields: dict[str, Any], code: str, says: str) -> None:
    status, found, message = refused(live, fields)
    assert (status, found) == (400, code)
    assert re.search(says, message)


def test_unknown_models_and_addresses(live: Live, client: openai.OpenAI, question: bytes) -> None:
    for call in (
        lambda: client.chat.completions.create(model="gpt-4o", messages=ASKED),
        lambda: client.audio.speech.create(model="gpt-4o", voice="default", input="nine"),
        lambda: client.audio.transcriptions.create(model="gpt-4o", file=("q.wav", question)),
        lambda: client.models.retrieve("gpt-4o"),
    ):
        with pytest.raises(openai.NotFoundError, match="there is 'nano'") as caught:
            call()
        assert caught.value.code == "model_not_found"
    header = {"Authorization": f"Bearer {live.key}"}
    assert (
        httpx.get(f"{live.root}/v1/engines", headers=header).json()["error"]["type"]
        == "invalid_request_error"
    )
    assert httpx.get(f"{live.root}/v1/chat/completions", headers=header).status_code == 405


def _clip(data: Any, form: Any = "wav") -> dict[str, Any]:
    part = {"type": "input_audio", "input_audio": {"data": data, "format": form}}
    return {"messages": [{"role": "user", "content": [part]}]}


def test_bad_audio_in_chat(live: Live, question: bytes) -> None:
    noise = base64.b64encode(os.urandom(5000)).decode()
    whole = base64.b64encode(question).decode()
    cut = base64.b64encode(question[: len(question) // 2]).decode()
    for data, form, code in (
        ("%%%", "wav", "invalid_base64"),
        (whole[:-3], "wav", "invalid_base64"),
        ("é", "wav", "invalid_base64"),
        (None, "wav", "invalid_base64"),
        (7, "wav", "invalid_base64"),
        ("", "wav", "invalid_audio"),
        (noise, "mp3", "invalid_audio"),
        (cut, "wav", "invalid_audio"),
        (whole, "tape", "unsupported_format"),
    ):
        status, found, message = refused(live, _clip(data, form))
        assert (status, found) == (400, code), message
        assert "messages.0.content.0" in message


def test_nothing_is_fetched_or_opened(live: Live, tmp_path: Any, question: bytes) -> None:
    path = tmp_path / "q.wav"
    path.write_bytes(question)
    for part in (
        {"type": "audio_url", "audio_url": {"url": "http://127.0.0.1:9/x.wav"}},
        {"type": "audio", "audio": str(path)},
        {"type": "audio", "path": str(path)},
        {"type": "input_audio", "input_audio": str(path)},
        {"type": "input_audio", "input_audio": {"path": str(path), "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": str(path), "format": "wav"}},
        {"type": "text", "text": {"path": str(path)}},
    ):
        status, _, message = refused(live, {"messages": [{"role": "user", "content": [part]}]})
        assert status == 400, message
    assert (
        "fetches nothing"
        in refused(
            live,
            {"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "x"}}]}]},
        )[2]
    )
    with_path = {"messages": [{"role": "user", "content": "what is nine plus four", "audio": str(path)}]}
    assert (
        httpx.post(
            f"{live.root}/v1/chat/completions",
            json={"model": "nano", **with_path},
            headers={"Authorization": f"Bearer {live.key}"},
        ).json()["choices"][0]["message"]["content"]
        == "thirteen"
    )  # the key of another role is not looked at


def test_bad_uploads(client: openai.OpenAI, question: bytes) -> None:
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    for data in (b"", os.urandom(5000), b"RIFF", question[:40], question[: len(question) // 2], playlist):
        with pytest.raises(openai.BadRequestError) as caught:
            client.audio.transcriptions.create(model="nano", file=("q.wav", data))
        assert caught.value.code == "invalid_audio", caught.value.message
    with pytest.raises(openai.BadRequestError, match="container"):
        client.audio.transcriptions.create(model="nano", file=("q.m4a", b"\0\0\0\x20ftypM4A " + bytes(100)))
    assert client.audio.transcriptions.create(model="nano", file=("q.wav", question)).text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"response_format": "html"}, "json, text, verbose_json, srt, vtt"),
        ({"prompt": "a context"}, "prompt"),
        ({"timestamp_granularities": ["word"]}, "verbose_json"),
        ({"temperature": 7}, "temperature"),
        ({"stream": True, "response_format": "srt"}, "stream"),
    ],
)
def test_transcription_refuses(
    client: openai.OpenAI, question: bytes, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        client.audio.transcriptions.create(model="nano", file=("q.wav", question), **fields)


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"voice": "alloy"}, 400, "default"),
        ({"response_format": "aac"}, 400, "mp3, opus"),
        ({"speed": 3.5}, 400, "0.5 to 2"),
        ({"instructions": "whisper"}, 400, "instructions"),
        ({"input": ""}, 400, "input"),
        ({"input": "  "}, 400, "nothing to say"),
        ({"input": "nine " * 50}, 413, "200 characters"),
        ({"stream_format": "tape"}, 400, "stream_format"),
        ({"pitch": 2}, 400, "pitch"),
    ],
)
def test_speech_refuses(live: Live, fields: dict[str, Any], status: int, says: str) -> None:
    found, _, message = refused(live, {"model": "nano", "input": "nine", **fields}, "/v1/audio/speech")
    assert found == status and re.search(says, message), message


def test_too_large(live: Live, client: openai.OpenAI, question: bytes) -> None:
    with pytest.raises(openai.APIStatusError, match="larger than 400000 bytes") as caught:
        client.audio.transcriptions.create(model="nano", file=("q.wav", bytes(500_000)))
    assert caught.value.status_code == 413 and caught.value.code == "request_too_large"
    header = {"Authorization": f"Bearer {live.key}", "Content-Type": "application/json"}

    def pieces() -> Any:  # no length in the header
        for _ in range(50):
            yield b" " * 10_000

    answer = httpx.post(f"{live.root}/v1/chat/completions", content=pieces(), headers=header)
    assert answer.status_code == 413
    import io

    import numpy as np
    import soundfile

    bomb = io.BytesIO()  # little to send, much to decode
    soundfile.write(bomb, np.zeros(16000 * 3600, np.int16), 16000, format="FLAC")
    assert len(bomb.getvalue()) < 200_000
    with pytest.raises(openai.APIStatusError, match="at most 8 s") as caught:
        client.audio.transcriptions.create(model="nano", file=("q.flac", bomb.getvalue()))
    assert caught.value.status_code == 413
    clips = recorded(question)[0]["content"] * 5  # 8.9 s together
    assert refused(live, {"messages": [{"role": "user", "content": clips}]})[:2] == (413, "audio_too_long")


def test_bodies_that_are_no_json(live: Live) -> None:
    header = {"Authorization": f"Bearer {live.key}", "Content-Type": "application/json"}
    for body in (b"", b"{", b"null", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}'):
        answer = httpx.post(f"{live.root}/v1/chat/completions", content=body, headers=header)
        assert answer.status_code == 400 and answer.json()["error"]["message"], body[:10]
    form = httpx.post(
        f"{live.root}/v1/audio/transcriptions",
        content=b"--x\r\nnonsense",
        headers={**header, "Content-Type": "multipart/form-data; boundary=x"},
    )
    assert form.status_code == 400 and "error" in form.json()


def test_metrics_count(live: Live, client: openai.OpenAI) -> None:
    header = {"Authorization": f"Bearer {live.key}"}

    def value(name: str) -> float:
        page = httpx.get(f"{live.root}/metrics", headers=header).text
        return float(next(line.split()[-1] for line in page.splitlines() if line.startswith(name)))

    client.chat.completions.create(model="nano", messages=ASKED)
    name = 'vivavoce_requests_total{route="/v1/chat/completions",status="200"}'
    names = (name, "vivavoce_ttft_seconds_count", "vivavoce_first_audio_seconds_count")
    before = [value(n) for n in names]
    client.chat.completions.create(model="nano", messages=ASKED)
    client.audio.speech.create(model="nano", voice="default", input="nine")
    assert [value(n) for n in names] == [b + 1 for b in before]
    assert value("vivavoce_rtf_count") > 0 and value("vivavoce_queue_length") == value("vivavoce_active") == 0


def test_no_page_of_another_address_may_read(live: Live) -> None:
    header = {"Authorization": f"Bearer {live.key}", "Origin": "http://evil.example"}
    answer = httpx.get(f"{live.root}/v1/models", headers=header)
    assert "access-control-allow-origin" not in answer.headers
    simple = {**header, "Content-Type": "text/plain"}  # what a page may send without asking
    body = json.dumps({"model": "nano", "messages": ASKED})
    assert httpx.post(f"{live.root}/v1/chat/completions", content=body, headers=simple).status_code == 400
