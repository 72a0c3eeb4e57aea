"""``vivavoce data plan``: what a pipeline takes at scale, by measured rates."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.overrides import read_pipeline_overrides
from vivavoce.cli.screen import note, print_json, print_result, print_table, working

Price = Annotated[float | None, typer.Option(metavar="PRICE", help="In any currency; without it no cost.")]
UNITS = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def plan(
    recipe: Annotated[str, typer.Argument(metavar="YAML", help="A pipeline, as for `data build`.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(metavar="N", help="Hours of audio in the source, or of speech made from its texts."),
    ] = None,
    rows: Annotated[float | None, typer.Option(metavar="N", help="Rows of the source, if known.")] = None,
    cores: Annotated[int, typer.Option(metavar="N", help="Cores of all machines together.")] = 1,
    gpus: Annotated[int, typer.Option(metavar="N", help="GPUs of all machines together.")] = 0,
    core_hour_price: Price = None,
    gpu_hour_price: Price = None,
    rates: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rates of your own, which come before the package's (YAML)."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run a few rows of the source here and use what they take.")
    ] = False,
    measure_rows: Annotated[int, typer.Option(metavar="N", help="How many rows.")] = 8,
    save: Annotated[
        str | None, typer.Option(metavar="FILE", help="Keep what was measured, for --rates.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="For --measure: `cpu` or `cuda`.")] = "cpu",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Plan a pipeline at scale: hours, rows, time, storage, tokens and cost of each stage.

    Says of every stage whether its rate was measured, and where and how, or is assumed.
    """
    overrides = read_pipeline_overrides(settings or [])
    overrides.pop("out", None)
    if hours is None:
        raise ConfigError("--hours is missing; wanted the hours of audio in the source.")
    if save and not measure:
        raise ConfigError("--save keeps what was measured; say --measure too.")
    from vivavoce.data.build.pipeline import load_pipeline
    from vivavoce.data.plan import Resources, make_plan
    from vivavoce.data.plan_rates import load_rates

    if not 0 < hours < float("inf"):  # before anything is measured
        raise ConfigError(f"hours is {hours:g}, wanted more than 0: the hours of audio in the source.")
    resources = Resources(cores, gpus, core_hour_price, gpu_hour_price)
    pipeline = load_pipeline(Path(recipe), overrides)
    tables = [load_rates(Path(rates))] if rates else []
    if measure:
        tables.insert(0, _measure(pipeline, Path(recipe).parent, device, measure_rows, save))
    made = make_plan(pipeline, hours, resources, tables, rows)
    if json:
        from vivavoce.base.records import write_record

        print_json(write_record(made))
        return
    _show(made)


def _measure(pipeline: Any, root: Path, device: str, count: int, save: str | None) -> Any:
    from vivavoce.data.build.contract import Context
    from vivavoce.data.plan_measure import measure_rates
    from vivavoce.inference.services import SERVICES

    context = Context(root=root, device=device, services=SERVICES)
    with working(f"measuring {count} rows"):
        found = measure_rates(pipeline, context, count, "vivavoce " + shlex.join(sys.argv[1:]))
    if save:
        import yaml

        from vivavoce.base.records import write_record

        text = yaml.safe_dump(write_record(found), sort_keys=False, allow_unicode=True)
        try:
            Path(save).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{save} cannot be written: {error.strerror}.") from error
        note(f"rates kept in {save}")
    return found


def _show(made: Any) -> None:
    given = made.resources
    gpus = f", {given.gpus} GPUs" if given.gpus else ""
    print_result(f"{made.name}: {made.hours:,.6g} h of audio, {given.cores} cores{gpus}")
    priced = made.cost is not None
    columns = ("stage", "on", "h in", "h out", "rows out", "core-h", "GPU-h", "wall h", "cost", "rate")
    lines: list[tuple[Any, ...]] = [
        (
            s.name, s.device, _number(s.hours_in), _number(s.hours_out), _number(s.rows_out), _number(s.cpu_hours),
            _number(s.gpu_hours), _number(s.wall_hours), _number(s.cost), s.basis,
        )
        for s in made.stages
    ]  # fmt: skip
    total = [_number(v) for v in (made.cpu_hours, made.gpu_hours, made.wall_hours, made.cost)]
    lines.append(("all", "", "", "", "", *total, "stages work at once"))
    kept = [i for i, name in enumerate(columns) if priced or name != "cost"]
    print_table([columns[i] for i in kept], [[line[i] for i in kept] for line in lines], columns[2:9])
    print_result("")
    print_table(("storage", "size"), [(s.what, size(s.num_bytes)) for s in made.storage], ("size",))
    coded = [("made", c) for c in made.tokens] + [("if it were", c) for c in made.layouts]
    print_result("")
    print_table(
        ("tokens", "codec", "layout", "per second", "in all"),
        [(what, c.codec, c.layout, f"{c.tokens_per_s:.2f}", _number(c.tokens)) for what, c in coded],
        ("per second", "in all"),
    )
    print_result("")
    for stage in made.stages:
        print_result(f"{stage.name}: {stage.told}")
    for stored in made.storage:
        if stored.what.startswith("source"):
            print_result(f"{stored.what}: {stored.told}")


def _number(value: float | None) -> str | None:
    """A figure that people can read: three digits or whole numbers."""
    if value is None:
        return None
    if value >= 1e9:
        return f"{value / 1e9:,.2f} billion"
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def size(num_bytes: float) -> str:
    """Bytes in the largest unit of which there is one."""
    for unit, name in UNITS:
        if num_bytes >= unit:
            return f"{num_bytes / unit:.3g} {name}"
    return f"{num_bytes:.0f} B"
