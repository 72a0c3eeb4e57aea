"""Clients that claim, drip, stall and crowd: refused or cut, while a good client is answered."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.serving.abuse.attacks import a_good_client, connect, head_of, resident_mb, status_of
from tests.serving.live import KEY, Live, serving, until

from vivavoce.inference.assistant import Assistant
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits

LIMITS = Limits(
    max_upload_bytes=300_000, max_audio_s=8.0, upload_idle_s=1.0, send_idle_s=1.0, max_concurrent=4
)


@pytest.fixture(scope="module")
def target(nano: Assistant) -> Iterator[Live]:
    with serving(Engine(nano, "nano"), [KEY, "another key"], LIMITS) as live:
        yield live
        assert live.server.access.running() == 0


@pytest.mark.parametrize("claim", [str(2 << 30), str(2**63), "9" * 400, "-1", "1e9", "0x10", "12, 13"])
def test_lengths_that_lie(target: Live, claim: str) -> None:
    with a_good_client(target), connect(target) as line:
        line.sendall(f"{head_of(target)}Content-Length: {claim}\r\n\r\n{{".encode())
        assert status_of(line) in (400, 413)


def test_a_body_without_end(target: Live) -> None:
    before = resident_mb()
    with a_good_client(target), connect(target) as line:
        line.sendall(f"{head_of(target)}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent, piece = 0, b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            while sent < 64 << 20:
                line.sendall(piece)
                sent += 65536
        except OSError:
            pass
        assert sent < 32 << 20, "the server reads on"
    assert resident_mb() - before < 100


def test_headers_without_end(target: Live) -> None:
    before = resident_mb()
    for header in (b"X-%d: " + b"a" * 1000 + b"\r\n", b"a" * 1024):
        with a_good_client(target), connect(target) as line:
            line.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
            sent = 0
            try:
                while sent < 32 << 20:
                    line.sendall(header.replace(b"%d", str(sent).encode()))
                    sent += len(header)
            except OSError:
                pass
            assert sent < 16 << 20, "the server reads on"
    assert resident_mb() - before < 100


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"model": "nano", "messages": ' + b"[" * 60_000 + b"]" * 60_000 + b"}",
        b'{"model": "nano", "messages": [' + b'{"role": "user", "content": [' * 3000 + b"]}" * 3000 + b"]}",
        b'{"model": "nano", "messages": [{"role": "user", "content": "' + b"\\u0000" * 9000 + b'"}]}',
        b'{"model": "nano", "messages": [{"role": "user", "content": "\\ud800 nine"}]}',
        b'{"model": "nano", "seed": 1e999, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "nano", "seed": ' + b"9" * 5000 + b', "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "nano", "tools": [' + b"{}," * 20_000 + b'{}], "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "nano", "messages": [' + b'{"role": "user", "content": "x"},' * 3000
        + b'{"role": "user", "content": "x"}]}',
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_bodies_that_nest_or_swell(target: Live, body: bytes) -> None:
    header = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with a_good_client(target):
        found = httpx.post(f"{target.root}/v1/chat/completions", content=body, headers=header, timeout=30)
    assert found.status_code in (200, 400, 413), found.text[:300]
    assert found.status_code == 200 or found.json()["error"]["message"]


def test_half_requests_that_stay(target: Live) -> None:
    lines = []
    try:
        with a_good_client(target):
            for _ in range(60):
                line = connect(target)
                line.sendall(head_of(target).encode()[:80])
                lines.append(line)
            for _ in range(LIMITS.max_concurrent):
                line = connect(target)
                line.sendall(f"{head_of(target)}Content-Length: 100\r\n\r\n{{".encode())
                lines.append(line)
            assert [status_of(line) for line in lines[60:]] == [408] * LIMITS.max_concurrent
    finally:
        for line in lines:
            line.close()
    until(lambda: target.server.access.running() == 0)


def test_readers_that_do_not_read(target: Live) -> None:
    body = json.dumps({"model": "nano", "input": "one two three " * 60, "response_format": "wav"})
    lines = []
    try:
        with a_good_client(target, 60):
            for _ in range(3):
                line = socket.socket()
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                line.connect(("127.0.0.1", int(target.root.rpartition(":")[2])))
                path = head_of(target, "/v1/audio/speech")
                line.sendall(f"{path}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                lines.append(line)
            time.sleep(0.5)
    finally:
        for line in lines:
            line.close()
    until(lambda: target.server.access.running() == 0 and target.server.service.worker.working == 0, 60)


def test_many_connections_that_say_nothing(target: Live) -> None:
    lines = [connect(target) for _ in range(300)]
    try:
        with a_good_client(target):
            assert httpx.get(f"{target.root}/healthz").status_code == 200
    finally:
        for line in lines:
            line.close()


@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\0" * 4096, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n"],
)  # fmt: skip
def test_what_is_no_request(target: Live, raw: bytes) -> None:
    with a_good_client(target), connect(target) as line:
        line.sendall(raw)
        line.shutdown(socket.SHUT_WR)
        assert status_of(line) in (0, 200, 400, 401)


def test_multipart_floods(target: Live) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nnano\r\n'
    header = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=x"}
    for body in (part * 4000 + b"--x--\r\n", part, b"--x\r\n" * 50_000, b"--x\r\nA: " + b"b" * 200_000):
        with a_good_client(target):
            found = httpx.post(
                f"{target.root}/v1/audio/transcriptions", content=body, headers=header, timeout=30
            )
        assert found.status_code in (400, 413), (body[:20], found.status_code, found.text[:200])
