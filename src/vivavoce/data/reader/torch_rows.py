"""The rows of a reader through torch's DataLoader: its workers share the rank's places, and the order stays."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vivavoce.base.errors import DataError
from vivavoce.data.reader.reading import Reader, Sample, Skipped


class RowDataset(IterableDataset):
    """What a reader reads, place by place, for DataLoaders.

    A worker takes every n-th place of the rank and gives something for each, so a loader that takes from its workers in
    turn (``batch_size=None``, which is also needed so that rows and not batches arrive) has the order of the reader
    alone, whatever the number of workers. Positions are counted where ``taken`` runs.

    Args:
        reader: Of this rank. In worker processes it decodes in place.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __iter__(self) -> Iterator[Sample | Skipped]:
        info = get_worker_info()
        if info is None:
            return self.reader.outcomes()
        own = copy.copy(self.reader)
        own.workers = 0
        return own.outcomes(info.id, info.num_workers)

    def taken(self, loader: DataLoader) -> Generator[Sample, None, None]:
        """Rows that a loader over this gives, counted as they are taken.

        Raises:
            DataError: The loader makes batches; make them of these rows instead.
        """
        return self.reader.taken(_each(loader))

    def rows(self, num_workers: int, prefetch: int = 8) -> Generator[Sample, None, None]:
        """Rows by a loader of its own.

        Args:
            num_workers: Processes.
            prefetch: Rows that each holds ready.
        """
        ahead = prefetch if num_workers else None
        return self.taken(DataLoader(self, batch_size=None, num_workers=num_workers, prefetch_factor=ahead))


def _each(loader: DataLoader) -> Generator[Sample | Skipped, None, None]:
    for outcome in loader:
        if not isinstance(outcome, Sample | Skipped):
            raise DataError(
                f"the loader gives {type(outcome).__name__}; wanted rows, by batch_size=None and no collate_fn."
            )
        yield outcome
