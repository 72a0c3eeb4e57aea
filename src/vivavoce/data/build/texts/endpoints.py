"""Models behind an OpenAI-compatible address: one POST at a time or many at once, tried again when it may help.

Answers of a server cannot be made again by us, so what builders keep of them goes through `answer_cache`.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import read_record

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes after which the same request may succeed."""
LONGEST_WAIT_S = 60.0

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class EndpointConfig:
    """Where a server is and how patient to be with it.

    Attributes:
        url: Up to and with "/v1".
        key_env: Environment variable that holds the key; the key itself never stands in a config.
        timeout_s: Longest silence of the server before a try counts as failed.
        retries: Further tries after the first.
        wait_s: Before the first of them; doubled each time, at most a minute. A server's ``Retry-After`` goes first.
        concurrency: Requests at a time.
        extra: Further fields of each request's body.
    """

    url: str
    key_env: str | None = None
    timeout_s: float = 120.0
    retries: int = 4
    wait_s: float = 1.0
    concurrency: int = 8
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url is {self.url!r}, wanted http://... or https://... up to /v1")
        if self.retries < 0 or self.concurrency < 1 or self.timeout_s <= 0 or self.wait_s < 0:
            raise ConfigError(
                "wanted retries and wait_s of 0 or more, concurrency of 1 or more, timeout_s above 0"
            )


def read_endpoint(record: Mapping[str, Any] | None, wanted_by: str) -> EndpointConfig:
    """Read the settings ``endpoint`` of a builder.

    Args:
        record: As in YAML.
        wanted_by: What cannot do without it ("voice 'endpoint:alloy'"), for the message.

    Raises:
        ConfigError: They are missing or wrong.
    """
    if record is None:
        raise ConfigError(f"{wanted_by} needs the setting endpoint: {{url: https://.../v1, key_env: NAME}}")
    return read_record(EndpointConfig, record, "endpoint")


class Endpoint:
    """Sends requests to one server.

    Args:
        config: Where and how.

    Raises:
        ConfigError: The environment variable with the key is not set.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._headers = {"Content-Type": "application/json", "Accept": "*/*"}
        if config.key_env:
            key = os.environ.get(config.key_env)
            if not key:
                raise ConfigError(f"the environment variable {config.key_env} with the key is not set.")
            self._headers["Authorization"] = f"Bearer {key}"

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Send one request.

        Args:
            path: After the address, "audio/speech".
            body: Sent as JSON, with ``extra`` of the config.

        Returns:
            What the server sends.

        Raises:
            DataError: It refuses the request, or fails to the last try.
        """
        url = f"{self.config.url.rstrip('/')}/{path}"
        data = json.dumps({**body, **self.config.extra}).encode()
        reason = ""
        for number in range(self.config.retries + 1):
            request = urllib.request.Request(url, data, self._headers, method="POST")
            advised: str | None = None
            try:
                with urllib.request.urlopen(request, timeout=self.config.timeout_s) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                said = error.read(500).decode(errors="replace").strip()[:200]
                reason, advised = (
                    f"status {error.code}: {said or error.reason}",
                    error.headers.get("Retry-After"),
                )
                if error.code not in PASSING:
                    raise DataError(f"{path} was refused with {reason}") from error
            except urllib.error.URLError as error:
                reason = str(error.reason)
            except (OSError, http.client.HTTPException) as error:  # cut off or silent while it was answering
                reason = f"{type(error).__name__} {error}".strip()
            if number < self.config.retries:
                time.sleep(self._wait_s(number, advised))
        raise DataError(f"{path} gave no answer in {self.config.retries + 1} tries; at last {reason}")

    def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send one request whose answer is JSON.

        Raises:
            DataError: As ``post``; or the answer is something else.
        """
        data = self.post(path, body)
        try:
            return json.loads(data)
        except ValueError as error:
            raise DataError(f"{path} answered {data[:80]!r}, wanted JSON") from error

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Call ``function`` for all items, several at a time; results in order."""
        if len(items) < 2 or self.config.concurrency == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(self.config.concurrency, len(items))) as pool:
            return list(pool.map(function, items))

    def _wait_s(self, number: int, advised: str | None) -> float:
        wait = self.config.wait_s * 2.0**number
        if advised and advised.isdigit():
            wait = float(advised)
        return min(wait, LONGEST_WAIT_S)
