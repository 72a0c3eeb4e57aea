"""From sets on disk to the documents of one update after another, prepared while the last one is learned.

A row counts as used once the update that learned it is done, so that a run that is stopped anywhere goes on with the
row it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError, VivavoceError
from vivavoce.data.reader import DataSource, Filters, Mixing, Reader, Sample, Skipped, Stream
from vivavoce.data.reader.reading import USED
from vivavoce.training.config import BatchSettings, DataSettings, SetSettings
from vivavoce.training.documents import Document, make_document
from vivavoce.training.packing import fit
from vivavoce.training.world import World

TOO_LONG, NOT_RENDERED = "too many tokens", "not rendered"
MOST_FAULTS = 20
PATIENCE, LONGEST_PATIENCE = 100, 2000


@dataclass
class Update:
    """What one rank learns in one update.

    Attributes:
        documents: To be packed.
        places: (position, source, outcome) of every row that was looked at for it.
        faults: Why rows were left out, a sentence each.
    """

    documents: list[Document]
    places: list[tuple[int, str, str]]
    faults: list[str]


class Loader:
    """Documents of updates, in the order of a stream.

    Args:
        sets: What is read, with names of their own.
        data: Filters, mixing and workers.
        batch: Rows of an update and their longest length.
        processor: Of the model.
        objective: As in ``render_row``.
        seed: Of the order.
        rank, world_size: Which rank this is.
        passes: Passes over the sets before the stream ends; None never ends.

    Raises:
        ConfigError: Rows of an update cannot be dealt out to the ranks.
        DataError: A set is empty or cannot be read.
    """

    def __init__(
        self,
        sets: Sequence[SetSettings],
        data: DataSettings,
        batch: BatchSettings,
        processor: Any,
        objective: str,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        passes: int | None = None,
    ) -> None:
        self.rows, self.batch = rows_of_rank(batch, world_size), batch
        self.processor, self.objective = processor, objective
        self.on_fault = data.on_fault
        mixing = Mixing(
            weights=tuple(one.weight for one in sets),
            meaning=data.mixing,
            stop="never" if passes is None else "all",
            passes=passes or 1,
        )
        self.stream = Stream(
            [DataSource(str(one.path), one.name) for one in sets],
            mixing,
            seed=seed,
            rank=rank,
            world_size=world_size,
            window_rows=data.window_rows,
        )
        filters = Filters(
            min_audio_s=data.min_audio_s,
            max_audio_s=data.max_audio_s,
            max_clip_s=data.max_clip_s,
            max_characters=data.max_characters,
        )
        self.reader = Reader(
            self.stream,
            filters=filters,
            decode="all" if processor.audio_token_id is not None else "untokenized",
            workers=data.workers,
            keep_bytes=True,  # codes of another layout are of no use, and are made anew from the recording
        )
        self.faults: list[str] = []

    @property
    def patience(self) -> int:
        """Rows one after the other of which none can be learned, before that is an error: two passes or so."""
        return max(PATIENCE, min(LONGEST_PATIENCE, 2 * self.rows_a_pass))

    @property
    def rows_a_pass(self) -> int:
        """Rows of one pass over all sets, over all ranks."""
        ends = self.stream.schedule.ends if self.stream.mixing.meaning == "repeats" else None
        return sum(ends) if ends else sum(map(len, self.stream.orders))

    def __iter__(self) -> Iterator[Update]:
        """Updates from the first row that is not done; the last one may have fewer rows.

        Nothing is counted on the way, only by `done`: the thread that reads ahead and the one that trains share
        nothing.
        """
        outcomes = self.reader.outcomes()
        with ThreadPoolExecutor(1, "vivavoce-documents") as pool:
            try:
                ahead = pool.submit(self._next, outcomes)
                while (update := ahead.result()) is not None:
                    ahead = pool.submit(self._next, outcomes)
                    yield update
            finally:
                ahead.cancel()
                if not ahead.cancelled():
                    ahead.exception()  # wait for it
                outcomes.close()  # type: ignore[attr-defined]

    def done(self, update: Update) -> None:
        """Count the rows of an update as used or left out."""
        for place in update.places:
            self.stream.done(*place)
        self.faults = list(dict.fromkeys([*self.faults, *update.faults]))[:MOST_FAULTS]

    def _next(self, outcomes: Iterator[Sample | Skipped]) -> Update | None:
        """The rows of the next update; None at the end.

        Raises:
            DataError: A fault, if these are to be raised; or no row of very many can be learned.
        """
        update, used = Update([], [], []), 0
        documents: list[Document]
        for found in outcomes:
            if isinstance(found, Skipped):
                documents, outcome, fault = [], found.reason, found.detail if found.is_fault else ""
            else:
                documents, outcome, fault = self._documents(found)
            if fault and self.on_fault == "raise":
                raise DataError(fault)
            update.documents += documents
            update.places.append((found.place.position, found.source, outcome))
            update.faults += [fault] if fault and len(update.faults) < MOST_FAULTS else []
            used += outcome == USED
            if used == self.rows:
                return update
            if not used and len(update.places) >= self.patience:
                reasons = sorted({outcome for _, _, outcome in update.places})
                raise DataError(
                    f"none of {len(update.places)} rows can be learned: {', '.join(reasons)}. "
                    + (f"First: {update.faults[0]} " if update.faults else "")
                    + "Look at the rows by: vivavoce data check --model, or raise the limits of data and batch."
                )
        return update if update.places else None

    def _documents(self, sample: Sample) -> tuple[list[Document], str, str]:
        """The documents of a row, what became of it, and what is wrong with it."""
        root = self.stream.sources[sample.place.source].root
        try:
            found = fit(
                make_document(sample, self.processor, self.objective, Path(root)),
                self.batch.max_tokens,
                self.batch.too_long,
            )
        except MissingExtraError:
            raise
        except (VivavoceError, OSError) as error:
            return [], NOT_RENDERED, f"row {sample.row.id!r} of {sample.source}: {error}"
        return (found, USED, "") if found else ([], TOO_LONG, "")

    def told(self) -> str:
        """What became of the rows of this rank, in sentences."""
        return " ".join(told_rows(self.stream.totals(), self.faults[:1]))

    def state_dict(self) -> dict[str, Any]:
        """How far this rank has come, as JSON."""
        return {**self.reader.state_dict(), "faults": self.faults}

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on where the states of all ranks were saved, on any number of ranks."""
        self.reader.load_state_dict(states)
        self.faults = [fault for state in states for fault in state["faults"]]


