"""What happened in the updates since the last line of metrics; kept in checkpoints, so that no line lacks any."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SIZES = ("tokens", "padding", "documents", "audio_s")


@dataclass
class Window:
    """Sums over updates and processes.

    Attributes:
        sums: Metric -> (sum, count).
        sizes: Of what was read: see ``SIZES``; audio in seconds.
        norm: Of the last gradient, before clipping.
        seconds: That were spent, up to ``since``.
        since: Moment from which more are counted.
    """

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIZES, 0.0))
    norm: float = 0.0
    seconds: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def add(
        self, metrics: Mapping[str, tuple[float, float]], sizes: Mapping[str, float], norm: float
    ) -> None:
        """Count an update."""
        for name, (total, count) in metrics.items():
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + total, before[1] + count)
        for name in SIZES:
            self.sizes[name] += sizes[name]
        self.norm = norm

    def means(self) -> dict[str, float]:
        """Metrics, each over all that it was counted for."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}

    def spent(self) -> float:
        """Seconds of these updates, above 0."""
        return max(1e-9, self.seconds + time.perf_counter() - self.since)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let time pass that is not counted."""
        self.seconds = self.spent()
        yield
        self.since = time.perf_counter()

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"sums": self.sums, "sizes": self.sizes, "norm": self.norm, "seconds": self.spent()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Window:
        """What `record` gave."""
        sums = {name: (float(a), float(b)) for name, (a, b) in record["sums"].items()}
        return cls(sums, dict(record["sizes"]), record["norm"], record["seconds"])
