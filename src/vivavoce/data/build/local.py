"""The local engine: blocks in worker processes, nothing to install.

Each worker holds the whole chain, so models are loaded once a worker. A worker that dies (memory, a crash in native
code) takes its blocks with it; they are tried again alone, and a row that kills its worker twice is put aside.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from vivavoce.data.build.blocks import Block, Workspace
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.pipeline import Chain, Pipeline

_worker: dict[str, Any] = {}

Progress = Callable[[Block, dict[str, Any]], None]


def run_local(
    pipeline: Pipeline,
    context: Context,
    workspace: Workspace,
    blocks: list[Block],
    workers: int,
    report: Progress,
) -> None:
    """Make blocks.

    Args:
        pipeline: What to do.
        context: For its builders; picklable.
        workspace: Where blocks go.
        blocks: Those still to be made.
        workers: Processes; 0 makes them in this one.
        report: Told of every finished block.
    """
    if workers == 0:
        _begin(pipeline, context, workspace, threads=None)
        for block in blocks:
            report(block, _make(block))
        return
    waiting, suspects = list(blocks), _run_pool(pipeline, context, workspace, blocks, workers, report)
    for block in suspects:
        if workspace.done(block):
            continue
        if not _run_pool(pipeline, context, workspace, [block], 1, report):
            continue
        report(block, _one_by_one(pipeline, context, workspace, block))
    rest = [block for block in waiting if not workspace.done(block)]
    if rest:
        run_local(pipeline, context, workspace, rest, workers, report)


def _run_pool(
    pipeline: Pipeline,
    context: Context,
    workspace: Workspace,
    blocks: list[Block],
    workers: int,
    report: Progress,
) -> list[Block]:
    """Make blocks in processes until all are made, or one process dies; returns the blocks that were in the making."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin, (pipeline, context, workspace, threads)
    )
    running: dict[Future[dict[str, Any]], Block] = {}
    rest: Iterator[Block] = iter(blocks)
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
        return list(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(pipeline: Pipeline, context: Context, workspace: Workspace, block: Block) -> dict[str, Any]:
    """Make the rows of a block that kills its worker, each in a process of its own."""
    kept, aside = [], []
    spawn = multiprocessing.get_context("spawn")
    for row in range(block.start, block.stop):
        with ProcessPoolExecutor(1, spawn, _begin, (pipeline, context, workspace, None)) as pool:
            try:
                made, faults = pool.submit(_make_row, row).result()
            except BrokenProcessPool:
                fault = Fault(
                    "crashed", "the process that worked on this row died twice, perhaps for want of memory"
                )
                made, faults = Chain(pipeline, context).run([fault])
        kept += made
        aside += faults
    return workspace.write(block, kept, aside, context.root)


def _begin(pipeline: Pipeline, context: Context, workspace: Workspace, threads: int | None) -> None:
    """Set up a worker."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    _worker.update(source=pipeline.make_source(context), chain=Chain(pipeline, context), workspace=workspace)


def _make(block: Block) -> dict[str, Any]:
    made: dict[str, Any] = _worker["workspace"].make(block, _worker["source"], _worker["chain"])
    return made


def _make_row(row: int) -> Any:
    return _worker["chain"].run(_worker["source"].rows(row, row + 1))
