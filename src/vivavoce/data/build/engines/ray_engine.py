"""The Ray engine: the same blocks, each stage in its own pool, on one machine or a cluster.

Builders that load a model run in actors that keep it, others in tasks; Ray Data holds back stages that run ahead of the
next, and starts work again that was lost with a process or a machine, however often. ``out`` must be a folder that all
machines see. Every block passes through the stages whole, so the result is that of the local engine; as there, a row
that kills the process that works on it is put aside.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vivavoce.base import errors
from vivavoce.base.errors import ConfigError, MissingExtraError, VivavoceError
from vivavoce.base.whole_files import write_whole
from vivavoce.data.build.contract import Context, Needs
from vivavoce.data.build.engines.blocks import Block, Workspace
from vivavoce.data.build.engines.quarantine import CRASHED, refuse_all_crashed
from vivavoce.data.build.pipeline import Chain, Parcel, Pipeline, stage_needs, start

BESIDE = 0.1  # of a core, for reading and for writing


def run_ray(
    pipeline: Pipeline,
    context: Context,
    source: Any,
    workspace: Workspace,
    blocks: list[Block],
    workers: int | None,
    report: Callable[[Block, dict[str, Any]], None],
) -> None:
    """Make blocks by Ray Data; arguments as `local.run_local`. ``workers`` is the most actors or tasks of a stage.

    Raises:
        MissingExtraError: Ray is not installed.
        VivavoceError: What a stage or the disk refused, as in the local engine.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its own log files still have everything
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("the engine 'ray' needs Ray: pip install 'vivavoce[ray]'.") from error
    if not blocks:
        return
    ours = not ray.is_initialized()
    if ours:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    for left in workspace.folder.glob(".trying-*"):  # by a run that was killed: that was no row's doing
        left.unlink()
    try:
        by_number = {block.number: block for block in blocks}
        for row in _plan(pipeline, context, source, workspace, blocks, workers).iter_rows():
            told = json.loads(row["told"])
            if "error" in told:
                raise getattr(errors, told["error"])(told["message"])
            report(by_number[row["number"]], told["counts"])
    finally:
        if ours:
            ray.shutdown()


def _plan(
    pipeline: Pipeline,
    context: Context,
    source: Any,
    workspace: Workspace,
    blocks: list[Block],
    workers: int | None,
) -> Any:
    """The dataset of numbers of blocks, which makes the blocks as it is read."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    stages = [stage_needs(record) for record in pipeline.stages]
    shares = share_out(stages, context.device, ray.cluster_resources())
    items = [{"number": b.number, "start": b.start, "stop": b.stop} for b in blocks]
    rows: Any = ray.data.from_items(items, override_num_blocks=len(items))
    rows = rows.map(Read(source), num_cpus=BESIDE)
    for number, (needs, (cpus, gpus)) in enumerate(zip(stages, shares, strict=True)):
        given = (pipeline, context, number, workspace.folder)
        if needs.model:
            most = workers or max(1, int(ray.cluster_resources()["CPU"] / max(needs.cpus, 1.0)))
            pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
            rows = rows.map(
                Stage, fn_constructor_args=given, compute=pool, num_cpus=cpus, num_gpus=gpus or None
            )
        else:
            rows = rows.map(Stage(*given), num_cpus=cpus)
    return rows.map(Write(workspace, context, pipeline.license), num_cpus=BESIDE)


def share_out(stages: Sequence[Needs], device: str, there: Mapping[str, float]) -> list[tuple[float, float]]:
    """Cores and GPUs of one worker of each stage, so that one of each finds room at the same time.

    Workers with models hold what they have as long as the run lasts; if it does not go round, all would wait for ever.

    Args:
        stages: What they ask for.
        device: "cpu" or "cuda".
        there: What the cluster has, as Ray tells it.

    Raises:
        ConfigError: GPUs are wanted, and there are none.
    """
    wanted = [(s.cpus, s.gpus if device == "cuda" else 0.0) for s in stages]
    factors = []
    for place, (name, reserved) in enumerate((("CPU", 2 * BESIDE), ("GPU", 0.0))):
        asked, have = sum(w[place] for w in wanted), there.get(name, 0.0) - reserved
        if asked and have <= 0:
            raise ConfigError(f"the device is {device!r}, and Ray finds no {name} for it.")
        factors.append(min(1.0, have / asked) if asked else 1.0)
    return [(floor(c * factors[0], 4), floor(g * factors[1], 4)) for c, g in wanted]


def floor(value: float, digits: int) -> float:
    return math.floor(value * 10**digits) / 10**digits


def _passing_errors(work: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> Any:
    """Let an error of ours travel on, as JSON, in the place of a result; Ray would wrap it and lose it."""

    def call(self: Any, item: dict[str, Any]) -> dict[str, Any]:
        if item.get("told"):
            return item
        try:
            return work(self, item)
        except VivavoceError as error:
            return {**item, "made": None, "told": json.dumps(_record(error))}

    return call


def _record(error: VivavoceError) -> dict[str, str]:
    """An error's message and its class in `base.errors`, or the nearest there of one that lives elsewhere."""
    named = (cls for cls in type(error).__mro__ if getattr(errors, cls.__name__, None) is cls)
    return {"error": next(named).__name__, "message": str(error)}


