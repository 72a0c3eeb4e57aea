"""How sources take turns: which source gives draw d, and how many it gave before, as a pure function of d.

Draw ``k`` of a source with weight ``w`` is due at time ``k / w``, and draws come in the order of their times, the first
source first among equals. That is the same as always drawing from the source with the lowest consumed fraction of its
weight. With ``spread="random"`` a draw is due at a random time within its own interval instead, so that no pattern can
fall into step with the number of readers; every source still has exactly one draw in each of its intervals.

Source: Ultravox's interleaving of weighted sets (weights are repeat factors there); Jan-Llama3 mixes by shares, 80/20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from vivavoce.base.errors import ConfigError
from vivavoce.data.reader.chance import seed_of, uniform

_WINDOW = 4096  # draws put in order at a time


@dataclass(frozen=True)
class Mixing:
    """How several sources become one stream.

    Attributes:
        weights: One for each source, 0 or more; () for 1 each. A source of weight 0 is never drawn.
        meaning: What weights are. "repeats": how often a source's rows come in one pass of the whole (0.5 is half of
            its rows, 100 all of them a hundred times). "shares": parts of the draws, whatever the sizes.
        spread: "random" draws at random within even spacing; "even" always draws from the source with the lowest
            consumed fraction.
        stop: "never"; "first", after the last row of the source that is used up first; "all", when every source has
            been used up, the others starting again. A source is used up after its rows (by repeats: its rows times its
            weight).
        passes: How many times a source is used up before it counts for ``stop``.
    """

    weights: tuple[float, ...] = ()
    meaning: Literal["repeats", "shares"] = "repeats"
    spread: Literal["random", "even"] = "random"
    stop: Literal["never", "first", "all"] = "never"
    passes: int = 1

    def __post_init__(self) -> None:
        known = {
            "meaning": ("repeats", "shares"),
            "spread": ("random", "even"),
            "stop": ("never", "first", "all"),
        }
        faults = [
            f"{name} is {getattr(self, name)!r}, wanted one of {', '.join(names)}"
            for name, names in known.items()
            if getattr(self, name) not in names
        ]
        if any(not (isinstance(w, int | float) and 0 <= w < math.inf) for w in self.weights):
            faults.append(f"weights are {list(self.weights)}, wanted numbers of 0 or more")
        elif self.weights and not any(self.weights):
            faults.append("all weights are 0, so there is nothing to draw")
        if self.passes < 1:
            faults.append(f"passes is {self.passes}, wanted 1 or more")
        if faults:
            raise ConfigError("; ".join(faults) + ".")


class Schedule:
    """The turns of sources of known sizes.

    Args:
        sizes: Rows of a pass of each source.
        mixing: How to mix them.
        seed: Of random times.

    Raises:
        ConfigError: The number of weights is not that of sources.
    """

    def __init__(self, sizes: Sequence[int], mixing: Mixing, seed: int) -> None:
        weights = mixing.weights or (1.0,) * len(sizes)
        if len(weights) != len(sizes) or not sizes:
            raise ConfigError(
                f"there are {len(weights)} weights for {len(sizes)} sources; wanted one for each."
            )
        exact = [Fraction(str(w)) for w in weights]
        if mixing.meaning == "repeats":
            self.ends = [max(1, round(n * w)) if w else 0 for n, w in zip(sizes, exact, strict=True)]
            self.weights = list(self.ends)
        else:
            self.ends = [n if w else 0 for n, w in zip(sizes, exact, strict=True)]
            scale = math.lcm(*(w.denominator for w in exact))
            self.weights = [int(w * scale) for w in exact]
        self._sum = sum(self.weights)
        self._seeds = (
            [seed_of(seed, "turns", i) for i in range(len(sizes))] if mixing.spread == "random" else None
        )
        self._window: tuple[int, np.ndarray, np.ndarray] | None = None
        self.length = self._length(mixing)

    def share(self, source: int) -> float:
        """Part of the draws that a source gives."""
        return self.weights[source] / self._sum

    def draw(self, number: int) -> tuple[int, int]:
        """Which source gives a draw, and its how-manieth it is, from 0."""
        if self._window is None or not 0 <= number - self._window[0] < len(self._window[1]):
            self._window = self._ordered(number)
        begin, sources, counts = self._window
        return int(sources[number - begin]), int(counts[number - begin])

    def before(self, number: int) -> list[int]:
        """How many of the draws before ``number`` each source gives."""
        begin, sources, _ = self._ordered(number)
        found = [self._due(s, self._edge(self._at(number))) for s in range(len(self.weights))]
        for source in sources[: number - begin]:
            found[source] += 1
        return found

    def until_all(self, passes: int = 1) -> int:
        """Draws after which every source has been used up ``passes`` times."""
        return max(self._last(s, passes) for s, end in enumerate(self.ends) if end) + 1

    def _length(self, mixing: Mixing) -> int | None:
        if mixing.stop == "never":
            return None
        if mixing.stop == "all":
            return self.until_all(mixing.passes)
        return min(self._last(s, mixing.passes) for s, end in enumerate(self.ends) if end) + 1

    def _last(self, source: int, passes: int) -> int:
        """The draw that uses a source up."""
        count = self.ends[source] * passes - 1
        time = float(self._times(source, count, count + 1)[0])
        total = count
        for other, weight in enumerate(self.weights):
            if other != source and weight:
                total += self._due(other, time, or_equal=other < source)
        return total

    def _times(self, source: int, start: int, stop: int) -> np.ndarray:
        """When draws ``start`` to ``stop`` of a source are due; never falls."""
        counts = np.arange(start, stop, dtype=np.float64)
        if self._seeds is not None:
            counts = counts + uniform(self._seeds[source], start, stop)
        return counts / self.weights[source]

    def _due(self, source: int, time: float, or_equal: bool = False) -> int:
        """How many draws of a source are due before a time, or at it."""
        if not self.weights[source]:
            return 0
        start = max(0, int(time * self.weights[source]) - 2)
        side: Literal["left", "right"] = "right" if or_equal else "left"
        return start + int(np.searchsorted(self._times(source, start, start + 5), time, side=side))

    def _edge(self, window: int) -> float:
        return window * _WINDOW / self._sum

    def _at(self, number: int) -> int:
        """The window of time that a draw falls into."""
        window = max(0, number // _WINDOW)

        def begin(window: int) -> int:
            return sum(self._due(s, self._edge(window)) for s in range(len(self.weights)))

        while begin(window) > number:
            window -= 1
        while begin(window + 1) <= number:
            window += 1
        return window

    def _ordered(self, number: int) -> tuple[int, np.ndarray, np.ndarray]:
        """The window of a draw: its first draw, and source and count of each."""
        window = self._at(number)
        sources, counts, times, begin = [], [], [], 0
        for source, weight in enumerate(self.weights):
            if not weight:
                continue
            start, stop = self._due(source, self._edge(window)), self._due(source, self._edge(window + 1))
            begin += start
            counts.append(np.arange(start, stop))
            sources.append(np.full(stop - start, source))
            times.append(self._times(source, start, stop))
        source_of, count_of, time_of = (np.concatenate(found) for found in (sources, counts, times))
        order = np.lexsort((count_of, source_of, time_of))
        return begin, source_of[order], count_of[order]
