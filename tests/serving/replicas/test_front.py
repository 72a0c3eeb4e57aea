"""The front with stand-ins for replicas: who gets what, and what happens when one of them dies."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.serving.live import running, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vivavoce.serving.access import Access
from vivavoce.serving.gate import Gate
from vivavoce.serving.limits import Limits
from vivavoce.serving.metrics import Metrics
from vivavoce.serving.replicas.child import BehindFront
from vivavoce.serving.replicas.front import Front
from vivavoce.serving.replicas.processes import Replicas
from vivavoce.serving.replicas.totals import summed
from vivavoce.serving.settings import ServerSettings

KEY, BROWSER_KEY = "a secret of the tests", "a-key-of-a-browser"


@dataclass
class Fake:
    """A replica that is an app in a thread of this process."""

    number: int
    address: str = ""
    secret: str = "the secret of this replica"
    ready: bool = True
    open: int = 0
    used: float = 0.0
    starts: int = 1
    seen: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    def app(self) -> Starlette:
        access = BehindFront(self.secret, Limits())

        async def echo(request: Request) -> Any:
            caller = access.caller(request.headers["authorization"], "")
            body = await request.body()
            self.seen.append({"caller": caller, "url": str(request.url), "body": body})
            if b"slowly" in body:
                times = 50 if b"to the end" in body else 100_000
                return StreamingResponse(self._slowly(times), media_type="text/event-stream")
            if b"wait" in body:
                await asyncio.to_thread(self.hold.wait, 10)
            headers = {"x-request-id": "of the replica", "x-more": "kept"}
            return JSONResponse({"number": self.number, "body": body.decode()}, 201, headers=headers)

        async def numbers(request: Request) -> Any:
            access.caller(request.headers["authorization"], "")
            return PlainTextResponse(
                "# HELP vivavoce_rtf x\n# TYPE vivavoce_rtf histogram\n"
                'vivavoce_rtf_bucket{le="1.0"} 2\nvivavoce_rtf_sum 1.5\n'
                "# HELP vivavoce_requests_total x\n# TYPE vivavoce_requests_total counter\n"
                'vivavoce_requests_total{route="/x",status="200"} 7\n'
            )

        async def talk(socket: WebSocket) -> None:
            caller = access.caller(socket.headers["authorization"], "")
            await socket.accept("realtime" if "realtime" in socket.scope["subprotocols"] else None)
            await socket.send_json([self.number, caller, socket.scope["subprotocols"], str(socket.url.query)])
            try:
                while (text := await socket.receive_text()) != "bye":
                    await socket.send_bytes(text.encode())
                await socket.close(4001, "as you wish")
            except Exception as error:  # noqa: BLE001  (whatever ends it)
                self.gone.append(type(error).__name__)

        routes = [Route("/metrics", numbers), WebSocketRoute("/v1/realtime", talk)]
        return Starlette(routes=[*routes, Route("/{rest:path}", echo, methods=["GET", "POST"])])

    async def _slowly(self, times: int) -> Any:
        try:
            for n in range(times):
                yield f"data: {n}\n\n".encode()
                await asyncio.sleep(0.02)
            self.gone.append("at the end")
        except BaseException as error:
            self.gone.append(type(error).__name__)
            raise


class FakeReplicas(Replicas):
    """Not started, watched or stopped; the rest is as it is."""

    def __init__(self, fakes: list[Fake], limits: Limits) -> None:
        super().__init__(ServerSettings(model="none", name="none", limits=limits), [])
        self.all = fakes  # type: ignore[assignment]

    def watch(self, client: httpx.AsyncClient) -> None:
        pass

    async def stop(self) -> None:
        pass


@pytest.fixture
def two() -> Iterator[list[Fake]]:
    fakes = [Fake(0), Fake(1)]
    with ExitStack() as stack:
        for fake in fakes:
            fake.address = stack.enter_context(running(fake.app()))
        yield fakes
        for fake in fakes:
            fake.hold.set()


@contextmanager
def front(fakes: list[Fake], **limits: Any) -> Iterator[httpx.Client]:
    made = Limits(max_upload_bytes=100_000, **limits)
    app = Front(FakeReplicas(fakes, made), Access([KEY, "another key", BROWSER_KEY], made))
    with running(app) as address:
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=10) as client:
            yield client


def test_requests_go_on_as_they_are_and_in_turns(two):
    with front(two) as client:
        for _ in range(6):
            answer = client.post("/v1/chat/completions?a=b%20c", content=b'{"x": 1}')
            assert answer.status_code == 201 and answer.headers["x-more"] == "kept"
            assert answer.headers.get_list("x-request-id")[0].startswith("req_")
            assert len(answer.headers.get_list("x-request-id")) == 1
    assert [len(fake.seen) for fake in two] == [3, 3]
    seen = two[0].seen[0]
    assert seen["caller"] == "key 0" and seen["body"] == b'{"x": 1}'
    assert seen["url"].endswith("/v1/chat/completions?a=b%20c")
    assert [fake.open for fake in two] == [0, 0]


def test_one_log_line_and_one_id_for_each_request(caplog):
    fake, limits, inside = Fake(0), Limits(), []

    async def replica(scope: Any, receive: Any, send: Any) -> None:
        inside.append(scope["request_id"])
        await PlainTextResponse("done")(scope, receive, send)

    behind = Gate(replica, BehindFront(fake.secret, limits), limits, Metrics(lambda: 0, lambda: 0))
    with running(behind) as fake.address, caplog.at_level("INFO", logger="vivavoce.serving"):
        with front([fake]) as client:
            mine = {"x-request-id": "of the caller"}
            ids = [client.post("/v1/audio/speech", content=b"x", headers=mine).headers["x-request-id"]]
            ids.append(client.get("/").headers["x-request-id"])
            until(lambda: len(caplog.records) >= 2)
        assert [record.fields["request_id"] for record in caplog.records] == ids
        assert inside[0] == ids[0] and ids[0].startswith("req_")
        # one who is not the front is told so, logged, and cannot choose an id
        stranger = httpx.post(f"http://{fake.address}/v1/audio/speech", content=b"x", headers=mine)
        assert stranger.status_code == 401 and stranger.headers["x-request-id"] != mine["x-request-id"]
        until(lambda: len(caplog.records) == 3)


def test_the_least_busy_one_is_asked(two):
    with front(two) as client:
        waiting = threading.Thread(
            target=client.post, args=("/v1/audio/speech",), kwargs={"content": b"wait"}
        )
        waiting.start()
        until(lambda: two[0].open + two[1].open == 1)
        busy, free = (two[0], two[1]) if two[0].open else (two[1], two[0])
        for _ in range(4):
            until(lambda: free.open == 0)  # a request is counted out after its last byte
            assert client.post("/v1/audio/speech", content=b"x").json()["number"] != busy.number
        busy.hold.set()
        waiting.join()


def test_limits_and_keys_are_checked_in_front(two):
    with front(two, max_concurrent=1, requests_per_minute=4) as client:
        bad = {"authorization": "Bearer wrong wrong"}
        assert client.post("/v1/audio/speech", content=b"x", headers=bad).status_code == 401
        assert client.get("/metrics", headers=bad).status_code == 401
        assert client.post("/v1/audio/speech", content=b"x" * 100_001).status_code == 413
        assert not two[0].seen and not two[1].seen
        waiting = threading.Thread(
            target=client.post, args=("/v1/audio/speech",), kwargs={"content": b"wait"}
        )
        waiting.start()
        until(lambda: two[0].open + two[1].open == 1)
        refused = client.post("/v1/audio/speech", content=b"x")
        assert refused.status_code == 429 and "running" in refused.json()["error"]["message"]
        other = {"authorization": "Bearer another key"}
        assert client.post("/v1/audio/speech", content=b"x", headers=other).status_code == 201
        for fake in two:
            fake.hold.set()
        waiting.join()
        assert {s["caller"] for fake in two for s in fake.seen} == {"key 0", "key 1"}
        codes = [client.post("/v1/audio/speech", content=b"x").status_code for _ in range(9)]
        assert 429 in codes and 201 in codes  # a minute may begin in between


def test_another_one_answers_if_one_is_gone(two):
    with front(two) as client:
        dead = Fake(7, address="127.0.0.1:9")  # nobody listens there
        two.append(dead)
        for _ in range(6):
            assert client.post("/v1/audio/speech", content=b"whole body").json()["body"] == "whole body"
        two[0].ready = two[1].ready = dead.ready = False
        gone = client.post("/v1/audio/speech", content=b"x")
        assert gone.status_code == 503 and gone.headers["retry-after"] == "2"
        assert client.get("/healthz").status_code == 503
        two[1].ready = True
        assert client.get("/healthz").json() == {"status": "ok", "replicas": 3, "ready": 1}


def test_who_gave_an_answer_is_asked_about_it(two):
    with front(two) as client:
        for number in (1, 1, 0, 1):
            named = {
                "messages": [{"role": "assistant", "audio": {"id": f"audio_r{number}_0123456789abcdef"}}]
            }
            for body in (json.dumps(named), json.dumps(named, separators=(",", ":"))):
                assert client.post("/v1/chat/completions", content=body).json()["number"] == number


def test_streams_are_passed_on_as_they_come_and_end_with_the_caller(two):
    with front(two) as client:
        with client.stream("POST", "/v1/chat/completions", content=b"slowly") as answer:
            pieces = answer.iter_text()
            assert next(pieces).startswith("data: 0") and not two[0].gone and not two[1].gone
        until(lambda: two[0].gone or two[1].gone)
        assert (two[0].gone or two[1].gone)[0] != "at the end"
        until(lambda: two[0].open == two[1].open == 0)
        with client.stream("POST", "/v1/chat/completions", content=b"slowly to the end") as answer:
            assert "".join(answer.iter_text()).count("data:") == 50


def test_numbers_are_summed_and_ours_count_what_was_refused(two):
    with front(two) as client:
        client.post("/v1/audio/speech", content=b"x", headers={"authorization": "none"})
        page = client.get("/metrics").text
        assert 'vivavoce_rtf_bucket{le="1.0"} 4\nvivavoce_rtf_sum 3\n' in page
        assert 'vivavoce_requests_total{route="/v1/audio/speech",status="401"} 1' in page
        assert 'route="/x"' not in page
        assert 'vivavoce_replica_up{replica="1"} 1' in page
        assert page.count("# TYPE vivavoce_requests_total counter") == 1
        two[1].ready = False
        page = client.get("/metrics").text
        assert "vivavoce_rtf_sum 1.5\n" in page and 'vivavoce_replica_up{replica="1"} 0' in page
    assert summed(["# TYPE a gauge\na 1\n", "# TYPE a gauge\na 2.5\n", ""]) == "# TYPE a gauge\na 3.5\n"


def test_a_connection_stays_with_its_replica(two):
    with front(two) as client:
        url = f"ws://{client.base_url.host}:{client.base_url.port}/v1/realtime?model=m"
        headers = {"authorization": f"Bearer {KEY}"}
        with (
            connect(url, additional_headers=headers) as first,
            connect(url, additional_headers=headers) as second,
        ):
            hello = [json.loads(c.recv()) for c in (first, second)]
            assert {h[0] for h in hello} == {0, 1} and hello[0][1:] == ["key 0", [], "model=m"]
            assert [fake.open for fake in two] == [1, 1]
            for c in (first, second, first):
                c.send("some words")
                assert c.recv() == b"some words"
            first.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                first.recv()
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
        until(lambda: [fake.open for fake in two] == [0, 0])
        until(lambda: any(fake.gone for fake in two))  # the other side hears that second has gone
        browser = ["realtime", f"openai-insecure-api-key.{BROWSER_KEY}"]  # which cannot send headers
        with connect(url, subprotocols=browser) as third:
            assert third.subprotocol == "realtime"
            assert json.loads(third.recv())[1:3] == ["key 2", ["realtime"]]  # the key stays in front


def test_connections_without_a_key_or_one_too_many(two):
    with front(two, max_realtime_per_caller=1) as client:
        url = f"ws://{client.base_url.host}:{client.base_url.port}/v1/realtime"
        with pytest.raises(InvalidStatus) as refused, connect(url):
            pass
        assert refused.value.response.status_code == 401
        assert b"no API key" in refused.value.response.body
        headers = {"authorization": f"Bearer {KEY}"}
        with connect(url, additional_headers=headers):
            with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers):
                pass
            assert refused.value.response.status_code == 429
        until(lambda: two[0].open == two[1].open == 0)
        with connect(url, additional_headers=headers):
            pass


def test_no_replica_for_a_connection(two):
    two[0].ready = two[1].ready = False
    with front(two) as client:
        url = f"ws://{client.base_url.host}:{client.base_url.port}/v1/realtime"
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(url, additional_headers={"authorization": f"Bearer {KEY}"}),
        ):
            pass
        assert refused.value.response.status_code == 403
