"""Events on their way to the client: ids, order, and what happens when nobody reads them."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from typing import Any, Protocol

from vivavoce.serving.refusals import Refusal

log = logging.getLogger("vivavoce.serving")

MOST_BYTES = 32 << 20  # that may wait for one client


def new_id(kind: str) -> str:
    """An id such as ``item_0123456789abcdef01234567``."""
    return f"{kind}_{secrets.token_hex(12)}"


class Fault(Exception):  # noqa: N818  (it is the client's, as a Refusal is)
    """An event of the client that is not done; the connection lives on.

    Args:
        message: What was seen, what was wanted, the next step.
        code: A word for programs.
        param: The field at fault, from the root of the event.
    """

    def __init__(self, message: str, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.code, self.param = message, code, param


def error_of(fault: Fault | Refusal, event_id: str | None = None) -> dict[str, Any]:
    """The ``error`` object of an event."""
    if isinstance(fault, Fault):
        kind, message = "invalid_request_error", fault.message
    else:
        kind = "server_error" if fault.status_code >= 500 else "invalid_request_error"
        message = str(fault.detail)
    return {
        "type": kind,
        "code": fault.code,
        "message": message,
        "param": fault.param,
        "event_id": event_id,
    }


class Line(Protocol):
    """The sending side of a WebSocket."""

    async def send_text(self, data: str) -> None: ...


class Outbox:
    """Sends events in order, without anyone waiting for the client.

    Args:
        line: The WebSocket.
        idle_s: Longest time for one event, seconds; then the client is cut.

    Attributes:
        num_events: Sent so far.
        broken: Why nothing can be sent any more, "" while it can.
    """

    def __init__(self, line: Line, idle_s: float) -> None:
        self._line, self._idle_s = line, idle_s
        self._waiting: deque[str] = deque()
        self._num_bytes = 0
        self._change, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self.num_events = 0
        self.broken = ""

    def send(self, kind: str, **fields: Any) -> str:
        """Queue an event; returns its id."""
        event_id = new_id("event")
        if self.broken:
            return event_id
        text = json.dumps({"type": kind, "event_id": event_id, **fields})
        self._num_bytes += len(text)
        if self._num_bytes > MOST_BYTES:
            self.broken = "slow reader"
            self._waiting.clear()
        else:
            self._waiting.append(text)
            self._empty.clear()
        self._change.set()
        return event_id

    async def run(self) -> None:
        """Send until the client is gone or does not read; the reason is ``broken`` then."""
        while not self.broken:
            while self._waiting and not self.broken:
                text = self._waiting.popleft()
                try:
                    await asyncio.wait_for(self._line.send_text(text), self._idle_s)
                except TimeoutError:
                    self.broken = "slow reader"
                except Exception:  # noqa: BLE001  (the protocols have an exception each for a client who left)
                    self.broken = "left"
                self._num_bytes -= len(text)
                self.num_events += 1
            if self.broken:
                break
            self._empty.set()
            self._change.clear()
            await self._change.wait()
        self._waiting.clear()
        self._empty.set()

    async def flushed(self, seconds: float) -> None:
        """Wait until everything is sent, but not for ever."""
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            self.broken = self.broken or "slow reader"