def rows_of_rank(batch: BatchSettings, world_size: int) -> int:
    """Rows of an update that each rank learns.

    Raises:
        ConfigError: They cannot be dealt out evenly.
    """
    if batch.rows % world_size:
        raise ConfigError(
            f"batch.rows is {batch.rows} for {world_size} ranks; wanted a multiple, such as "
            f"{(batch.rows // world_size + 1) * world_size}."
        )
    return batch.rows // world_size


def all_rows(loader: Loader, world: World) -> tuple[dict[str, dict[str, int]], list[str]]:
    """What became of the rows of all ranks, by set, and the first faults of each rank.

    Returns:
        (set -> outcome -> rows, counted anew in every pass; sentences).
    """
    totals: dict[str, dict[str, int]] = {}
    faults: list[str] = []
    state = loader.state_dict()
    before = state["counts_before"] if world.is_first else []  # the same on all ranks
    for counts, told in world.gather([[*before, *state["counts"]], state["faults"]]):
        for name, outcome, count in counts:
            own = totals.setdefault(name, {})
            own[outcome] = own.get(outcome, 0) + count
        faults += told
    return totals, list(dict.fromkeys(faults))


def told_rows(totals: Mapping[str, Mapping[str, int]], faults: Sequence[str]) -> list[str]:
    """Rows that were learned and those left out, in lines for people."""
    lines = []
    for name, counts in totals.items():
        out = {outcome: count for outcome, count in counts.items() if outcome != USED}
        line = f"{name}: {counts.get(USED, 0):,} rows learned"
        if out:
            reasons = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(out.items()))
            line += f", {sum(out.values()):,} left out ({reasons})"
        lines.append(f"{line}, counted anew in every pass.")
    return lines + [f"left out: {fault}" for fault in faults]
