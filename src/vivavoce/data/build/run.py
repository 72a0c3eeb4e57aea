"""Run a pipeline from source to shards and manifest, on any engine, again and again if need be.

The result is the same for the same pipeline and source: independent of the engine, the number of processes, and of how
often the run was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import write_record
from vivavoce.data.build.contract import Context
from vivavoce.data.build.engines.blocks import Block, Workspace, changes, plan_blocks
from vivavoce.data.build.engines.local import run_local
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.manifest import MANIFEST, Manifest, read_manifest, write_set
from vivavoce.data.shards import import_pyarrow

ENGINES = ("local", "ray")


@dataclass
class Outcome:
    """What a run made.

    Attributes:
        folder: With shards, manifest and quarantine.
        manifest: Of the set.
        made_now: Source rows of this run; others were there from earlier runs.
        kinds: Why rows were put aside -> how many.
    """

    folder: Path
    manifest: Manifest
    made_now: int
    kinds: dict[str, int] = field(default_factory=dict)


def build(
    pipeline: Pipeline,
    out: Path,
    context: Context | None = None,
    engine: str = "local",
    workers: int | None = None,
    report: Callable[[int, int, dict[str, Any]], None] | None = None,
) -> Outcome:
    """Run a pipeline.

    Args:
        pipeline: What to make.
        out: Folder for the set; made if absent. A finished set of the same pipeline is left as it is.
        context: Services, cache and device; its seed is replaced by the pipeline's.
        engine: "local" or "ray".
        workers: Processes; default the cores, 0 for none.
        report: Told (source rows done, source rows in all, numbers of the block).

    Raises:
        ConfigError: Unknown engine, a wrong number of workers, a source without rows, settings that a builder
            refuses, or a context that cannot be sent to workers.
        MissingExtraError: A package is not installed.
        DataError: ``out`` holds another set, another run is writing there, or the disk is full.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}, wanted one of {', '.join(map(repr, ENGINES))}.")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}, wanted 0 or more.")
    import_pyarrow()  # before any work, if it is not there
    context = replace(context or Context(), seed=pipeline.seed)
    context = replace(context, root=context.root.absolute())  # for workers that run elsewhere
    source = pipeline.make_source(context)
    key = pipeline.key(source.fingerprint())
    total = min(len(source), pipeline.rows or len(source))
    if not total:
        raise ConfigError(f"the source has no rows: {dict(pipeline.source)}.")
    blocks = plan_blocks(total, pipeline.block_rows)
    workspace = Workspace(out, f"{key[:16]}-{pipeline.block_rows}", write_record(pipeline))
    finished = _finished(out, key, pipeline)
    if finished is not None:
        workspace.tidy()
        return Outcome(out, finished, 0, finished.put_aside)
    with workspace.open():
        finished = _finished(out, key, pipeline)  # by a run that ended while we waited
        if finished is not None:
            return Outcome(out, finished, 0, finished.put_aside)
        rest = [block for block in blocks if not workspace.done(block)]
        done = total - sum(block.stop - block.start for block in rest)
        if report:
            report(done, total, {})

        def tell(block: Block, counts: dict[str, Any]) -> None:
            nonlocal done
            done += block.stop - block.start
            if report:
                report(done, total, counts)

        before = done
        if engine == "ray":
            from vivavoce.data.build.engines.ray_engine import run_ray

            run_ray(pipeline, context, source, workspace, rest, workers, tell)
        elif rest:
            run_local(pipeline, context, source, workspace, rest, _workers(workers, len(rest)), tell)
        with workspace.watching_space():
            manifest = _gather(pipeline, out, key, workspace, blocks)
        workspace.clear()
    return Outcome(out, manifest, done - before, manifest.put_aside)


def _finished(out: Path, key: str, pipeline: Pipeline) -> Manifest | None:
    """The manifest of a set that is there already.

    Raises:
        DataError: It is another one.
    """
    if not (out / MANIFEST).is_file():
        return None
    found = read_manifest(out)
    if found.key != key:
        told = changes(found.pipeline, write_record(pipeline))
        raise DataError(
            f"{out} holds another set ({found.name}, {found.rows} rows; {told}); choose another folder."
        )
    return found


def _gather(pipeline: Pipeline, out: Path, key: str, workspace: Workspace, blocks: list[Block]) -> Manifest:
    """Write the set from its blocks, after what an interrupted run may have left of it is gone."""
    for left in (*out.glob("data-*.parquet"), *out.glob(".*.part")):
        left.unlink()
    return write_set(
        out,
        workspace.rows(blocks),
        workspace.aside(blocks),
        pipeline=pipeline,
        key=key,
        source_rows=blocks[-1].stop,
        passed=sum(workspace.counts(block)["passed"] for block in blocks),
    )


def _workers(wanted: int | None, num_blocks: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores if wanted is None else wanted, num_blocks)
