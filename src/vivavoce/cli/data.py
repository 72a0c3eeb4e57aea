"""``vivavoce data``: make, check, convert and plan data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.data_check import check
from vivavoce.cli.data_convert import convert, formats, info
from vivavoce.cli.data_plan import plan
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.overrides import read_overrides, read_pipeline_overrides
from vivavoce.cli.screen import counting, note, print_json, print_result

__all__ = ["build", "check", "convert", "formats", "info", "plan", "run"]

Workers = Annotated[int | None, typer.Option(metavar="N", help="Processes; default the cores, 0 for none.")]
Engine = Annotated[str, typer.Option(metavar="NAME", help="`local` (default) or `ray`.")]
DataDevice = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where models run: `cpu` or `cuda`.")
]


def build(
    recipe: Annotated[str, typer.Argument(metavar="YAML", help="A pipeline: source, stages, rows, seed.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings to change: rows=200 out=DIR stages.0.speed=[0.9,1.1]."
        ),
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    device: DataDevice = "cpu",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a pipeline. Stop it as you like: the same command goes on where it was, with the same result.

    Relative paths in the file start at its folder, those given here at the working directory.
    """
    overrides = read_pipeline_overrides(settings or [])
    out = overrides.pop("out", None)
    if not out:
        raise ConfigError("out is missing; wanted out=DIR, the folder for shards and manifest.")
    from vivavoce.data.build.pipeline import load_pipeline

    pipeline = load_pipeline(Path(recipe), overrides)
    _run(pipeline, Path(str(out)), engine, workers, device, json, root=Path(recipe).resolve().parent)


def run(
    builder: Annotated[
        str, typer.Argument(metavar="BUILDER", help="One stage: `speak`, `tokenize`, `mine`, ...")
    ],
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A set, .parquet, .jsonl, .txt, or folder of recordings.")
    ],
    destination: Annotated[str, typer.Argument(metavar="DST", help="A folder for shards and manifest.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the stage.")
    ] = None,
    rows: Annotated[int | None, typer.Option(metavar="N", help="Take only so many rows.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    engine: Engine = "local",
    workers: Workers = None,
    device: DataDevice = "cpu",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run one stage over rows, as a pipeline of its own."""
    from vivavoce.data.build.pipeline import Pipeline

    stage = {"type": builder, **read_overrides(settings or [])}
    pipeline = Pipeline(source=source_record(source), stages=(stage,), name=builder, rows=rows, seed=seed)
    _run(pipeline, Path(destination), engine, workers, device, json)


def source_record(source: str) -> dict[str, Any]:
    """What a path is as the source of a pipeline.

    Raises:
        ConfigError: Nothing is there.
    """
    path = Path(source)
    if not path.exists():
        raise ConfigError(
            f"{source} does not exist; wanted a set, .parquet, .jsonl, .txt, or a folder of recordings."
        )
    if path.is_dir() and not any(path.glob("*.parquet")):
        return {"type": "recordings", "folder": str(path.resolve())}
    if path.suffix == ".txt":
        return {"type": "text", "file": str(path.resolve())}
    return {"type": "rows", "path": str(path.resolve())}


def _run(
    pipeline: Any,
    out: Path,
    engine: str,
    workers: int | None,
    device: str,
    json: bool,
    root: Path | None = None,
) -> None:
    from vivavoce.data.build.contract import Context
    from vivavoce.data.build.run import build as build_set
    from vivavoce.inference.services import SERVICES

    cache = Path.home() / ".cache" / "vivavoce" / "data"
    context = Context(root=root or Path.cwd(), cache=cache, device=device, services=SERVICES)
    with counting(f"making {out}", "rows") as advance:
        outcome = build_set(
            pipeline, out, context, engine, workers, lambda done, total, counts: advance(done, total)
        )
    manifest = outcome.manifest
    if json:
        from vivavoce.base.records import write_record

        print_json({"folder": str(outcome.folder), "made_now": outcome.made_now, **write_record(manifest)})
        return
    print_result(f"{out}  {manifest.rows} rows, {manifest.hours:.2f} h, {len(manifest.shards)} shards")
    aside = sum(manifest.put_aside.values())
    if manifest.source_rows is not None:
        lost = aside if manifest.passed is None else manifest.source_rows - manifest.passed
        parts = f" ({aside} with parts of rows that became several)" if aside != lost else ""
        print_result(f"from {manifest.source_rows} rows of the source; {lost} put aside{parts}")
    for kind, count in manifest.put_aside.items():
        print_result(f"  {count:6d}  {kind}")
    if aside:
        note(f"reasons, row by row: {out}/put_aside.jsonl")
    if not outcome.made_now:
        note("everything was there already.")
    print_result(f"content  {manifest.content_hash[:16]}")
