"""From sets on disk to the documents of one update after another, prepared while the last one is learned.

A row counts as used once the update that learned it is done, so that a run that is stopped anywhere goes on with the
row it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError, VivavoceError
from vivavoce.data.reader import DataSource, Filters, Mixing, Reader, Sample, Stream
from vivavoce.data.reader.reading import USED
from vivavoce.training.config import BatchSettings, DataSettings, SetSettings, TrainConfig
from vivavoce.training.documents import Document, make_document
from vivavoce.training.packing import fit

TOO_LONG, NOT_RENDERED = "too many tokens", "not rendered"
PATIENCE = 500  # rows of no use, one after the other, before that is an error


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
        if batch.rows % world_size:
            raise ConfigError(
                f"batch.rows is {batch.rows} for {world_size} ranks; wanted a multiple, such as "
                f"{(batch.rows // world_size + 1) * world_size}."
            )
        self.rows, self.batch, self.processor, self.objective = (
            batch.rows // world_size,
            batch,
            processor,
            objective,
        )
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
            on_fault=data.on_fault,
            workers=data.workers,
            keep_bytes=True,  # codes of another layout are of no use, and are made anew from the recording
            confirm=True,
        )
        self.faults: list[str] = []

    @property
    def rows_a_pass(self) -> int:
        """Rows of one pass over all sets, over all ranks."""
        ends = self.stream.schedule.ends if self.stream.mixing.meaning == "repeats" else None
        return sum(ends) if ends else sum(map(len, self.stream.orders))

    def __iter__(self) -> Iterator[Update]:
        """Updates from the first row that is not done; the last one may have fewer rows."""
        samples = iter(self.reader)
        with ThreadPoolExecutor(1, "vivavoce-documents") as pool:
            try:
                ahead = pool.submit(self._next, samples)
                while (update := ahead.result()) is not None:
                    ahead = pool.submit(self._next, samples)
                    yield update
            finally:
                ahead.cancel()
                if not ahead.cancelled():
                    ahead.exception()  # wait for it
                self.reader.close()

    def done(self, update: Update) -> None:
        """Count the rows of an update as used or left out."""
        for place in update.places:
            self.stream.done(*place)
        self.faults = [*self.faults, *update.faults][:20]

    def _next(self, samples: Iterator[Sample]) -> Update | None:
        update = Update([], [], [])
        for sample in samples:
            documents, outcome = self._documents(sample, update)
            update.documents += documents
            update.places.append((sample.place.position, sample.source, outcome))
            if sum(outcome == USED for _, _, outcome in update.places) == self.rows:
                return update
            if len(update.places) >= PATIENCE and not update.documents:
                raise DataError(
                    f"none of {len(update.places)} rows can be learned. "
                    + (f"First: {update.faults[0]} " if update.faults else f"All have {TOO_LONG}. ")
                    + "Look at the rows by: vivavoce data check --model, or raise batch.max_tokens."
                )
        return update if update.places else None

    def _documents(self, sample: Sample, update: Update) -> tuple[list[Document], str]:
        """The documents of a row, or why there are none."""
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
            sentence = f"row {sample.row.id!r} of {sample.source}: {error}"
            if self.on_fault == "raise":
                raise DataError(sentence) from error
            update.faults.append(sentence)
            return [], NOT_RENDERED
        return (found, USED) if found else ([], TOO_LONG)

    def state_dict(self) -> dict[str, Any]:
        """How far this rank has come, as JSON."""
        return self.reader.state_dict()

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on where the states of all ranks were saved, on any number of ranks."""
        self.reader.load_state_dict(states)


def train_loader(
    config: TrainConfig, sets: Sequence[SetSettings], processor: Any, rank: int, world: int
) -> Loader:
    """The loader of a run's training rows, without end."""
    return Loader(
        sets, config.data, config.batch, processor, str(config.objective["type"]), config.seed, rank, world
    )
