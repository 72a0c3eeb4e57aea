"""Audio behind addresses is fetched from named hosts alone, and never from the server's own network by a name."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from tests.serving.live import KEY, serving

from vivavoce.base.errors import ConfigError
from vivavoce.inference.assistant import Assistant
from vivavoce.serving.engine import Engine
from vivavoce.serving.fetching import Fetcher, is_outside
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal

LIMITS = Limits(max_upload_bytes=100_000, fetch_s=1.0)


class Files(BaseHTTPRequestHandler):
    """Answers as the path says."""

    protocol_version = "HTTP/1.1"
    question = b""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        if self.path.startswith("/question.wav"):
            self._send(200, self.question, {"Content-Type": "text/html"})
        elif self.path == "/elsewhere":
            self._send(302, b"", {"Location": "/question.wav"})
        elif self.path == "/claims":
            self.send_response(200)
            self.send_header("Content-Length", str(2 << 30))
            self.end_headers()
            self._drip(b"x" * 8192, 0.0)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            self._drip(b"x" * 8192, 0.0)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            self._drip(b"x", 0.05)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"too little")
            self.close_connection = True
        else:
            self._send(404, b"no", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, piece: bytes, pause_s: float) -> None:
        try:
            for _ in range(2000):
                self.wfile.write(piece)
                time.sleep(pause_s)
        except OSError:
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def files(question: bytes) -> Iterator[Any]:
    Files.question = question
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(url: str, hosts: list[str], limits: Limits = LIMITS) -> bytes:
    return asyncio.run(Fetcher(hosts, limits).get(url, "here"))


def refused(url: str, hosts: list[str]) -> Refusal:
    with pytest.raises(Refusal, match="here") as caught:
        get(url, hosts)
    return caught.value


def test_a_named_address_is_fetched(files: Any, question: bytes) -> None:
    port = files.server_port
    assert (
        get(f"http://127.0.0.1:{port}/question.wav?a=b c&d=%20".replace(" ", "%20"), ["127.0.0.1"])
        == question
    )
    assert files.asked == [("/question.wav?a=b%20c&d=%20", f"127.0.0.1:{port}")]


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (["localhost", "*"], "localhost"),  # a name does not open the own network
        (["*"], "127.0.0.1"),
        (["*"], "[::1]"),
        (["*"], "0x7f.1"),
        (["*"], "2130706433"),
        (["*"], "[::ffff:127.0.0.1]"),
        (["*"], "169.254.169.254"),
        (["files.example.com"], "127.0.0.1"),
        (["127.0.0.1"], "localhost"),
    ],
)
def test_the_own_network_is_out_of_reach(files: Any, hosts: list[str], host: str) -> None:
    found = refused(f"http://{host}:{files.server_port}/question.wav", hosts)
    assert (found.status_code, found.code) == (400, "host_not_allowed") and files.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.5.4", "192.168.1.1", "127.8.8.8", "0.0.0.0", "169.254.169.254", "100.100.100.200",
        "168.63.129.16", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fd00:ec2::254",
        "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_inside(address: str) -> None:
    assert not is_outside(ipaddress.ip_address(address))


def test_addresses_that_are_outside() -> None:
    for address in ("93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"):
        assert is_outside(ipaddress.ip_address(address))


def test_the_address_that_was_checked_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"]]  # a name that changes its mind
    asked: list[Any] = []

    async def resolve(self: Any, host: str, port: int, **settings: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answers.pop(0)]

    async def connect(host: str, port: int, **settings: Any) -> Any:
        asked.append((host, port, settings["server_hostname"]))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    assert refused("https://files.example.com/x", ["files.example.com"]).code == "fetch_failed"
    assert asked == [("93.184.215.14", 443, "files.example.com")] and len(answers) == 1
    answers[:] = [["93.184.215.14", "10.0.0.1"]]
    assert refused("https://files.example.com/x", ["files.example.com"]).code == "host_not_allowed"
    assert len(asked) == 1


def test_redirects_sizes_and_times(files: Any) -> None:
    root = f"http://127.0.0.1:{files.server_port}"
    found = refused(f"{root}/elsewhere", ["127.0.0.1"])
    assert (found.status_code, "redirects" in found.detail, len(files.asked)) == (400, True, 1)
    assert refused(f"{root}/nothing", ["127.0.0.1"]).code == "fetch_failed"
    for path in ("claims", "endless"):
        assert refused(f"{root}/{path}", ["127.0.0.1"]).status_code == 413
    began = time.monotonic()
    assert "more than 1 s" in refused(f"{root}/slow", ["127.0.0.1"]).detail
    assert time.monotonic() - began < 3
    assert refused(f"{root}/short", ["127.0.0.1"]).code == "fetch_failed"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://x/y", "gopher://x", "//x/y", "x", "http://", "http://a b/", "http://user@x/",
        "http://x:99999/", "http://x/\r\nEvil: 1", "http://[::1", "data:audio/wav,abc", "data:,", "data:;base64,%%%",
        "http://x/" + "a" * 5000,
    ],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    assert refused(url, ["x", "*"]).status_code == 400


def test_hosts_that_are_none() -> None:
    for host in ("", "http://x", "x/y", "user@x"):
        with pytest.raises(ConfigError, match="allow-url-host"):
            Fetcher([host], LIMITS)


def _asked(url: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}]


def test_in_chat(nano: Assistant, files: Any, question: bytes, client: openai.OpenAI) -> None:
    inline = "data:audio/wav;base64," + base64.b64encode(question).decode()
    made = client.chat.completions.create(model="nano", messages=_asked(inline))
    assert made.choices[0].message.content == "twelve", "data addresses need no leave"
    url = f"http://127.0.0.1:{files.server_port}/question.wav"
    with pytest.raises(openai.BadRequestError, match="fetches nothing"):
        client.chat.completions.create(model="nano", messages=_asked(url))
    with pytest.raises(openai.BadRequestError, match="url is missing"):
        client.chat.completions.create(model="nano", messages=_asked(7))
    assert files.asked == []
    with serving(Engine(nano, "nano"), [KEY], url_hosts=["127.0.0.1"]) as live:
        made = live.client().chat.completions.create(model="nano", messages=_asked(url))
        assert made.choices[0].message.content == "twelve"
        with pytest.raises(openai.BadRequestError, match="status 404"):
            live.client().chat.completions.create(
                model="nano", messages=_asked(url.replace("question", "no"))
            )
