"""Which row of a source stands where in each pass: a pure function, so that a position is one whole number.

Rows come in blocks that are read at once (row groups of Parquet). A pass permutes the blocks, takes them window by
window, and deals the rows of a window out to lanes, one block a lane: place ``p`` of a window comes from lane
``p % lanes``, in random order within the lane. Neighbours in the result are thus from different blocks, and a reader
that takes every n-th place needs only its lanes' blocks where n and the number of lanes have a common factor.

Nothing is remembered between places, and the order does not depend on how many readers share it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.reader.chance import numbers, permutation, seed_of, uniform

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class _Pass:
    """One pass.

    Attributes:
        seed: Of this pass.
        first: Where each block begins among the rows of the pass in storage order, int64 [blocks], blocks permuted.
        size: Rows of it, int64 [blocks].
        windows: Place at which each window begins, and the end, int64 [windows + 1].
        rows: Row number of each row of the pass in storage order, int64; None if that is the number itself.
    """

    seed: int
    first: np.ndarray
    size: np.ndarray
    windows: np.ndarray
    rows: np.ndarray | None


class Order:
    """The order of a source's rows.

    Args:
        block_rows: Rows of each block, in storage order.
        seed: Of the order; each pass has its own.
        window_rows: About how many rows are mixed at a time, which is what readers hold in memory; 0 keeps the order
            of storage.
        weights: How often each row comes in a pass, float [rows], 0 or more; None for once. A fraction comes in some
            passes and not in others: 1.5 is once or twice, 1.5 times in the mean.

    Raises:
        ConfigError: The window is negative.
        DataError: There are no rows, or none with a weight above 0.
    """

    def __init__(
        self, block_rows: np.ndarray, seed: int, window_rows: int, weights: np.ndarray | None = None
    ) -> None:
        if window_rows < 0:
            raise ConfigError(f"window_rows is {window_rows}, wanted 0 or more.")
        self._block_rows = np.asarray(block_rows, dtype=np.int64)
        self._seed, self._mixes = seed, window_rows > 0
        self._rows = int(self._block_rows.sum())
        self._sum = None if weights is None else np.cumsum(np.asarray(weights, dtype=np.float64))
        if self._rows == 0 or (self._sum is not None and not self._sum[-1] > 0):
            raise DataError("there is no row to read; wanted rows with a weight above 0.")
        self._length = self._rows if self._sum is None else max(1, round(float(self._sum[-1])))
        mean = self._length / len(self._block_rows)
        self.lanes = 1 << max(0, round(math.log2(max(1.0, window_rows / mean)))) if self._mixes else 1
        self._passes: dict[int, _Pass] = {}
        self._window: tuple[int, int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Rows of one pass; repeated rows count again."""
        return self._length

    def number(self, turn: int, place: int) -> int:
        """The row at a place.

        Args:
            turn: Which pass, from 0.
            place: 0 to ``len(self) - 1``.
        """
        found = self._pass(turn)
        if not self._mixes:
            return place if found.rows is None else int(found.rows[place])
        if self._window is not None and self._window[0] == turn:
            at = place - self._window[1]
            if 0 <= at < len(self._window[2]):
                return int(self._window[2][at])
        which = int(np.searchsorted(found.windows, place, side="right")) - 1
        begin = int(found.windows[which])
        self._window = (turn, begin, self._mixed(found, which))
        return int(self._window[2][place - begin])

    def _mixed(self, found: _Pass, which: int) -> np.ndarray:
        """The rows of a window in their order."""
        blocks = slice(which * self.lanes, (which + 1) * self.lanes)
        size = found.size[blocks]
        count = int(size.sum())
        rows = np.repeat(found.first[blocks] - (np.cumsum(size) - size), size) + np.arange(count)
        lanes = min(self.lanes, 1 << (len(size).bit_length() - 1))  # a lane without a block would mix nothing
        share, more = divmod(count, lanes)
        in_lane = np.full(lanes, share)
        in_lane[:more] += 1
        lane = np.repeat(np.arange(lanes), in_lane)
        rows = rows[np.lexsort((numbers(seed_of(found.seed, which), 0, count), lane))]
        step = np.arange(count) - np.repeat(np.cumsum(in_lane) - in_lane, in_lane)
        made = np.empty(count, dtype=np.int64)
        made[step * lanes + lane] = rows
        return made if found.rows is None else found.rows[made]

    def _pass(self, turn: int) -> _Pass:
        if turn not in self._passes:
            self._passes = {t: p for t, p in self._passes.items() if t == turn - 1}
            self._passes[turn] = self._make(turn)
        return self._passes[turn]

    def _make(self, turn: int) -> _Pass:
        seed = seed_of(self._seed, "pass", turn)
        rows = None if self._sum is None else self._drawn(turn)
        ends = np.cumsum(self._block_rows)
        if rows is not None:
            ends = np.searchsorted(rows, ends)
        size = np.diff(ends, prepend=0)
        blocks = permutation(len(size), seed) if self._mixes else np.arange(len(size))
        size, first = size[blocks], (ends - size)[blocks]
        # a window without rows keeps its number, so that windows and blocks stay in step
        stops = np.cumsum(size)[[*range(self.lanes - 1, len(size) - 1, self.lanes), len(size) - 1]]
        return _Pass(seed, first, size, np.concatenate([[0], stops]), rows)

    def _drawn(self, turn: int) -> np.ndarray:
        """Row numbers of a weighted pass, ascending: evenly spaced points over the sum of the weights."""
        assert self._sum is not None
        offset = (float(uniform(seed_of(self._seed, "offset"), 0, 1)[0]) + turn * _GOLDEN) % 1.0
        points = (np.arange(self._length) + offset) * (self._sum[-1] / self._length)
        last = int(np.searchsorted(self._sum, self._sum[-1]))  # the last row with a weight
        return np.minimum(np.searchsorted(self._sum, points, side="right"), last)
