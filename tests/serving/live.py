"""A server in a thread of the test's own process, and a model that answers when it is told to."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai
import uvicorn

from vivavoce.inference.finish import Finish
from vivavoce.inference.reply import Delta
from vivavoce.serving.app import Server
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits
from vivavoce.serving.running import Draining, listen

KEY = "a secret of the tests"


@dataclass
class Live:
    """A running server.

    Attributes:
        server: With its service.
        root: Address without path.
        key: What callers send.
        stop: Does what SIGTERM does.
    """

    server: Server
    root: str
    key: str
    stop: Callable[[], None]

    def client(self, **settings: Any) -> openai.OpenAI:
        given = {
            "base_url": f"{self.root}/v1",
            "api_key": self.key,
            "max_retries": 0,
            "timeout": 30,
            **settings,
        }
        return openai.OpenAI(**given)


@contextmanager
def serving(
    engine: Engine, keys: Sequence[str] = (), limits: Limits | None = None, **settings: Any
) -> Iterator[Live]:
    """Run a server as long as the block."""
    server = Server(engine, keys, limits, **settings)
    door = listen("127.0.0.1", 0)
    port = door.getsockname()[1]
    inner = Draining(
        uvicorn.Config(
            server,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            lifespan="on",
        )
    )
    thread = threading.Thread(target=inner.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    until(lambda: inner.started)

    def stop() -> None:
        inner.should_exit = True

    try:
        yield Live(server, f"http://127.0.0.1:{port}", keys[0] if keys else "none", stop)
    finally:
        stop()
        thread.join(20)
        assert not thread.is_alive(), "the server does not stop"


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve any app in a thread; gives host and port."""
    door = listen("127.0.0.1", 0)
    inner = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=inner.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    until(lambda: inner.started)
    try:
        yield f"127.0.0.1:{door.getsockname()[1]}"
    finally:
        inner.should_exit = True
        thread.join(20)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class Permits:
    """Permissions to go on, given to threads in the order in which they asked.

    A semaphore gives in any order: a thread that is done with one may take the next before one that waits wakes up.
    """

    def __init__(self) -> None:
        self._left = 0
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Threads that asked and have none."""
        return len(self._waiting)

    def let(self, count: int) -> None:
        """Give so many, now or to who asks later."""
        with self._lock:
            self._left += count
            while self._left and self._waiting:
                self._left -= 1
                self._waiting.popleft().set()

    def take(self) -> None:
        """Wait for one."""
        given = threading.Event()
        with self._lock:
            if self._left:  # then nobody waits
                self._left -= 1
                return
            self._waiting.append(given)
        given.wait()


class Patient(Engine):
    """A model that says one word per permission.

    Attributes:
        permits: One per word; a large number lets it run.
        said: Words so far, over all requests.
        closed: Answers that were ended or given up.
    """

    hears = False
    speaks = True
    chats = True
    takes_tools = False
    transcribes = False
    open_sequences = 0
    voices = ("default",)
    speaking_hz = 24000

    def __init__(self, words: int = 20) -> None:
        self.name, self.words = "patient", words
        self.permits = Permits()
        self.said, self.closed = 0, 0
        self.fault: Exception | None = None

    def start(self) -> None:
        """There is no model to run."""

    def stop(self) -> None:
        pass

    def let(self, words: int) -> None:
        self.permits.let(words)

    def chat(
        self, messages: Any, audio: bool, voice: str | None, options: Any, tools: Any = ()
    ) -> Iterator[Delta]:
        try:
            for _ in range(self.words):
                self.permits.take()
                if self.fault is not None:
                    raise self.fault
                self.said += 1
                yield Delta(text="word ", audio=np.zeros(2400, np.float32) if audio else None)
            yield Delta(finish=Finish("stop", self.words, self.words if audio else 0, 1))
        finally:
            self.closed += 1

    def say(self, text: str, voice: str | None) -> Iterator[Delta]:
        yield from self.chat([], True, voice, {})
