"""Who may connect, how many, for how long; and what is counted and logged about it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tests.serving.live import KEY, Live, serving, until
from tests.serving.realtime.talking import Gated, talk
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vivavoce.inference.assistant import Assistant
from vivavoce.serving.engine import Engine
from vivavoce.serving.gate import JsonLines
from vivavoce.serving.limits import Limits
from vivavoce.serving.realtime.pace import Pace

PAGE = "https://page.example"
LIMITS = Limits(
    max_realtime=3,
    max_realtime_per_caller=2,
    max_session_s=30.0,
    max_event_bytes=20_000,
    max_faults=10,
    max_items=3,
    max_events_per_s=50,
    requests_per_minute=60,
)


@pytest.fixture(scope="module")
def live(nano: Assistant) -> Iterator[Live]:
    with serving(Engine(nano, "nano"), [KEY, "another key"], LIMITS, origins=[PAGE]) as server:
        yield server


def dial(live: Live, query: str = "?model=nano", key: str | None = KEY, **settings: Any) -> Any:
    """A plain WebSocket, as pages and other clients open it."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= settings.pop("headers", {})
    address = f"{live.root.replace('http', 'ws')}/v1/realtime{query}"
    return connect(address, additional_headers=headers, **settings)


def refused(live: Live, *args: Any, **settings: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as caught, dial(live, *args, **settings):
        pass
    return caught.value.response.status_code, json.loads(caught.value.response.body)["error"]


def test_keys(live: Live) -> None:
    for key in (None, "wrong key", KEY + "x"):
        status, error = refused(live, key=key)
        assert (status, error["code"]) == (401, "invalid_api_key")
    status, _ = refused(live, key=None, subprotocols=["realtime", "openai-insecure-api-key.wrong"])
    assert status == 401


def test_the_key_of_pages(nano: Assistant) -> None:
    with serving(Engine(nano, "nano"), ["key-of-pages"]) as live:
        offered = ["realtime", "openai-insecure-api-key.key-of-pages"]
        with dial(live, key=None, subprotocols=offered) as line:
            assert line.subprotocol == "realtime"
            assert json.loads(line.recv(5))["type"] == "session.created"


def test_pages_of_other_addresses(live: Live) -> None:
    for origin in ("https://evil.example", "null", live.root + ".evil.example"):
        status, error = refused(live, headers={"Origin": origin})
        assert (status, error["code"]) == (403, "forbidden_origin")
    for origin in (PAGE, live.root):
        with dial(live, headers={"Origin": origin}) as line:
            assert json.loads(line.recv(5))["type"] == "session.created"
    until(lambda: not live.server.realtime.connections)


def test_the_model_is_checked(live: Live) -> None:
    status, error = refused(live, "?model=other")
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert refused(live, "?model=nano&intent=transcription")[0] == 400
    with dial(live, "") as line:
        assert json.loads(line.recv(5))["session"]["model"] == "nano"
    until(lambda: not live.server.realtime.connections)


def test_how_many(live: Live) -> None:
    before = live.server.service.metrics.rejected.value("realtime")
    with dial(live), dial(live):
        assert refused(live)[0] == 429
        with dial(live, key="another key"):
            status, error = refused(live, key="another key")
            assert (status, error["code"]) == (503, "overloaded")
            page = httpx.get(f"{live.root}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
            assert "vivavoce_realtime_connections 3\n" in page
    until(lambda: not live.server.realtime.connections)
    assert live.server.service.metrics.rejected.value("realtime") == before + 2
    with dial(live) as line:
        assert json.loads(line.recv(5))["type"] == "session.created"


def ending(line: Any) -> tuple[str, int]:
    """The code of the last event and of the close."""
    code = ""
    try:
        while True:
            event = json.loads(line.recv(10))
            code = event.get("error", {}).get("code", code)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return code, closed.rcvd.code


def test_idle_clients_are_told_to_go(nano: Assistant) -> None:
    limits = Limits(realtime_idle_s=0.4)
    with serving(Engine(nano, "nano"), [KEY], limits) as live, dial(live) as line:
        assert ending(line) == ("idle_timeout", 1001)


def test_the_longest_session(nano: Assistant) -> None:
    limits = Limits(max_session_s=0.5, realtime_idle_s=10.0)
    with serving(Engine(nano, "nano"), [KEY], limits) as live, dial(live) as line:
        assert ending(line) == ("session_expired", 1001)


def test_clients_that_only_send_nonsense_are_cut(live: Live) -> None:
    with dial(live) as line:
        for _ in range(20):
            line.send("nonsense")
        assert ending(line) == ("too_many_errors", 1008)


def test_sizes(live: Live) -> None:
    with dial(live) as line:
        line.recv(5)
        line.send(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 30_000}))
        assert json.loads(line.recv(5))["error"]["code"] == "event_too_large"
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        for _ in range(4):
            line.send(json.dumps({"type": "conversation.item.create", "item": item}))
        codes = [json.loads(line.recv(5)).get("error", {}).get("code") for _ in range(7)]
        assert codes == [None] * 6 + ["too_many_items"]


