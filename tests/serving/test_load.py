"""Callers that leave, wait, read slowly or come too often; with a model that answers when it is told to."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from tests.serving.live import KEY, Live, Patient, serving, until

from vivavoce.serving.gate import JsonLines
from vivavoce.serving.limits import Limits

ASKED = [{"role": "user", "content": "a secret question"}]
LIMITS = Limits(slots=1, max_queue=2, max_concurrent=6, send_idle_s=1.0, upload_idle_s=0.5)


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def live(patient: Patient) -> Iterator[Live]:
    with serving(patient, [KEY], LIMITS) as server:
        yield server
        patient.let(10_000)


def ask(live: Live, **fields: object) -> openai.types.chat.ChatCompletion:
    return live.client().chat.completions.create(model="patient", messages=ASKED, **fields)


def idle(live: Live) -> bool:
    return live.server.service.worker.working == 0 and live.server.access.running() == 0


def test_deltas_arrive_one_by_one(live: Live, patient: Patient) -> None:
    stream = iter(ask(live, stream=True))
    assert next(stream).choices[0].delta.role == "assistant"
    for _ in range(3):
        patient.let(1)
        next(stream)
        until(lambda: patient.said >= 1)
    assert patient.said == 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_frees_the_worker(live: Live, patient: Patient, stream: bool) -> None:
    body = {"model": "patient", "messages": ASKED, "stream": stream}
    with socket.create_connection(("127.0.0.1", int(live.root.rpartition(":")[2]))) as line:
        data = json.dumps(body).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {KEY}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        line.sendall(head.encode() + data)
        patient.let(2)
        until(lambda: patient.said == 2)
    until(lambda: live.server.service.metrics.disconnected.value() == 1)
    patient.let(1)
    until(lambda: patient.closed == 1 and idle(live))
    assert patient.said == 3, "the rest was made for nobody"
    patient.let(20)
    assert ask(live).choices[0].message.content == " ".join(["word"] * 20)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/audio/speech"])
def test_a_caller_who_leaves_as_the_answer_begins_frees_the_worker(
    live: Live, patient: Patient, path: str
) -> None:
    body = {"model": "patient", "messages": ASKED, "stream": True}
    if path.endswith("speech"):
        body = {"model": "patient", "input": "some words", "voice": "default", "response_format": "pcm"}
        patient.let(1)
    told = iter([{"type": "http.request", "body": json.dumps(body).encode()}])
    begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        for message in told:
            return message
        if not begun.is_set():  # while the first result is waited for
            begun.set()
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(60)  # the socket takes nothing

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(live.server(scope, receive, send))
    assert live.server.service.metrics.disconnected.value() == 1
    patient.let(1)
    until(lambda: patient.closed == 1 and idle(live))
    assert patient.said <= 2


def test_leaving_the_queue(live: Live, patient: Patient) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, live)
        until(lambda: live.server.service.worker.working == 1)
        with pytest.raises(openai.APITimeoutError):
            live.client(timeout=0.3).chat.completions.create(model="patient", messages=ASKED)
        until(lambda: live.server.service.worker.queued == 0)
        patient.let(20)
        assert first.result().choices
    assert patient.said == 20


def test_several_are_worked_on_at_once_and_who_leaves_frees_a_slot(patient: Patient) -> None:
    limits = Limits(slots=2, max_queue=1)
    with serving(patient, limits=limits) as live, ThreadPoolExecutor(3) as pool:
        worker = live.server.service.worker
        stream = ask(live, stream=True)
        other = pool.submit(ask, live)
        until(lambda: worker.working == 2)
        third = pool.submit(ask, live)
        until(lambda: worker.queued == 1)
        with pytest.raises(openai.InternalServerError, match="1 requests wait"):
            ask(live)
        until(lambda: patient.permits.waiting == 2)
        stream.close()
        until(lambda: live.server.service.metrics.disconnected.value() == 1)
        patient.let(2)  # each of the two says one more word
        until(lambda: worker.queued == 0)
        assert patient.closed == 1, "the third began because the first answer had ended"
        patient.let(60)
        assert other.result().choices and third.result().choices
        until(lambda: worker.working == 0)


def test_a_full_queue_is_told_at_once(live: Live, patient: Patient) -> None:
    worker = live.server.service.worker
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, live)]
        until(lambda: worker.working == 1)
        answers += [pool.submit(ask, live) for _ in range(2)]
        until(lambda: worker.queued == 2)
        with pytest.raises(openai.InternalServerError, match="2 requests wait") as caught:
            ask(live)
        assert caught.value.status_code == 503 and caught.value.code == "overloaded"
        assert int(caught.value.response.headers["retry-after"]) > 0
        assert httpx.get(f"{live.root}/healthz").status_code == 200, "the loop is blocked"
        patient.let(60)
        assert all(a.result().choices for a in answers)
    assert live.server.service.metrics.rejected.value("overload") == 1
    until(lambda: idle(live))


def test_limits_of_one_caller() -> None:
    patient = Patient(1)
    limits = Limits(max_concurrent=1, requests_per_minute=3)
    with serving(patient, [KEY, "another key"], limits) as live, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, live)
        until(lambda: live.server.service.worker.working == 1)
        with pytest.raises(openai.RateLimitError, match="are running"):
            ask(live)
        patient.let(10)
        assert first.result().choices
        assert [ask(live).choices[0].message.content for _ in range(2)] == ["word", "word"]
        with pytest.raises(openai.RateLimitError, match="3 requests per minute") as caught:
            ask(live)
        assert caught.value.code == "rate_limit_exceeded" and caught.value.response.headers["retry-after"]
        other = live.client(api_key="another key")
        assert other.chat.completions.create(model="patient", messages=ASKED).choices
        assert live.client().models.list().data, "looking is not counted"


def test_a_fault_of_the_model_is_a_500_without_content(
    live: Live, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    patient.fault = ZeroDivisionError("a secret answer")
    patient.let(3)
    with pytest.raises(openai.InternalServerError, match="a fault of the server") as caught:
        ask(live)
    assert "secret" not in str(caught.value) and caught.value.request_id in str(caught.value)
    with pytest.raises(openai.APIError, match="a fault of the server"):
        list(ask(live, stream=True))
    patient.fault = None
    patient.let(20)
    assert ask(live).choices
    until(lambda: [r.getMessage() for r in caplog.records].count("request") == 3)  # written after the answer
    lines = [JsonLines().format(r) for r in caplog.records if r.name.startswith(("vivavoce", "uvicorn"))]
    rows = [json.loads(line) for line in lines]
    assert not [line for line in lines if "secret" in line or "word" in line]
    faults = [row for row in rows if row["event"] == "unexpected"]
    assert [row["error"] for row in faults] == ["ZeroDivisionError"] * 2
    assert all("live.py" in row["at"][-1] for row in faults)
    requests = [row for row in rows if row["event"] == "request"]
    assert [row["status"] for row in requests] == [500, 200, 200]
    assert {row["caller"] for row in requests} == {"key 0"}


def test_slow_readers_and_half_sent_bodies(live: Live, patient: Patient) -> None:
    port = int(live.root.rpartition(":")[2])
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert b"408" in half.recv(4096).split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", port)) as claim:
        claim.sendall(f"{head}Content-Length: {2 << 30}\r\n\r\n".encode())
        assert b"413" in claim.recv(4096).split(b"\r\n")[0]
    patient.words = 2000  # 9.6 MB of samples
    patient.let(2000)
    body = json.dumps(
        {"model": "patient", "messages": ASKED, "stream": True, "modalities": ["text", "audio"],
         "audio": {"format": "pcm16"}}
    )  # fmt: skip
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", port))
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        until(lambda: patient.said == 2000)
        until(lambda: live.server.service.worker.working == 0)  # the reader does not hold the model
        assert live.server.access.running() == 1
        until(lambda: idle(live))  # and is cut after a while


def test_work_that_takes_too_long_is_ended() -> None:
    patient = Patient(10_000)
    with serving(patient, limits=Limits(slots=1, max_work_s=0.3)) as live:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.02):
                patient.let(1)

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(openai.InternalServerError, match=r"more than 0\.3 s"):
            ask(live)
        stop.set()
        until(lambda: patient.closed == 1)


def test_waiting_too_long_in_the_queue_is_told() -> None:
    patient = Patient(1)
    with serving(patient, limits=Limits(slots=1, max_wait_s=0.1)) as live, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, live)
        until(lambda: live.server.service.worker.working == 1)
        second = pool.submit(ask, live)
        until(lambda: live.server.service.worker.queued == 1)
        time.sleep(0.2)
        patient.let(1)
        assert first.result().choices
        with pytest.raises(openai.InternalServerError, match="busy"):
            second.result()


def test_pages_that_are_named_may_call() -> None:
    patient = Patient(1)
    with serving(patient, [KEY], origins=["http://page.example"]) as live:
        asked = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
        answer = httpx.options(f"{live.root}/v1/chat/completions", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "http://page.example"
        other = httpx.options(
            f"{live.root}/v1/chat/completions", headers={**asked, "Origin": "http://evil.example"}
        )
        assert "access-control-allow-origin" not in other.headers


def test_stopping_waits_for_running_answers() -> None:
    patient = Patient(5)
    with serving(patient, limits=Limits(slots=1)) as live, ThreadPoolExecutor(1) as pool:
        patient.let(1)
        stream = iter(ask(live, stream=True))
        assert next(stream).choices[0].delta.role == "assistant"
        waiting = pool.submit(ask, live)
        until(lambda: live.server.service.worker.queued == 1)
        live.stop()
        until(lambda: not _accepts(live))
        patient.let(9)
        assert "".join(c.choices[0].delta.content or "" for c in stream) == "word word word word word"
        assert waiting.result().choices[0].message.content == "word word word word word"
    assert not any(thread.is_alive() for thread in live.server.service.worker._threads)


def _accepts(live: Live) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(live.root.rpartition(":")[2])), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True
