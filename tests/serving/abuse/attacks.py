"""What hostile and broken clients do, by plain sockets, and a well-behaved client beside them."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from tests.serving.live import Live


def port_of(live: Live) -> int:
    return int(live.root.rpartition(":")[2])


def connect(live: Live, timeout_s: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(live)), timeout=timeout_s)


def head_of(live: Live, path: str = "/v1/chat/completions", kind: str = "application/json") -> str:
    """A request up to its last headers."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nAuthorization: Bearer {live.key}\r\n"


def status_of(line: socket.socket) -> int:
    """The status of what comes back, 0 if the server only closed."""
    data = b""
    try:
        while b"\r\n" not in data and (more := line.recv(4096)):
            data += more
    except ConnectionError:
        return 0
    return int(data.split(b" ", 2)[1]) if data else 0


@contextmanager
def a_good_client(live: Live, most_s: float = 15.0) -> Iterator[None]:
    """Asks again and again while the block runs, and must be answered each time."""
    stop, faults, answers = threading.Event(), [], []
    client = live.client(api_key="another key", timeout=most_s)

    def ask() -> None:
        while not stop.is_set():
            try:
                made = client.chat.completions.create(
                    model="nano", messages=[{"role": "user", "content": "what is nine plus four"}]
                )
                answers.append(made.choices[0].message.content)
            except Exception as error:  # noqa: BLE001  (whatever it is, the test must see it)
                faults.append(error)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        seen = len(answers)
        end = time.monotonic() + most_s
        while len(answers) == seen and not faults and time.monotonic() < end:
            time.sleep(0.01)
        stop.set()
        thread.join(most_s)
    assert not faults, faults
    assert len(answers) > seen and set(answers) == {"thirteen"}


def resident_mb() -> float:
    """Memory of this process, in which the server runs too."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def written(samples: np.ndarray, rate: int, form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return file.getvalue()


def wav_that_claims(seconds: float, rate: int = 16000) -> bytes:
    """A wav whose header tells of much more than there is."""
    data = bytearray(written(np.zeros(rate // 10, np.int16), rate, "WAV"))
    size = min(2**32 - 1, int(seconds * rate * 2))
    data[40:44] = size.to_bytes(4, "little")
    data[4:8] = min(2**32 - 1, size + 36).to_bytes(4, "little")
    return bytes(data)


def flac_that_claims(seconds: int, rate: int = 16000) -> bytes:
    """A FLAC whose stream info tells of so many samples."""
    data = bytearray(written(np.zeros(rate, np.int16), rate, "FLAC"))
    total = seconds * rate
    data[21] = (data[21] & 0xF0) | (total >> 32) & 0xF
    data[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)
