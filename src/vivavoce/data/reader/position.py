"""Where a stream stands: what every rank has done, as one whole number and a few exceptions.

Places of a stream are numbered from 0 for all passes and sources together; rank r of n owns those with
``place % n == r``. Ranks may run ahead of each other (they skip different rows, pack different numbers of them), so
each counts for itself; merged, everything before one number is done, and a short list after it. That can be dealt out
again to any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vivavoce.base.errors import ConfigError, DataError


class Progress:
    """What one rank has done of its places.

    Args:
        world_size: Number of ranks.
        rank: 0 to ``world_size - 1``.
        start: Every place before it is done, whosesoever it is.
        ahead: Places at or after ``start`` that are done too.

    Raises:
        ConfigError: There is no such rank.
    """

    def __init__(self, world_size: int = 1, rank: int = 0, start: int = 0, ahead: Iterable[int] = ()) -> None:
        if world_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"rank is {rank} of {world_size}; wanted 0 to one less than the number of ranks."
            )
        self.world_size, self.rank = world_size, rank
        self._next = start + (rank - start) % world_size
        self._ahead = {place for place in ahead if place % world_size == rank and place >= self._next}
        self._close_up()

    @property
    def next(self) -> int:
        """The first place of this rank that is not done."""
        return self._next

    @property
    def ahead(self) -> list[int]:
        """Places of this rank after ``next`` that are done."""
        return sorted(self._ahead)

    def done(self, place: int) -> None:
        """Count a place as done; in any order.

        Raises:
            DataError: It is another rank's, or is done already.
        """
        if place % self.world_size != self.rank or place < self._next or place in self._ahead:
            owner = (
                f"rank {place % self.world_size}'s"
                if place % self.world_size != self.rank
                else "done already"
            )
            raise DataError(
                f"place {place} is {owner}; wanted a place of rank {self.rank} from {self._next} on."
            )
        self._ahead.add(place)
        self._close_up()

    def remaining(self) -> Iterator[int]:
        """The places that are left when it is called, without end."""
        place, done = self._next, frozenset(self._ahead)
        while True:
            if place not in done:
                yield place
            place += self.world_size

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"world_size": self.world_size, "rank": self.rank, "next": self._next, "ahead": self.ahead}

    def _close_up(self) -> None:
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += self.world_size


def merge(records: Sequence[Mapping[str, Any]]) -> tuple[int, list[int]]:
    """Put the records of all ranks together.

    Returns:
        A place before which all is done, and the places after it that are done.

    Raises:
        DataError: A rank is missing or there twice.
    """
    worlds = {record["world_size"] for record in records}
    ranks = sorted(record["rank"] for record in records)
    if len(worlds) != 1 or ranks != list(range(*worlds)):
        raise DataError(
            f"these are the states of ranks {ranks} of {sorted(worlds)}; wanted one of each rank, saved together."
        )
    world_size = worlds.pop()
    start = min(record["next"] for record in records)
    ahead: set[int] = set()
    for record in records:
        first = start + (record["rank"] - start) % world_size
        ahead.update(range(first, record["next"], world_size))
        ahead.update(record["ahead"])
    while start in ahead:
        ahead.remove(start)
        start += 1
    return start, sorted(ahead)
