"""The local engine: blocks in worker processes, nothing to install.

Each worker holds the whole chain, so models are loaded once a worker. A worker that dies (memory, a crash in native
code) takes its blocks with it; they are tried again alone, then row by row, and a row that kills its worker again and
again is put aside. Workers compute with one thread each, so that their number does not change a sum's rounding, and all
read the listing of the source that the first process made, so that files that come or go meanwhile shift no row.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.engines.blocks import Block, Workspace
from vivavoce.data.build.engines.quarantine import CRASHED, refuse_all_crashed
from vivavoce.data.build.pipeline import Chain, Parcel, Pipeline, start

_worker: dict[str, Any] = {}

Progress = Callable[[Block, dict[str, Any]], None]
Given = tuple[Pipeline, Context, Any, Workspace]


def run_local(
    pipeline: Pipeline,
    context: Context,
    source: Any,
    workspace: Workspace,
    blocks: list[Block],
    workers: int,
    report: Progress,
) -> None:
    """Make blocks.

    Args:
        pipeline: What to do.
        context: For its builders; picklable unless there are no workers.
        source: The pipeline's; the same holds for it.
        workspace: Where blocks go.
        blocks: Those still to be made.
        workers: Processes; 0 makes them in this one.
        report: Told of every finished block.

    Raises:
        ConfigError: What workers need cannot be sent to them.
        DataError: Workers die before they begin, or blocks cannot be written.
    """
    if workers == 0:
        import torch

        threads = torch.get_num_threads()
        try:
            _begin(pipeline, context, source, workspace)
            for block in blocks:
                report(block, _make(block))
        finally:
            torch.set_num_threads(threads)
            _worker.clear()
        return
    given = (pipeline, context, source, workspace)
    try:
        pickle.dumps(given)  # as processes are sent it later, when a failure could say less
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the pipeline's context or source cannot be sent to worker processes ({error}); name functions and "
            "classes of modules as services, or take workers=0."
        ) from error
    rest = blocks
    while rest:
        for block in _run_pool(given, rest, workers, report):
            if not _run_pool(given, [block], 1, report):
                continue
            report(block, _one_by_one(given, block))
        rest = [block for block in rest if not workspace.done(block)]


def _run_pool(given: Given, blocks: list[Block], workers: int, report: Progress) -> list[Block]:
    """Make blocks in processes until all are made, or one process dies; returns those that were lost with it."""
    workspace = given[3]
    running: dict[Future[dict[str, Any]], Block] = {}
    rest: Iterator[Block] = iter(blocks)
    with _Pool(workers, given) as pool:
        try:
            while True:
                for block in rest:
                    running[pool.submit(_make, block)] = block
                    if len(running) > workers:
                        break
                if not running:
                    return []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    report(running[future], future.result())
                    del running[future]
        except BrokenProcessPool:
            lost = []
        for block in running.values():  # some were finished before the process died
            if workspace.done(block):
                report(block, workspace.counts(block))
            else:
                lost.append(block)
        return lost


def _one_by_one(given: Given, block: Block) -> dict[str, Any]:
    """Make the rows of a block that kills its worker; one that kills a fresh process too is put aside."""
    _, context, _, workspace = given
    made = Parcel([], [])
    row, tries, crashed = block.start, 0, 0
    while row < block.stop:
        with _Pool(1, given) as pool:
            try:
                pool.submit(_is_there).result()
            except BrokenProcessPool as error:
                raise DataError(
                    "worker processes die before they begin, which is no row's fault; workers=0 works in this process "
                    "and shows why. (A script that calls build needs `if __name__ == '__main__':` around it.)"
                ) from error
            try:
                while row < block.stop:
                    found = pool.submit(_make_row, row).result()
                    made.kept += found.kept
                    made.aside += found.aside
                    row, tries = row + 1, 0
            except BrokenProcessPool:
                tries += 1
                if tries == 2:
                    made.aside += start([CRASHED], row).aside
                    row, tries, crashed = row + 1, 0, crashed + 1
                    refuse_all_crashed(crashed, block.stop - block.start)
    return workspace.write(block, made, context.root)


class _Pool(ProcessPoolExecutor):
    """Workers that are gone when the run is: stopped by Ctrl-C, by an error, or killed with this process."""

    def __init__(self, workers: int, given: Given) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._others = set(multiprocessing.active_children())
        super().__init__(workers, spawn, _begin_worker, given)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        self.shutdown(wait=True, cancel_futures=True)


def _begin_worker(pipeline: Pipeline, context: Context, source: Any, workspace: Workspace) -> None:
    """Set up a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _begin(pipeline, context, source, workspace)


def _leave_with_parent() -> None:
    """End this process when the one that started it is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin(pipeline: Pipeline, context: Context, source: Any, workspace: Workspace) -> None:
    import torch

    torch.set_num_threads(1)
    _worker.update(source=source, chain=Chain(pipeline, context), workspace=workspace)


def _is_there() -> None:
    """What a worker does that only has to show that it has begun."""


def _make(block: Block) -> dict[str, Any]:
    made: dict[str, Any] = _worker["workspace"].make(block, _worker["source"], _worker["chain"])
    return made


def _make_row(row: int) -> Parcel:
    made: Parcel = _worker["workspace"].run(row, row + 1, _worker["source"], _worker["chain"])
    return made
