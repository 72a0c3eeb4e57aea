"""How fast a client may send events: bursts pass, floods are read no faster than the limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BURST_S = 2.0


class Pace:
    """A budget of events that comes back with time; who has spent it waits.

    The client's own writes wait with it, as the socket is not read meanwhile.

    Args:
        per_s: Events per second.
        clock: Seconds that only grow.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._budget, self._seen = per_s * BURST_S, clock()

    def delay_s(self) -> float:
        """Count one event; how long to wait before it is read."""
        now = self._clock()
        self._budget = min(self._per_s * BURST_S, self._budget + (now - self._seen) * self._per_s)
        self._seen = now
        self._budget -= 1
        return max(0.0, -self._budget / self._per_s)

    async def wait(self) -> None:
        """Count one event, and wait if it came too early."""
        delay = self.delay_s()
        if delay:
            await asyncio.sleep(delay)
