"""Rows with their waveforms, decoded ahead in order; what counts is what has been taken, not what has been decoded.

Letters: S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np

from vivavoce.base.errors import AudioError, ConfigError, DataError, MissingExtraError, VivavoceError
from vivavoce.data.conversation import Conversation
from vivavoce.data.reader.ahead import Ahead
from vivavoce.data.reader.chance import seed_of
from vivavoce.data.reader.decoding import Clip, Clips, Decode, decode, without_bytes
from vivavoce.data.reader.filters import Filters
from vivavoce.data.reader.stream import Place, Stream

USED = "used"
Decoded = list[tuple[np.ndarray, int] | None]


@dataclass(slots=True)
class Sample:
    """A row ready to be made into a batch.

    Attributes:
        place: Where it stands in the stream.
        source: Name of its source.
        row: The conversation; without the bytes of its recordings unless they were asked for.
        waveforms: Of each audio part in reading order, float32 [S] and rate in Hz; None for parts not decoded.
        seed: For what is random about this row (augmentation, dropping): the same at every world size.
    """

    place: Place
    source: str
    row: Conversation
    waveforms: Decoded
    seed: int


@dataclass(slots=True)
class Skipped:
    """A place that gives no row.

    Attributes:
        place: Where it stands in the stream.
        source: Name of its source.
        reason: A few words that are counted.
        detail: A sentence that names the row.
        is_fault: True if something is wrong with the row, False if a rule left it out.
    """

    place: Place
    source: str
    reason: str
    detail: str
    is_fault: bool


@dataclass(slots=True)
class _Job:
    """A row that is read and waits to be decoded."""

    place: Place
    source: str
    row: Conversation
    clips: list[Clip | None]
    seconds: float


class Reader:
    """Iterates over the rows of a stream, reading and decoding ahead.

    Iterating again, or after ``load_state_dict``, goes on after the last row that was taken; rows decoded ahead are not
    counted and come again. With ``confirm`` a row counts only once it was given to ``done`` (by who packs rows and
    holds some back); rows not confirmed come again after a restart.

    Args:
        stream: Places of this rank.
        sample_rate: Wanted rate of waveforms, Hz; None keeps the files'.
        filters: Which rows are used.
        decode: Which recordings are decoded: "all", those "untokenized" (of parts without codes), or "none".
        on_fault: What becomes of rows that cannot be read: "skip" counts and passes them over, "raise" raises.
        workers: Threads or processes that decode; 0 works in place when a row is asked for.
        pool: "thread" or "process". Decoding leaves Python's lock, so threads use all cores; processes are for formats
            that do not.
        ahead_rows: Most rows decoded ahead.
        ahead_s: Most seconds of audio decoded ahead; a longer row goes alone. 1800 s at 16 kHz are 115 MB.
        keep_bytes: Leave recordings' bytes in rows.
        confirm: Count rows when they are confirmed, not when they are taken.
        patience: Rows in a row that may be skipped before it is an error; None waits for ever.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(
        self,
        stream: Stream,
        sample_rate: int | None = None,
        filters: Filters | None = None,
        *,
        decode: Decode = "all",
        on_fault: Literal["skip", "raise"] = "skip",
        workers: int = 2,
        pool: Literal["thread", "process"] = "thread",
        ahead_rows: int = 32,
        ahead_s: float = 1800.0,
        keep_bytes: bool = False,
        confirm: bool = False,
        patience: int | None = 10_000,
    ) -> None:
        chosen = {
            "decode": (decode, ("all", "untokenized", "none")),
            "on_fault": (on_fault, ("skip", "raise")),
            "pool": (pool, ("thread", "process")),
        }
        faults = [f"{n} is {v!r}, wanted one of {', '.join(k)}" for n, (v, k) in chosen.items() if v not in k]
        if workers < 0 or ahead_rows < 1 or not ahead_s > 0 or (patience is not None and patience < 1):
            faults.append(
                f"workers is {workers}, ahead_rows {ahead_rows}, ahead_s {ahead_s}, patience {patience}; wanted "
                "workers of 0 or more, the others above 0"
            )
        if faults:
            raise ConfigError("; ".join(faults) + ".")
        self.stream, self.sample_rate, self.filters = stream, sample_rate, filters or Filters()
        self.decode, self.on_fault, self.confirm, self.patience = decode, on_fault, confirm, patience
        self.workers, self.pool, self.ahead_rows, self.ahead_s = workers, pool, ahead_rows, ahead_s
        self.keep_bytes = keep_bytes
        self.faults: list[str] = []
        self._clips = Clips(decode, self.filters.by_seconds or workers > 0)
        self._open: Iterator[Any] | None = None

    def __iter__(self) -> Generator[Sample, None, None]:
        """Rows from the first that is not done.

        Raises:
            DataError: A row cannot be read and ``on_fault`` is "raise"; or ``patience`` is at an end.
        """
        return self.taken(self.outcomes())

    def outcomes(self, worker: int = 0, num_workers: int = 1) -> Iterator[Sample | Skipped]:
        """One outcome for every place in order, not counted as done."""
        places = self.stream.places(worker, num_workers)
        prepared = (self._prepare(place) for place in places)
        if self.workers == 0:
            return (job if isinstance(job, Skipped) else self._in_place(job) for job in prepared)
        return self._decoded_ahead(prepared)

    def taken(self, outcomes: Iterator[Sample | Skipped]) -> Generator[Sample, None, None]:
        """Rows of outcomes, each counted as done when it is given on."""
        self.close()
        self._open = outcomes
        in_vain = 0
        try:
            for outcome in outcomes:
                if isinstance(outcome, Sample):
                    in_vain = 0
                    if not self.confirm:
                        self.done(outcome)
                    yield outcome
                else:
                    self._pass_over(outcome)
                    in_vain += 1
                    if in_vain == self.patience:
                        raise self._nothing(in_vain)
        finally:
            if self._open is outcomes:
                self.close()

    def done(self, sample: Sample) -> None:
        """Count a row as used; only needed with ``confirm``."""
        self.stream.done(sample.place.position, sample.source, USED)

    def state_dict(self) -> dict[str, Any]:
        """How far this rank has come, as JSON; see `Stream.state_dict`."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on where a state was saved; see `Stream.load_state_dict`."""
        self.close()
        self.stream.load_state_dict(state)

    def totals(self) -> dict[str, dict[str, int]]:
        """Rows by source and what became of them; see `Stream.totals`."""
        return self.stream.totals()

    def close(self) -> None:
        """Stop decoding ahead; iterate again to go on."""
        close = getattr(self._open, "close", None)
        self._open = None
        if close is not None:
            close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, place: Place) -> _Job | Skipped:
        """Read a row and see whether it is used, as far as can be told before decoding."""
        source = self.stream.sources[place.source]
        try:
            row = source[place.number]
            reason = self.filters.against(row)
            if reason:
                return self._left_out(place, row, reason)
            clips = self._clips.of(row, source.root)
        except MissingExtraError as error:
            raise MissingExtraError(f"{source.describe(place.number)}: {error}") from error
        except (VivavoceError, OSError) as error:
            return self._fault(place, error)
        except Exception as error:
            error.add_note(f"while reading {source.describe(place.number)}")
            raise
        seconds = [clip.seconds for clip in clips if clip is not None]
        reason = (
            self.filters.against_seconds([s for s in seconds if s is not None])
            if None not in seconds
            else None
        )
        if reason:
            return self._left_out(place, row, reason)
        return _Job(place, source.name, row, clips, sum(s or 0.0 for s in seconds))

    def _in_place(self, job: _Job) -> Sample | Skipped:
        return self._finish(job, lambda: decode(job.clips, self.sample_rate))

    def _decoded_ahead(self, prepared: Iterator[_Job | Skipped]) -> Iterator[Sample | Skipped]:
        def start(pool: Executor, job: _Job | Skipped) -> Future[Decoded] | None:
            return None if isinstance(job, Skipped) else pool.submit(decode, job.clips, self.sample_rate)

        def size(job: _Job | Skipped) -> float:
            return 0.0 if isinstance(job, Skipped) else job.seconds

        pool: Executor = (
            ThreadPoolExecutor(self.workers, "vivavoce-decode")
            if self.pool == "thread"
            else ProcessPoolExecutor(self.workers, get_context("spawn"))
        )
        ahead = iter(Ahead(prepared, start, size, pool, self.ahead_rows, self.ahead_s))
        with closing(ahead):
            for job, future in ahead:
                if isinstance(job, Skipped):
                    yield job
                else:
                    assert future is not None
                    yield self._finish(job, future.result)

    def _finish(self, job: _Job, result: Callable[[], Decoded]) -> Sample | Skipped:
        try:
            waveforms = result()
        except MissingExtraError as error:
            raise MissingExtraError(f"{self._named(job.place, job.row)}: {error}") from error
        except (VivavoceError, OSError) as error:
            return self._fault(job.place, error)
        except Exception as error:
            error.add_note(f"while decoding {self._named(job.place, job.row)}")
            raise
        seconds = [len(found[0]) / found[1] for found in waveforms if found is not None]
        reason = self.filters.against_seconds(seconds)
        if reason:
            return self._left_out(job.place, job.row, reason)
        row = job.row if self.keep_bytes else without_bytes(job.row)
        return Sample(job.place, job.source, row, waveforms, seed_of(self.stream.seed, job.place.position))

    def _left_out(self, place: Place, row: Conversation, reason: str) -> Skipped:
        source = self.stream.sources[place.source].name
        return Skipped(place, source, reason, f"{self._named(place, row)}: {reason}", False)

    def _fault(self, place: Place, error: Exception) -> Skipped:
        source = self.stream.sources[place.source]
        reason = "unreadable recording" if isinstance(error, AudioError) else "unreadable row"
        where = source.describe(place.number)
        detail = str(error) if where in str(error) else f"{where}: {error}"
        return Skipped(place, source.name, reason, detail, True)

    def _named(self, place: Place, row: Conversation) -> str:
        return f"row {row.id!r} ({self.stream.sources[place.source].describe(place.number)})"

    def _pass_over(self, skipped: Skipped) -> None:
        if skipped.is_fault and self.on_fault == "raise":
            raise DataError(f"{skipped.detail} Mend it, or pass such rows over by on_fault='skip'.")
        if skipped.is_fault and len(self.faults) < 20:
            self.faults.append(skipped.detail)
        self.stream.done(skipped.place.position, skipped.source, skipped.reason)

    def _nothing(self, count: int) -> DataError:
        reasons = {
            f"{what} ({n})" for found in self.totals().values() for what, n in found.items() if what != USED
        }
        first = f" First: {self.faults[0]}" if self.faults else ""
        return DataError(
            f"{count} rows in a row were of no use: {', '.join(sorted(reasons))}.{first} Look at the filters and the "
            "recordings' paths, or raise patience."
        )
