"""Rows of JSON lines by number: the line is found by its offset and nothing else is read."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation, read_conversation
from vivavoce.data.reader.index import Index, blocks_of, plain_weights


class LineRows:
    """Random access to rows.

    Args:
        files: Files of JSON lines, in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    def scan(self) -> Index:
        """Find where lines begin, and which rows have a weight.

        Raises:
            DataError: A file cannot be read, or is packed.
        """
        offsets, rows, weights = array("q"), [], array("d")
        for path in self.files:
            before, at = len(offsets), 0
            try:
                with path.open("rb") as file:
                    for line in file:
                        if not line.isspace():
                            offsets.append(at)
                            weights.append(weight_in(line) if b'"weight"' in line else 1.0)
                        at += len(line)
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}.") from error
            rows.append(len(offsets) - before)
        found = np.frombuffer(weights, dtype=np.float64) if weights else np.ones(0)
        where = {
            "offsets": np.frombuffer(offsets, dtype=np.int64) if offsets else np.zeros(0, dtype=np.int64)
        }
        counts = np.array(rows, dtype=np.int64)
        return Index([p.name for p in self.files], counts, blocks_of(counts), plain_weights(found), where)

    def read(self, index: Index, number: int) -> Conversation:
        """One row.

        Raises:
            DataError: It cannot be read; its neighbours may.
        """
        shard, row = index.locate(number)
        path = self.files[shard]
        try:
            with path.open("rb") as file:
                file.seek(int(index.where["offsets"][number]))
                line = file.readline()
            return read_conversation(json.loads(line), row)
        except ValueError as error:
            raise DataError(f"it is not JSON: {error}") from error
        except OSError as error:
            raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error

    def close(self) -> None:
        """Nothing is held open."""


def weight_in(data: bytes) -> float:
    """The weight of a row of JSON; 1 where it has none, or none that can be used, which reading the row tells."""
    try:
        row: Any = json.loads(data)
    except ValueError:
        return 1.0
    found = row.get("weight") if isinstance(row, Mapping) else None
    usable = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < float("inf")
    return float(found) if usable and found is not None else 1.0
