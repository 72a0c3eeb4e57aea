"""A stream of places: which row of which source comes next for this rank, from anywhere, after any number of ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.reader.chance import seed_of
from vivavoce.data.reader.mixing import Mixing, Schedule
from vivavoce.data.reader.order import Order
from vivavoce.data.reader.position import Progress, merge
from vivavoce.data.reader.source import DataSource

WINDOW_ROWS = 1024


class Place(NamedTuple):
    """One draw.

    Attributes:
        position: Its number in the stream, over all ranks.
        source: Which source it is from.
        turn: Which pass over that source, from 0.
        number: The row's number there.
    """

    position: int
    source: int
    turn: int
    number: int


class Stream:
    """The rows of one rank in order, and how far it has come.

    The whole order is a function of seed, sources and mixing, so that a state is a number: rank r of n takes every n-th
    place. A state saved by any number of ranks is continued by any other; no row is lost, or comes twice in one pass.

    Args:
        sources: Sets, with names of their own.
        mixing: How they take turns.
        seed: Of all that is random.
        world_size: Number of ranks.
        rank: Of this one.
        window_rows: About how many rows are mixed at a time, over all sources; 0 keeps the order of storage.

    Raises:
        ConfigError: Two sources have one name, there is none, or weights and sources do not match.
        DataError: A source has no rows.
    """

    def __init__(
        self,
        sources: Sequence[DataSource] | DataSource,
        mixing: Mixing | None = None,
        *,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
        window_rows: int = WINDOW_ROWS,
    ) -> None:
        self.sources = [sources] if isinstance(sources, DataSource) else list(sources)
        self.mixing, self.seed, self.window_rows = mixing or Mixing(), seed, window_rows
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"the sources are called {names}; wanted one or more, each with a name of its own."
            )
        lengths = [self._order(i, window_rows) for i in range(len(names))]
        self.schedule = Schedule([len(order) for order in lengths], self.mixing, seed)
        shares = [self.schedule.share(i) for i in range(len(names))]
        self.orders = [self._order(i, max(1, round(window_rows * s)) if window_rows else 0)
                       for i, s in enumerate(shares)]  # fmt: skip
        self.progress = Progress(world_size, rank)
        self.counts: Counter[tuple[str, str]] = Counter()
        self._counts_before: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """Places of all ranks together.

        Raises:
            ConfigError: The stream does not end.
        """
        if self.schedule.length is None:
            raise ConfigError("this stream has no end; give Mixing(stop='first' or 'all').")
        return self.schedule.length

    def place(self, position: int) -> Place:
        """The draw at a position, whichever rank's it is."""
        source, count = self.schedule.draw(position)
        turn, place = divmod(count, len(self.orders[source]))
        return Place(position, source, turn, self.orders[source].number(turn, place))

    def places(self, worker: int = 0, num_workers: int = 1) -> Iterator[Place]:
        """What is left for this rank when it is called.

        Args:
            worker, num_workers: Take every ``num_workers``-th of these only, from ``worker`` on; taking from each
                worker in turn gives the rank's order again.
        """
        length = self.schedule.length
        for i, position in enumerate(self.progress.remaining()):
            if length is not None and position >= length:
                return
            if i % num_workers == worker:
                yield self.place(position)

    def done(self, position: int, source: str, what: str) -> None:
        """Count a place as done, in any order.

        Args:
            position: Of a place of this rank.
            source: Name of the source.
            what: "used", or why it was left out.
        """
        self.progress.done(position)
        self.counts[source, what] += 1

    def totals(self) -> dict[str, dict[str, int]]:
        """Rows by source and what became of them: of this rank, after those that a state brought along."""
        found: dict[str, dict[str, int]] = {}
        for (source, what), count in sorted((self._counts_before + self.counts).items()):
            found.setdefault(source, {})[what] = count
        return found

    def state_dict(self) -> dict[str, Any]:
        """How far this rank has come, as JSON; the states of all ranks, saved together, are one position."""
        before, counts = (_nested(c) for c in (self._counts_before, self.counts))
        plan = {"plan": self.plan(), "progress": self.progress.record()}
        return {**plan, "counts": counts, "counts_before": before, "sources": self.where()}

    def where(self) -> dict[str, dict[str, int]]:
        """Pass and place of every source at the first place of this rank that is not done; for people."""
        found = {}
        for source, order, count in zip(
            self.sources, self.orders, self.schedule.before(self.progress.next), strict=True
        ):
            turn, place = divmod(count, len(order))
            found[source.name] = {"turn": turn, "place": place, "rows": len(order)}
        return found

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on where a state was saved.

        Args:
            state: This rank's own state, where the number of ranks is what it was; else the states of all ranks. All
                are always right.

        Raises:
            DataError: It is of another stream or rank, or a rank is missing.
        """
        states = [state] if isinstance(state, Mapping) else list(state)
        try:
            self._load(states)
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"this is no state of a stream: {type(error).__name__} {error}.") from error

    def _load(self, states: list[Mapping[str, Any]]) -> None:
        for found in states:
            self._check_plan(found["plan"])
        records = [found["progress"] for found in states]
        world_size, rank = self.progress.world_size, self.progress.rank
        before, counts = _flat(states[0]["counts_before"]), Counter[tuple[str, str]]()
        own = [r for r in records if (r["world_size"], r["rank"]) == (world_size, rank)]
        if len(states) == 1 and own:
            progress = Progress(world_size, rank, own[0]["next"], own[0]["ahead"])
            counts = _flat(states[0]["counts"])
        else:
            if len(states) == 1 and records[0]["world_size"] > 1:
                seen = records[0]
                raise DataError(
                    f"this is the state of rank {seen['rank']} of {seen['world_size']} and this is rank {rank} of "
                    f"{world_size}; give the states of all {seen['world_size']} ranks."
                )
            start, ahead = merge(records)
            progress = Progress(world_size, rank, start, ahead)
            for found in states:
                before += _flat(found["counts"])
        self.progress, self.counts, self._counts_before = progress, counts, before

    def plan(self) -> dict[str, Any]:
        """All that decides the order; a position means nothing in another."""
        about = {"seed": self.seed, "window_rows": self.window_rows}
        mixing = {"meaning": self.mixing.meaning, "spread": self.mixing.spread}
        sources = [
            {"name": s.name, "rows": len(o), "weight": w, "index": s.index.digest()}
            for s, o, w in zip(self.sources, self.orders, self.schedule.weights, strict=True)
        ]
        return {**about, **mixing, "sources": sources}

    def _check_plan(self, other: Mapping[str, Any]) -> None:
        mine = self.plan()
        if other == mine:
            return
        wrong = [
            f"{k} was {other.get(k)}, is {mine[k]}"
            for k in mine
            if k != "sources" and other.get(k) != mine[k]
        ]
        old, new = ({s["name"]: s for s in plan["sources"]} for plan in (other, mine))
        for name in dict.fromkeys([*old, *new]):
            if name not in old or name not in new:
                wrong.append(f"the source {name} is {'gone' if name in old else 'new'}")
            else:
                pairs = [(k, old[name].get(k), v) for k, v in new[name].items()]
                wrong += [f"{k} of {name} was {a}, is {b}" for k, a, b in pairs if a != b]
        wrong = wrong or ["the sources are in another order"]
        raise DataError(
            f"the state is of another stream, so its position is of no use here: {'; '.join(wrong)}. Restore these, or "
            "start anew."
        )

    def _order(self, which: int, window_rows: int) -> Order:
        source = self.sources[which]
        try:
            return Order(
                source.index.block_rows, seed_of(self.seed, source.name), window_rows, source.index.weights
            )
        except DataError as error:
            raise DataError(f"{source.path}: {error}") from error


def _nested(counts: Counter[tuple[str, str]]) -> list[list[Any]]:
    return [[source, what, count] for (source, what), count in sorted(counts.items())]


def _flat(counts: Sequence[Sequence[Any]]) -> Counter[tuple[str, str]]:
    return Counter({(source, what): count for source, what, count in counts})
