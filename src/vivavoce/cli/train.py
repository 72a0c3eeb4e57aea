"""``vivavoce train``: a recipe, trained or gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.overrides import read_overrides
from vivavoce.cli.screen import note, print_json, print_result, printable

if TYPE_CHECKING:
    from vivavoce.training.updates import Progress


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="YAML", help="A recipe: model, data, objective, optimizer; of a codec with `kind: codec`."
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings to change: out=DIR steps=100 optimizer.lr=1e-4."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at rows, memory and time, and train nothing.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="`cpu` or `cuda`; default what is there.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe. Stop it as you like: the same command goes on where it was, with the same result.

    On several GPUs: torchrun --nproc-per-node N -m vivavoce train YAML out=DIR.
    """
    overrides = read_overrides(settings or [])
    out = overrides.pop("out", None)
    if not out:
        raise ConfigError("out is missing; wanted out=DIR, the folder of the run.")
    from vivavoce.training.kinds import load_any, train_any

    config = load_any(Path(recipe), overrides)
    from vivavoce.training.world import World

    world = World.from_environment(device)
    try:
        if dry_run:
            from vivavoce.cli.train_plan import show_any_plan

            show_any_plan(config, Path(str(out)), world, json)
            return
        quiet = not world.is_first
        with _bar(config.name, quiet) as report:
            found = train_any(config, Path(str(out)), world, report, (lambda line: None) if quiet else note)
    finally:
        world.close()
    if quiet:
        return
    if json:
        print_json(found)
        return
    print_result(
        f"{out}  update {found['step']} of {found['steps']}, loss {found.get('loss', float('nan')):.4f}"
    )
    for line in found["rows"]:
        print_result(printable(line))
    if "exact" in found:
        print_result(f"answers right to the last token: {found['exact']:.0%}")
    if "model" in found:
        print_result(f"model    {found['model']}")
        if (Path(str(out)) / "report.html").is_file():
            print_result(f"report   {out}/report.html")


@contextmanager
def _bar(name: str, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A line that tells how far a run is: on terminals it stays in its place, elsewhere there is one now and then."""
    import sys

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    from vivavoce.cli.screen import console

    if quiet:
        yield lambda progress: None
        return
    if not sys.stderr.isatty():
        yield lambda progress: note(f"update {progress.step} of {progress.steps}  {_words(progress.values)}")
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[told]}"),
    )  # fmt: skip
    screen = console(sys.stderr)
    with RichProgress(*columns, console=screen) as bar:
        task = bar.add_task(name, total=None, told="")

        def report(progress: Progress) -> None:
            counted = len(name) + 2 * len(str(progress.steps)) + 41  # bar, count and times come first
            told = _words(progress.values, screen.width - counted)
            bar.update(task, completed=progress.step, total=progress.steps, told=told)

        yield report


def _words(values: dict[str, Any], room: int | None = None) -> str:
    """The numbers of a line that people look at; the first of them, where there is room for so many letters."""
    told = [
        f"{name} {values[key]:{form}}"
        for key, name, form in (
            ("loss", "loss", ".4f"), ("loss/text", "text", ".3f"), ("loss/audio", "audio", ".3f"),
            ("mel", "mel", ".3f"), ("discriminator", "discriminators", ".3f"), ("held_out/mel", "held out", ".3f"),
            ("held_out/loss", "held out", ".4f"), ("grad_norm", "norm", ".2f"), ("tokens_per_s", "tokens/s", ",.0f"),
            ("audio_s_per_s", "audio s/s", ".1f"), ("mfu", "MFU", ".1%"), ("skipped_steps", "skipped", ".0f"),
        )
        if values.get(key)
    ]  # fmt: skip
    while room is not None and len(told) > 1 and len("  ".join(told)) > room:
        told.pop()
    return "  ".join(told)
