"""The runs of a sweep, before any is made: parameters, tokens, hours, FLOPs and time of each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import write_record
from vivavoce.base.whole_files import write_whole
from vivavoce.codecs.loading import load_codec
from vivavoce.evaluation.scaling.sizes import Size, build_sizes
from vivavoce.evaluation.scaling.sweep import Cell, Sweep, write_cells, write_json
from vivavoce.training.config import ModelSettings, SetSettings, TrainConfig
from vivavoce.training.loader import Loader
from vivavoce.training.loop import build_objective
from vivavoce.training.models import build_model
from vivavoce.training.objectives import OBJECTIVES
from vivavoce.training.packed_attention import use_packed_attention
from vivavoce.training.packing import make_batch, pack
from vivavoce.training.run import check_settings
from vivavoce.training.schedules import build_schedule
from vivavoce.training.sets import check_sets, prepare_sets
from vivavoce.training.world import World

Echo = Callable[[str], None]
MEASURED_ROWS = 256  # that the mean length of a row is measured on
STANDING = ("constant", "wsd")  # schedules with points before their end


@dataclass(frozen=True)
class Rows:
    """Rows in the mean.

    Attributes:
        tokens: Of a row, text and audio.
        audio_s: Seconds of audio of a row.
        count: Rows of a pass; 0 where the sets are not made yet.
    """

    tokens: float
    audio_s: float
    count: int


def codec_rate(model: ModelSettings) -> float:
    """Codec tokens for a second of speech; 0 for models without codec tokens."""
    side = model.speaks or model.hears or {}
    return load_codec(side["codec"]).spec.tokens_per_second if "codec" in side else 0.0


def make_plan(
    sweep: Sweep,
    config: TrainConfig,
    folder: Path,
    rate: float | None = None,
    measure: bool = False,
    dry: bool = False,
    echo: Echo = lambda line: None,
) -> list[Cell]:
    """Lay out the runs of a sweep.

    Args:
        sweep: Sizes and budgets.
        config: The recipe.
        folder: Of the sweep; ``dry`` leaves nothing there.
        rate: FLOP/s that training reaches, for the expected time.
        measure: Measure it instead, with a micro-batch of the smallest and the largest model.
        dry: Only lay out; sets that are not made yet need ``row_tokens`` then.
        echo: Told what is done.

    Returns:
        The runs, the cheapest first.

    Raises:
        ConfigError: A schedule that has no such points, budgets below an update, another sweep in the folder.
        VivavoceError: Rows or models that cannot be read.
    """
    kind = config.schedule["type"]
    if sweep.points == "stable" and kind not in STANDING:
        raise ConfigError(
            f"points is 'stable', but the schedule is {kind!r}, whose rate is on its way down all the time: a loss on "
            "the way is not that of a run of that length. Count runs at their end (points=end), or set "
            "change.schedule={type: wsd}."
        )
    if not config.data.held_out:
        raise ConfigError(
            "the recipe has no data.held_out; wanted rows that are never learned, to measure the loss."
        )
    check_settings(replace(config, steps=None), World())
    check_sets(config.data.sets)
    check_sets(config.data.held_out)
    with TemporaryDirectory() as scratch:
        if not dry:
            _claim(folder, sweep, config)
            config = _with_sets(config, folder, echo)
        sizes = build_sizes(sweep.sizes, config, Path(scratch) if dry else folder)
        rows = _measure_rows(sweep, config, Path(scratch), dry)
        cells = [cell for seed in sweep.seeds for cell in _cells(sweep, config, sizes, rows, seed)]
        if measure:
            echo("speed")
            cells = _timed(cells, sizes, config, Path(scratch), rows)
        elif rate:
            cells = [replace(cell, seconds=cell.flops / rate) for cell in cells]
    cells.sort(key=lambda cell: cell.flops)
    if not dry:
        by_name = {size.name: size for size in sizes}
        for cell in cells:
            _write_run(folder, cell, by_name[cell.size], sweep, config)
        write_cells(folder, cells)
    return cells


def _cells(sweep: Sweep, config: TrainConfig, sizes: Sequence[Size], rows: Rows, seed: int) -> list[Cell]:
    made = []
    rule = sweep.rates
    for size in sizes:
        budgets = sweep.tokens or tuple(flops / (6.0 * size.n) for flops in sweep.flops)
        for tokens in budgets:
            batch = round(config.batch.rows * (tokens / min(sweep.tokens or budgets)) ** rule.batch_power)
            steps = round(tokens / (batch * rows.tokens))
            if steps < 2:
                raise ConfigError(
                    f"{tokens:,.0f} tokens are {tokens / (batch * rows.tokens):.1f} updates of {batch} rows of "
                    f"{rows.tokens:,.0f} tokens; give it more tokens, or fewer rows by change.batch.rows."
                )
            lr = rule.lr or config.optimizer.lr
            if rule.lr:
                lr *= ((rule.width or min(s.width for s in sizes)) / size.width) ** rule.power
            planned = steps * batch * rows.tokens
            made.append(
                Cell(
                    id=f"{size.name}-d{tokens:.4g}-s{seed}".replace("+", ""),
                    size=size.name,
                    width=size.width,
                    layers=size.layers,
                    n=size.n,
                    n_total=size.n_total,
                    tokens=planned,
                    audio_s=steps * batch * rows.audio_s,
                    steps=steps,
                    rows=batch,
                    passes=steps * batch / rows.count if rows.count else 0.0,
                    lr=lr,
                    seed=seed,
                    flops=size.flops(planned, rows.tokens),
                )
            )
    return made


def _with_sets(config: TrainConfig, folder: Path, echo: Echo) -> TrainConfig:
    """Make the sets once, for all runs."""
    world = World()

    def made(sets: Sequence[SetSettings]) -> tuple[SetSettings, ...]:
        found = prepare_sets(sets, folder, world, echo)
        return tuple(replace(one, path=str(Path(str(one.path)).resolve()), pipeline=None) for one in found)

    data = config.data
    return replace(config, data=replace(data, sets=made(data.sets), held_out=made(data.held_out)))


def _measure_rows(sweep: Sweep, config: TrainConfig, scratch: Path, dry: bool) -> Rows:
    """Tokens and seconds of a row, over the first of them as they would be learned."""
    unmade = [one for one in config.data.sets if one.path is None or not Path(one.path).exists()]
    if unmade:
        if sweep.row_tokens is None:
            raise ConfigError(
                "the sets of the recipe are not made yet, so nobody knows how long a row is; plan without --dry, "
                "which makes them, or say row_tokens."
            )
        seconds = codec_rate(config.model)
        return Rows(sweep.row_tokens, sweep.row_tokens / seconds if seconds else 0.0, 0)
    _, processor = build_model(config.model, scratch / "rows", config.seed, World())
    rendering = OBJECTIVES.get(str(config.objective["type"])).rendering
    sets = prepare_sets(config.data.sets, scratch, World())
    batch = replace(config.batch, rows=1)
    loader = Loader(sets, config.data, batch, processor, rendering, config.seed)
    updates = iter(loader)
    try:
        seen = list(islice(updates, min(MEASURED_ROWS, loader.rows_a_pass)))
    finally:
        updates.close()  # type: ignore[attr-defined]
    tokens = sum(len(document) for update in seen for document in update.documents) / len(seen)
    audio_s = sum(document.audio_s for update in seen for document in update.documents) / len(seen)
    return Rows(sweep.row_tokens or tokens, audio_s, loader.rows_a_pass)


def _timed(
    cells: Sequence[Cell], sizes: Sequence[Size], config: TrainConfig, scratch: Path, rows: Rows
) -> list[Cell]:
    """Expected seconds, from what a micro-batch of the smallest and of the largest model takes here."""
    ordered = sorted(sizes, key=lambda size: size.fixed_flops)
    found = [_seconds_per_token(size, config, scratch / size.name) for size in (ordered[0], ordered[-1])]
    costs = [size.flops(1.0, rows.tokens) for size in (ordered[0], ordered[-1])]
    made = []
    for cell in cells:
        share = (cell.flops / cell.tokens - costs[0]) / max(costs[1] - costs[0], 1.0)
        made.append(replace(cell, seconds=cell.tokens * (found[0] + share * (found[1] - found[0]))))
    return made


def _seconds_per_token(size: Size, config: TrainConfig, scratch: Path) -> float:
    """A micro-batch forwards and backwards, twice; the second counts."""
    world = World.from_environment()
    config = replace(config, model=size.model)
    model, processor = build_model(config.model, scratch, config.seed, world)
    use_packed_attention(model.language_model)
    model.config.use_cache = False
    model.requires_grad_(True)
    objective = build_objective(config, processor)
    sets = prepare_sets(config.data.sets, scratch, World())
    updates = iter(Loader(sets, config.data, config.batch, processor, objective.rendering, config.seed))
    try:
        documents = next(updates).documents
    finally:
        updates.close()  # type: ignore[attr-defined]
    group = pack(documents, config.batch.max_tokens, config.batch.max_audio_s)[0]
    batch = make_batch([documents[i] for i in group], config.batch.chain, None, processor.pad_id)
    batch = batch.to(world.device)
    totals = objective.totals([batch])
    spent = 0.0
    for _ in range(2):
        began = time.perf_counter()
        objective(model.train(), batch, totals)[0].backward()
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        spent = time.perf_counter() - began
    return spent / batch.num_tokens


def _claim(folder: Path, sweep: Sweep, config: TrainConfig) -> None:
    """Make the folder of a sweep.

    Raises:
        ConfigError: Another one is in it.
    """
    record = {"sweep": write_record(sweep), "recipe": write_record(config)}
    path = folder / "sweep.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(record)):
        raise ConfigError(f"{folder} holds another sweep; choose another folder, or remove it.")
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error}.") from error
    write_json(path, record)


def _write_run(folder: Path, cell: Cell, size: Size, sweep: Sweep, config: TrainConfig) -> None:
    """Write the recipe of a run."""
    place = folder / "runs" / cell.id
    place.mkdir(parents=True, exist_ok=True)
    schedule = dict(config.schedule)
    if sweep.rates.warmup is not None:
        schedule.pop("warmup_steps", None)
        schedule["warmup_ratio"] = sweep.rates.warmup
    model = size.model
    if isinstance(model.llm, Mapping):
        model = replace(model, llm={**model.llm, "seed": cell.seed})
    keep = config.keep
    if sweep.points == "stable":
        keep = replace(keep, measure_every=stable_every(schedule, cell.steps, sweep.points_per_run))
    made = replace(
        config,
        name=cell.id,
        seed=cell.seed,
        steps=cell.steps,
        model=model,
        data=_near(config.data, folder, place),
        batch=replace(config.batch, rows=cell.rows),
        optimizer=replace(config.optimizer, lr=cell.lr),
        schedule=schedule,
        keep=replace(keep, sample_every=-1),
    )
    build_schedule(made.schedule, made.steps or 1)  # a warmup that does not fit is told now
    text = yaml.safe_dump(write_record(made), sort_keys=False, allow_unicode=True)
    write_whole(place / "recipe.yaml", text)


def _near(data: Any, folder: Path, place: Path) -> Any:
    """Sets that the sweep made named from the run's folder, so that the sweep can be moved."""

    def near(one: SetSettings) -> SetSettings:
        path = Path(str(one.path))
        inside = path.is_relative_to(folder.resolve())
        return replace(one, path=os.path.relpath(path, place.resolve())) if inside else one

    return replace(data, sets=tuple(map(near, data.sets)), held_out=tuple(map(near, data.held_out)))


def stable_span(schedule: Mapping[str, Any], steps: int) -> tuple[int, int]:
    """First and last update at the highest rate of a ``wsd`` or ``constant`` schedule."""
    built = build_schedule(schedule, steps)
    inside = [step for step in range(steps) if built.factor(step) >= 1.0]
    return (inside[0] + 1, inside[-1] + 1) if inside else (steps, steps)


def stable_every(schedule: Mapping[str, Any], steps: int, points: int) -> int:
    """Updates between measurements, for so many points in the stable part."""
    first, last = stable_span(schedule, steps)
    return max(1, (last - first) // max(1, points))
