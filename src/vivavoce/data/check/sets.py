"""The check of a whole set: its rows by all cores, a few in memory at a time, then what is equal among them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.data.check.config import CheckConfig
from vivavoce.data.check.findings import Finding, Tally
from vivavoce.data.check.keys import KEY, KeyStore
from vivavoce.data.check.reading import BLOCK_ROWS, Block, Plan, list_rows, plan, read_any, read_block
from vivavoce.data.check.report import Report, counted
from vivavoce.data.check.rows import Doctor, Facts, RowChecker
from vivavoce.data.conversation import Conversation

MANY_ROWS = 1000  # from here on processes are worth their start
ONE_SPEAKER_CLIPS = 100
Progress = Callable[[int, int], None]
Rows = str | os.PathLike[str] | Sequence[Any]

_worker: dict[str, Any] = {}


@dataclass
class _Part:
    """What was found in one block."""

    tally: Tally
    facts: Facts = field(default_factory=Facts)
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, KEY))
    hashes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Work:
    """What a worker is told once."""

    checker: RowChecker
    other: RowChecker | None
    hashes: bool


def check_set(
    rows: Rows,
    config: CheckConfig | None = None,
    *,
    tokenizer: Any = None,
    doctor: Doctor | None = None,
    against: Rows | None = None,
    root: Path | None = None,
    workers: int | None = None,
    report: Progress | None = None,
) -> Report:
    """Check every row of a set, and the set as a whole.

    The result does not depend on the number of processes. Memory holds a few blocks of rows; keys by which equal rows
    are found go to a temporary folder, 25 bytes each, about four a row.

    Args:
        rows: Folder of shards, a .parquet file, a file of JSON lines, or rows in memory
            (conversations or JSON objects).
        config: What is wanted; by default what every set should have.
        tokenizer: Hugging Face tokenizer: finds sound tokens that it splits, special tokens in text, turns that its
            chat template refuses, and rows that are too long.
        doctor: Looks at what a model reads of each row, such as ``training.doctor.Doctor``; it and the tokenizer must
            be picklable where there are processes.
        against: Another set that must share nothing with this one, such as the test set.
        root: Where relative paths of recordings start; default the set's folder, or here for rows in memory.
        workers: Processes; default the cores for a thousand rows or more, else 0, which is none.
        report: Told (rows done, rows in all).

    Returns:
        The report; ``report.ok`` is False if there is an error.

    Raises:
        DataError: There is no such set.
        ConfigError: The config is out of range.
    """
    config = config or CheckConfig()
    own, listed = _plan(rows, root)
    checker = RowChecker(config, own.root, tokenizer, doctor)
    other_plan, other_listed = _plan(against, root) if against is not None else (None, ())
    other = RowChecker(config, other_plan.root) if other_plan else None
    work = _Work(checker, other, bool(own.content_hash))
    jobs = [(False, block) for block in own.blocks]
    jobs += [(True, block) for block in other_plan.blocks] if other_plan else []
    total = sum(block.rows for _, block in jobs)
    name = str(rows) if isinstance(rows, str | os.PathLike) else "rows in memory"
    tally, facts = Tally(config.examples), Facts()
    hashes: dict[int, list[str]] = {}
    done = 0
    with KeyStore(config.examples) as store:
        for (is_other, block), part in _run(work, jobs, (listed, other_listed), _processes(workers, total)):
            store.add(part.keys, is_other)
            if not is_other:
                tally.add(part.tally)
                facts.add(part.facts)
                hashes[block.first] = part.hashes
            done += block.rows
            if report:
                report(done, total)
        _add_equal(tally, store, (own, listed), (other_plan, other_listed))
    _add_set(tally, facts, own, hashes)
    return Report(name, tally, facts, str(against) if isinstance(against, str | os.PathLike) else None)


def _plan(rows: Rows, root: Path | None) -> tuple[Plan, Sequence[Any]]:
    """Blocks of a set, and the rows themselves where they are in memory."""
    if isinstance(rows, str | os.PathLike):
        found = plan(Path(rows))
        found.root = root or found.root
        return found, ()
    starts = range(0, len(rows), BLOCK_ROWS)
    blocks = [Block(Path(), start, start, min(BLOCK_ROWS, len(rows) - start)) for start in starts]
    return Plan(root or Path(), blocks, []), rows


def _processes(wanted: int | None, total: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wanted is None:
        return cores if total >= MANY_ROWS and cores > 1 else 0
    return max(0, wanted)


Job = tuple[bool, Block]


def _run(
    work: _Work, jobs: Sequence[Job], listed: tuple[Sequence[Any], Sequence[Any]], processes: int
) -> Iterator[tuple[Job, _Part]]:
    """Check blocks here or in processes; yields them as they are finished."""

    def rows_of(job: Job) -> Sequence[Any]:
        rows = listed[job[0]]
        return rows[job[1].start : job[1].start + job[1].rows] if len(rows) else ()

    if not processes:
        for job in jobs:
            yield job, _check(work, job, rows_of(job))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, max(1, len(jobs))), context, _begin, (work,)) as pool:
        running: dict[Future[_Part], Job] = {}
        waiting = iter(jobs)
        while True:
            for job in waiting:
                running[pool.submit(_check_here, job, rows_of(job))] = job
                if len(running) > 2 * processes:  # rows in memory are sent with their jobs
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _begin(work: _Work) -> None:
    _worker["work"] = work


def _check_here(job: Job, rows: Sequence[Any]) -> _Part:
    return _check(_worker["work"], job, rows)


def _check(work: _Work, job: Job, rows: Sequence[Any]) -> _Part:
    """Check one block, or take its keys only."""
    is_other, block = job
    part = _Part(Tally(work.checker.config.examples))
    keys: list[tuple[int, int, int, int]] = []
    try:
        for number, row in list_rows(rows, block.first) if len(rows) else read_block(block):
            if is_other:
                assert work.other is not None
                keys += work.other.keys(row, number)
                continue
            checked = work.checker(row, number)
            part.tally.add_row(checked.findings)
            part.facts.add(checked.facts)
            keys += checked.keys
            if work.hashes and isinstance(row, Conversation):
                part.hashes.append(row.content_hash())
    except (DataError, OSError) as error:
        part.tally.add_row([Finding("unreadable_file", str(error), "a whole file", block.file.name)])
    part.keys = np.array(keys, KEY)
    return part


_EQUAL = {
    "id": ("duplicate_id", "an id of its own"),
    "row": ("duplicate_row", "each row once"),
    "audio": ("duplicate_audio", "each recording once"),
    "text": ("duplicate_text", "each text once"),
    "conflict": ("conflicting_transcripts", "one transcript"),
    "overlap row": ("overlap_row", "no row of the other set"),
    "overlap audio": ("overlap_audio", "no recording of the other set"),
    "overlap text": ("overlap_text", "no text of the other set"),
}


def _add_equal(
    tally: Tally, store: KeyStore, own: tuple[Plan, Sequence[Any]], other: tuple[Plan | None, Sequence[Any]]
) -> None:
    for name, equal in store.equal().items():
        kind, wanted = _EQUAL[name]
        examples = []
        for row, first in equal.examples:
            there = other if name.startswith("overlap") else own
            seen = f"the same as row {_id(there, first)!r}{' of the other set' if there is other else ''}"
            seen = f"another transcript than row {_id(there, first)!r} has" if name == "conflict" else seen
            seen = f"the same id as row number {first}" if name == "id" else seen
            examples.append(Finding(kind, seen, wanted, row=_id(own, row), number=row))
        tally.add_many(kind, equal.count, examples)


def _id(source: tuple[Plan | None, Sequence[Any]], number: int) -> str:
    """The id of a row, read again."""
    found, rows = source
    if len(rows):
        row = read_any(rows[number], number)
        return row.id if isinstance(row, Conversation) else str(number)
    assert found is not None
    block = next(b for b in found.blocks if b.first <= number < b.first + b.rows)
    return next(
        (r.id for n, r in read_block(block) if n == number and isinstance(r, Conversation)), str(number)
    )


def _add_set(tally: Tally, facts: Facts, own: Plan, hashes: dict[int, list[str]]) -> None:
    for name, reason in own.faults:
        tally.add_row([Finding("unreadable_file", reason, "a whole file", name)])
    if not facts.rows:
        tally.add_row([Finding("empty_set", "no rows", "one or more")])
    if own.content_hash and not tally.counts["unreadable_file"]:
        found = hashlib.sha256(
            "".join(h for first in sorted(hashes) for h in hashes[first]).encode()
        ).hexdigest()
        if found != own.content_hash:
            seen = f"content {found[:16]}"
            tally.add_row(
                [Finding("manifest_differs", seen, f"content {own.content_hash[:16]} as in the manifest")]
            )
    for side in ("question", "answer"):
        codecs = {
            f"{codec} {weights or 'without hash'}": n
            for (s, codec, weights), n in facts.codecs.items()
            if s == side
        }
        if len(codecs) > 1:
            tally.add_row(
                [Finding("codecs_mixed", f"in {side}s {counted(codecs)}", "one codec with one hash")]
            )
    if len(facts.speakers) == 1 and facts.spoken >= ONE_SPEAKER_CLIPS:
        tally.add_row(
            [Finding("one_speaker", f"{facts.spoken} clips of {next(iter(facts.speakers))!r}", "several")]
        )
