"""The Ray engine: the same blocks, each stage in its own pool, on one machine or a cluster.

Builders that load a model run in actors that keep it, others in tasks; Ray Data holds back stages that run ahead of the
next, and starts work again that was lost with a machine. ``out`` must be a folder that all machines see. Every block
passes through the stages whole, so the result is that of the local engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vivavoce.base.errors import MissingExtraError
from vivavoce.data.build import BUILDERS
from vivavoce.data.build.blocks import Block, Workspace
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Chain, Pipeline, start

RETRIES = 3


def run_ray(
    pipeline: Pipeline,
    context: Context,
    workspace: Workspace,
    blocks: list[Block],
    workers: int | None,
    report: Callable[[Block, dict[str, Any]], None],
) -> None:
    """Make blocks by Ray Data; arguments as `local.run_local`. ``workers`` is the most actors or tasks of a stage.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("the engine 'ray' needs Ray: pip install 'vivavoce[ray]'.") from error
    if not blocks:
        return
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"number": b.number, "start": b.start, "stop": b.stop} for b in blocks]
    rows: Any = ray.data.from_items(items, override_num_blocks=len(items))
    rows = rows.map(Read(pipeline, context), num_cpus=1)
    for number, record in enumerate(pipeline.stages):
        needs = BUILDERS.get(record["type"]).needs
        gpus = needs.gpus if context.device == "cuda" else 0.0
        if needs.model:
            most = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // max(1, int(needs.cpus)))
            rows = rows.map(
                Stage,
                fn_constructor_args=(pipeline, context, number),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                num_cpus=needs.cpus,
                num_gpus=gpus or None,
                max_restarts=RETRIES,
                max_task_retries=RETRIES,
            )
        else:
            rows = rows.map(Stage(pipeline, context, number), num_cpus=needs.cpus, max_retries=RETRIES)
    rows = rows.map(Write(workspace, context, pipeline.license), num_cpus=0.5)
    by_number = {block.number: block for block in blocks}
    for row in rows.iter_rows():
        report(by_number[row["number"]], {k: row[k] for k in ("source", "passed", "rows", "aside")})


class Read:
    """Reads the rows of a block from the source."""

    def __init__(self, pipeline: Pipeline, context: Context) -> None:
        self.pipeline, self.context = pipeline, context
        self._source: Any = None

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        if self._source is None:
            self._source = self.pipeline.make_source(self.context)
        found = self._source.rows(item["start"], item["stop"])
        return {**item, "made": start(found, item["start"])}


class Stage:
    """Runs one stage over a block."""

    def __init__(self, pipeline: Pipeline, context: Context, number: int) -> None:
        self.chain, self.number = Chain(pipeline, context), number

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "made": self.chain.run_stage(self.number, item["made"])}


class Write:
    """Writes a finished block."""

    def __init__(self, workspace: Workspace, context: Context, license: str | None) -> None:
        self.workspace, self.context, self.license = workspace, context, license

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        for _, row in item["made"].kept:
            row.license = row.license or self.license
        block = Block(item["number"], item["start"], item["stop"])
        return {"number": block.number, **self.workspace.write(block, item["made"], self.context.root)}
