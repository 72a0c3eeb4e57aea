"""Who may call, and how often: keys compared in constant time, rates and concurrency for each caller."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vivavoce.base.errors import ConfigError
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal

SHORTEST_KEY = 8
MOST_CALLERS = 10_000  # remembered; idle ones are forgotten first


@dataclass
class _Caller:
    budget: float
    seen: float
    running: int = 0


class Access:
    """Knows the keys and what each caller has used.

    Args:
        keys: API keys; without any, everyone may call and callers are told apart by address.
        limits: Concurrency and rate.
        clock: Seconds that only grow.

    Raises:
        ConfigError: A key too short to be a secret.
    """

    from_front = False  # whether only the front of replicas may call: it has named the request, and logs it

    def __init__(
        self, keys: Sequence[str], limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        short = [n for n, key in enumerate(keys) if len(key) < SHORTEST_KEY]
        if short:
            raise ConfigError(f"API key {short[0]} is too short; wanted {SHORTEST_KEY} characters or more.")
        self._digests = [_digest(key) for key in keys]
        self._limits, self._clock = limits, clock
        self._callers: dict[str, _Caller] = {}

    @property
    def is_open(self) -> bool:
        """Whether anyone may call."""
        return not self._digests

    def caller(self, authorization: str, address: str) -> str:
        """Who calls, as a name that says nothing about the key.

        Args:
            authorization: The header, ``Bearer KEY``.
            address: Of the other end.

        Raises:
            Refusal: 401, no key or a wrong one.
        """
        if self.is_open:
            return f"address {address}"
        scheme, _, key = authorization.partition(" ")
        given = _digest(key.strip())
        # Every key is compared, and compare_digest takes the same time wherever two digests differ.
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            what = "a wrong API key" if key else "no API key"
            raise Refusal(401, f"{what}; send the header 'Authorization: Bearer KEY'.", "invalid_api_key")
        return f"key {matches.index(True)}"

    def enter(self, name: str) -> None:
        """Count a request of a caller in.

        Raises:
            Refusal: 429, over the rate or the concurrency.
        """
        limits, caller = self._limits, self._known(name)
        if caller.running >= limits.max_concurrent:
            raise Refusal(
                429,
                f"{caller.running} requests of this caller are running, the most allowed; wait for one.",
                "concurrency_limit_exceeded",
                retry_s=1,
            )
        self._spend(caller)
        caller.running += 1

    def spend(self, name: str) -> None:
        """Count something a caller asked for outside a request of its own, such as a response in a connection.

        Raises:
            Refusal: 429, over the rate.
        """
        self._spend(self._known(name))

    def left(self, name: str) -> tuple[int, float]:
        """Requests a caller may send at once, and the seconds until all are there again."""
        most, budget = self._limits.requests_per_minute, self._known(name).budget
        return int(budget), 60 * (most - budget) / most if most else 0.0

    def _known(self, name: str) -> _Caller:
        now, most = self._clock(), float(self._limits.requests_per_minute)
        if len(self._callers) >= MOST_CALLERS:
            self._forget(now)
        caller = self._callers.setdefault(name, _Caller(most, now))
        caller.budget = min(most, caller.budget + (now - caller.seen) * most / 60)
        caller.seen = now
        return caller

    def _spend(self, caller: _Caller) -> None:
        most = self._limits.requests_per_minute
        if not most:
            return
        if caller.budget < 1:
            wait = int((1 - caller.budget) * 60 / most) + 1
            raise Refusal(
                429,
                f"over {most} requests per minute; try again in {wait} s.",
                "rate_limit_exceeded",
                retry_s=wait,
            )
        caller.budget -= 1

    def leave(self, name: str) -> None:
        """Count a request of a caller out."""
        self._callers[name].running -= 1

    def running(self) -> int:
        """Requests that were counted in and not out."""
        return sum(caller.running for caller in self._callers.values())

    def _forget(self, now: float) -> None:
        self._callers = {n: c for n, c in self._callers.items() if c.running or now - c.seen < 60}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
