"""Reading what make_speech.py wrote: rows and their samples, memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RATE = 24_000
SPEAKERS = ("george", "jackson", "lucas", "nicolas")
"""Of the Free Spoken Digit Dataset."""


class SpeechShards:
    """All complete shards of a folder.

    Args:
        folder: Output of make_speech.py.
        splits: Rows of these splits only; None for all.
        more: Other such folders, whose rows follow.
    """

    def __init__(self, folder: Path, splits: set[str] | None = None, more: Sequence[Path] = ()) -> None:
        self.rows: list[dict] = []
        self._audio: list[np.memmap] = []
        for index in [path for f in (folder, *more) for path in sorted(f.glob("*.jsonl"))]:
            self._audio.append(np.memmap(index.with_suffix(".i16"), dtype=np.int16, mode="r"))
            for line in index.read_text().splitlines():
                row = json.loads(line)
                if splits is None or row["split"] in splits:
                    self.rows.append({**row, "shard": len(self._audio) - 1})

    def samples(self, row: dict, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 samples of a row (24 kHz, [-1, 1])."""
        stop = row["samples"] if stop is None else min(stop, row["samples"])
        begin = row["offset"]
        return self._audio[row["shard"]][begin + start : begin + stop].astype(np.float32) / 32768