def test_floods_wait(live: Live) -> None:
    with dial(live) as line:
        line.recv(5)
        began = time.monotonic()
        for _ in range(150):
            line.send('{"type": "input_audio_buffer.clear"}')
        for _ in range(150):
            assert json.loads(line.recv(5))["type"] == "input_audio_buffer.cleared"
        assert time.monotonic() - began > 0.8


def test_bursts_pass_and_the_pace_comes_back() -> None:
    now = [0.0]
    pace = Pace(50, lambda: now[0])
    assert [pace.delay_s() for _ in range(100)] == [0.0] * 100
    assert pace.delay_s() == pytest.approx(0.02)
    now[0] += 10
    assert [pace.delay_s() for _ in range(100)] == [0.0] * 100


def test_responses_count_against_the_rate(nano: Assistant) -> None:
    limits = Limits(requests_per_minute=2)

    async def run(live: Live) -> None:
        async with talk(live) as t:
            await t.update(output_modalities=["text"])
            for left in (1, 0):
                await t.ask("what is two plus three")
                await t.answer()
                (rate,) = t.events[t.kinds().index("rate_limits.updated")]["rate_limits"] if left else (None,)
                assert rate is None or (rate["limit"], rate["remaining"]) == (2, 1)
            await t.ask("what is two plus three")
            await t.connection.response.create()
            assert (await t.error())["code"] == "rate_limit_exceeded"

    with serving(Engine(nano, "nano"), [KEY], limits) as live:
        asyncio.run(run(live))


def test_who_does_not_read_is_cut(nano: Assistant) -> None:
    """The answers fill the buffers of both ends; the connection ends, others go on."""
    with serving(Engine(nano, "nano"), [KEY], Limits(send_idle_s=0.5, max_events_per_s=10_000)) as live:
        with dial(live, max_queue=1, close_timeout=0.2) as line:
            clip = {"type": "input_audio", "audio": "AAAA" * 200_000}
            item = {"id": "mine", "type": "message", "role": "user", "content": [clip]}
            line.send(json.dumps({"type": "conversation.item.create", "item": item}))
            for _ in range(60):
                line.send('{"type": "conversation.item.retrieve", "item_id": "mine"}')
            until(lambda: not live.server.realtime.connections)
        with dial(live) as line:
            assert json.loads(line.recv(5))["type"] == "session.created"


def test_numbers_and_log(live: Live, spoken: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    metrics = live.server.service.metrics
    before = (metrics.realtime_ttft.count, metrics.realtime_first_audio.count)

    async def run() -> None:
        async with talk(live) as t:
            await t.ask("what is nine plus four")
            assert (await t.answer())["status"] == "completed"

    with caplog.at_level(logging.INFO, "vivavoce.serving"):
        asyncio.run(run())
        until(lambda: any(r.getMessage() == "realtime" for r in caplog.records))
    assert (metrics.realtime_ttft.count, metrics.realtime_first_audio.count) == (before[0] + 1, before[1] + 1)
    assert metrics.realtime_responses.value("completed") >= 1
    lines = [JsonLines().format(record) for record in caplog.records]
    row = next(json.loads(line) for line in lines if '"event": "realtime"' in line)
    assert row["responses"] == 1 and row["why"] == "left" and row["caller"] == "key 0"
    assert not any("nine" in line or "thirteen" in line for line in lines)


def test_a_server_that_stops_lets_answers_end(nano: Assistant) -> None:
    gated = Gated(nano)

    async def run(live: Live) -> None:
        async with talk(live) as t:
            await t.ask("what is nine plus four")
            gated.let(2)
            await t.connection.response.create()
            await t.until("response.output_audio.delta")
            live.stop()
            threading.Timer(0.3, gated.let, [100]).start()
            assert (await t.done())["status"] == "completed"
            assert (await t.error())["code"] == "stopping"

    with serving(gated, [KEY]) as live:
        asyncio.run(run(live))