class Read:
    """Reads the rows of a block from the source."""

    def __init__(self, source: Any) -> None:
        self.source = source

    @_passing_errors
    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "made": start(self.source.rows(item["start"], item["stop"]), item["start"])}


class Stage:
    """Runs one stage over a block; if that killed a process before, row by row.

    Args:
        pipeline: The whole.
        context: For its builders.
        number: Of the stage.
        notes: Folder in which a block under work has a note, which stays if the process dies.
    """

    def __init__(self, pipeline: Pipeline, context: Context, number: int, notes: Path) -> None:
        self.chain, self.number, self.notes = Chain(pipeline, context), number, notes

    @_passing_errors
    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        import torch

        torch.set_num_threads(1)
        note = self.notes / f".trying-{item['number']}-{self.number}"
        if note.exists():
            made = self._one_by_one(note, item["made"])
        else:
            _write_note(note, {}, "all")
            made = self.chain.run_stage(self.number, item["made"])
        note.unlink(missing_ok=True)
        return {**item, "made": made}

    def _one_by_one(self, note: Path, given: Parcel) -> Parcel:
        """Run the stage over what was made of each source row, and put aside those that killed two processes."""
        found = json.loads(note.read_text())
        deaths: dict[str, int] = found["deaths"]
        deaths[found["now"]] = deaths.get(found["now"], 0) + 1
        made = Parcel([], list(given.aside))
        rows = sorted({number for number, _ in given.kept})
        crashed = [row for row in rows if deaths.get(str(row), 0) >= 2]
        refuse_all_crashed(len(crashed), len(rows))
        for row in rows:
            if row in crashed:
                made.aside += start([CRASHED], row).aside
                continue
            _write_note(note, deaths, str(row))
            found = self.chain.run_stage(self.number, Parcel([k for k in given.kept if k[0] == row], []))
            made.kept += found.kept
            made.aside += found.aside
        return made


def _write_note(note: Path, deaths: dict[str, int], now: str) -> None:
    write_whole(note, json.dumps({"deaths": deaths, "now": now}))


class Write:
    """Writes a finished block."""

    def __init__(self, workspace: Workspace, context: Context, license: str | None) -> None:
        self.workspace, self.context, self.license = workspace, context, license

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"number": item["number"], "told": self._write(item)["told"]}

    @_passing_errors
    def _write(self, item: dict[str, Any]) -> dict[str, Any]:
        for _, row in item["made"].kept:
            row.license = row.license or self.license
        block = Block(item["number"], item["start"], item["stop"])
        return {"told": json.dumps({"counts": self.workspace.write(block, item["made"], self.context.root)})}
