"""Numbers about the server in Prometheus' text format."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections.abc import Callable

LATENCIES_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0)
FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)


class Counter:
    """A number that only grows, one for each set of labels."""

    def __init__(self, name: str, about: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.about, self.labels = name, about, labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: float = 1) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + amount

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0.0)

    def lines(self) -> list[str]:
        with self._lock:
            rows = sorted(self._values.items())
        head = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} counter"]
        return head + [f"{self.name}{_labels(self.labels, key)} {value:g}" for key, value in rows]


class Gauge:
    """A number read when it is asked for."""

    def __init__(self, name: str, about: str, read: Callable[[], float]) -> None:
        self.name, self.about, self.read = name, about, read

    def lines(self) -> list[str]:
        return [
            f"# HELP {self.name} {self.about}",
            f"# TYPE {self.name} gauge",
            f"{self.name} {self.read():g}",
        ]


class Histogram:
    """How often a number was at most each of some bounds."""

    def __init__(self, name: str, about: str, bounds: tuple[float, ...]) -> None:
        self.name, self.about, self.bounds = name, about, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        with self._lock:
            self._counts[bisect_left(self.bounds, value)] += 1
            self._sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def lines(self) -> list[str]:
        with self._lock:
            counts, total = list(self._counts), self._sum
        rows, below = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram"], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
            below += count
            rows.append(f'{self.name}_bucket{{le="{bound}"}} {below}')
        return [*rows, f"{self.name}_sum {total:g}", f"{self.name}_count {below}"]


class Metrics:
    """All numbers of one server.

    Args:
        queued: Reads how many requests wait for the model.
        working: Reads how many requests the model works on.
    """

    def __init__(self, queued: Callable[[], float], working: Callable[[], float]) -> None:
        self.open_requests = 0
        self.requests = Counter(
            "vivavoce_requests_total", "Requests answered.", ("route", "status")
        )  # routes come from a fixed list
        self.rejected = Counter("vivavoce_rejected_total", "Requests refused to keep limits.", ("reason",))
        self.disconnected = Counter("vivavoce_disconnected_total", "Callers that left before the end.")
        self.seconds = Histogram("vivavoce_request_seconds", "Time to the end of the answer.", LATENCIES_S)
        self.ttft = Histogram(
            "vivavoce_ttft_seconds",
            "From the request's arrival to the first text of the answer.",
            LATENCIES_S,
        )
        self.first_audio = Histogram(
            "vivavoce_first_audio_seconds", "From the request's arrival to the first samples.", LATENCIES_S
        )
        self.rtf = Histogram(
            "vivavoce_rtf", "Time the model took over seconds of speech made or heard.", FACTORS
        )
        self.realtime_responses = Counter(
            "vivavoce_realtime_responses_total", "Realtime responses that ended.", ("status",)
        )
        self.realtime_ttft = Histogram(
            "vivavoce_realtime_ttft_seconds",
            "From the end of the user's turn to the first text.",
            LATENCIES_S,
        )
        self.realtime_first_audio = Histogram(
            "vivavoce_realtime_first_audio_seconds",
            "From the end of the user's turn to the first samples.",
            LATENCIES_S,
        )
        self.realtime_connections: Callable[[], float] = lambda: 0
        self.open_sequences: Callable[[], float] = lambda: 0
        self._gauges = [
            Gauge("vivavoce_realtime_connections", "Open now.", lambda: self.realtime_connections()),
            Gauge("vivavoce_queue_length", "Requests that wait for the model.", queued),
            Gauge("vivavoce_active", "Requests the model works on.", working),
            Gauge(
                "vivavoce_open_sequences", "Answers and sessions with a cache.", lambda: self.open_sequences()
            ),
            Gauge("vivavoce_tasks", "Tasks of the event loop.", _tasks),
            Gauge("vivavoce_open_requests", "Requests without an end yet.", lambda: self.open_requests),
        ]

    def realtime_done(self, status: str, ttft_s: float | None, first_audio_s: float | None) -> None:
        """Count a realtime response."""
        self.realtime_responses.add(status)
        if ttft_s is not None:
            self.realtime_ttft.add(ttft_s)
        if first_audio_s is not None:
            self.realtime_first_audio.add(first_audio_s)

    def text(self) -> str:
        """The page for Prometheus."""
        parts: list[Counter | Gauge | Histogram] = [self.requests, self.rejected, self.disconnected]
        parts += [self.seconds, self.ttft, self.first_audio, self.rtf, self.realtime_responses]
        parts += [self.realtime_ttft, self.realtime_first_audio, *self._gauges]
        return "\n".join(line for part in parts for line in part.lines()) + "\n"


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # asked for outside the event loop
        return 0


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""
