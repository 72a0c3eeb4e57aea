"""``vivavoce scale``: plan a sweep, run it, fit a law, predict by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.overrides import read_overrides
from vivavoce.cli.screen import note, print_json, print_result

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder of the sweep.")]


def plan(
    recipe: Annotated[
        str, typer.Argument(metavar="YAML", help="A sweep, or a training recipe with the rest as settings.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="out=DIR; sizes.widths=[64,128] tokens=[1e6,4e6]; change.KEY=VALUE changes the recipe.",
        ),
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the runs and write nothing.")] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="FLOP/s", help="That training reaches, for the expected time.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure it with the smallest and the largest model.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Lay out a grid of model sizes and token budgets: a recipe for each run, and what they take."""
    overrides = read_overrides(settings or [])
    out = overrides.pop("out", None)
    if not out and not dry:
        raise ConfigError("out is missing; wanted out=DIR, the folder of the sweep, or --dry.")
    if rate is not None and not 0 < rate < float("inf"):
        raise ConfigError(f"--rate is {rate:g}, wanted FLOP/s above 0.")
    from vivavoce.base.records import write_record
    from vivavoce.evaluation.scaling.plan import make_plan
    from vivavoce.evaluation.scaling.sweep import load_sweep

    sweep, config = load_sweep(Path(recipe), overrides)
    cells = make_plan(sweep, config, Path(str(out or ".")), rate, measure, dry, note)
    if json:
        print_json([write_record(cell) for cell in cells])
        return
    from vivavoce.cli.scale_tables import show_cells

    show_cells(cells)
    if not dry:
        print_result(f"\n{len(cells)} recipes in {out}/runs; next: vivavoce scale run {out}")


def run(
    folder: Folder,
    jobs: Annotated[int, typer.Option(metavar="N", help="Runs at a time.")] = 1,
    engine: Annotated[str, typer.Option(metavar="NAME", help="`local` or `ray`.")] = "local",
    gpus: Annotated[float, typer.Option(metavar="N", help="GPUs of each run, for Ray.")] = 0.0,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="`cpu` or `cuda`.")] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep the trained models.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the runs of a sweep, each in a process of its own. Stop it as you like: the same command goes on."""
    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine is {engine!r}, wanted local or ray.")
    from vivavoce.evaluation.scaling.run import RunSettings, run_sweep

    settings = RunSettings(jobs, "ray" if engine == "ray" else "local", gpus, device, keep_models)
    lines = run_sweep(Path(folder), settings, note)
    if json:
        print_json(lines)
        return
    from vivavoce.cli.scale_tables import show_results

    show_results(lines)
    print_result(f"\n{folder}/results.jsonl; next: vivavoce scale fit {folder}")


def fit(
    folder: Annotated[
        str, typer.Argument(metavar="DIR|JSONL", help="A sweep, or lines with n, tokens and loss.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where fit.json and pictures go; default the sweep.")
    ] = None,
    count: Annotated[
        str, typer.Option(metavar="NAME", help="N: `n` without token tables, `n_total` with everything.")
    ] = "n",
    flops: Annotated[
        list[float] | None, typer.Option(metavar="C", help="A budget to tell the best size for; several.")
    ] = None,
    refits: Annotated[int, typer.Option(metavar="N", help="Refits that intervals are made of.")] = 400,
    draw: Annotated[str, typer.Option(metavar="KIND", help="`parametric` or `case`.")] = "parametric",
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same intervals.")] = 0,
    gpu_flops: Annotated[float, typer.Option(metavar="FLOP/s", help="Peak of a GPU.")] = 989e12,
    share: Annotated[float, typer.Option(metavar="SHARE", help="Of the peak that training reaches.")] = 0.35,
    gpu_price: Annotated[
        float | None, typer.Option(metavar="PRICE", help="Of a GPU hour, in any currency.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit L(N, D) = E + A/N^a + B/D^b to a sweep, with 90 % intervals and what speaks against it."""
    if count not in ("n", "n_total"):
        raise ConfigError(f"--count is {count!r}, wanted n or n_total.")
    if draw not in ("parametric", "case"):
        raise ConfigError(f"--draw is {draw!r}, wanted parametric or case.")
    from vivavoce.evaluation.scaling.bootstrap import Refits
    from vivavoce.evaluation.scaling.collect import read_results
    from vivavoce.evaluation.scaling.study import Machine, StudySettings, study
    from vivavoce.evaluation.scaling.sweep import write_json

    settings = StudySettings(
        count="n" if count == "n" else "n_total",
        refits=Refits(refits, "case" if draw == "case" else "parametric", seed=seed),
        budgets=tuple(flops or ()),
        machine=Machine(gpu_flops, share, gpu_price),
    )
    made = study(read_results(Path(folder)), settings)
    place = Path(out) if out else Path(folder) if Path(folder).is_dir() else Path(folder).parent
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{place} cannot be made: {error.strerror}.") from error
    from vivavoce.evaluation.scaling.page import write_page

    write_json(place / "fit.json", made)
    write_page(made, place / "fit.html", f"Scaling law of {Path(folder).resolve().stem}")
    _draw(made, place / "fit.png")
    if json:
        print_json({key: value for key, value in made.items() if key != "refits"})
        return
    from vivavoce.cli.scale_tables import show_fit

    show_fit(made)
    print_result(f"\n{place}/fit.json, fit.html")


def predict(
    folder: Annotated[str, typer.Argument(metavar="DIR|JSON", help="A folder with fit.json, or the file.")],
    params: Annotated[
        float | None, typer.Option(metavar="N", help="Parameters, counted as in the fit.")
    ] = None,
    tokens: Annotated[float | None, typer.Option(metavar="D", help="Tokens, with --params.")] = None,
    flops: Annotated[
        float | None, typer.Option(metavar="C", help="A budget instead, for its best size.")
    ] = None,
    beyond: Annotated[
        bool, typer.Option("--beyond", help="Also far outside of the grid, with a wider interval.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict the loss of a run by a law; far outside of the grid only if you say so."""
    from vivavoce.evaluation.scaling.predict import predict as told_by
    from vivavoce.evaluation.scaling.predict import read_fit

    found = told_by(read_fit(Path(folder)), params, tokens, flops, beyond)
    if json:
        print_json(found)
        return
    from vivavoce.cli.scale_tables import show_prediction

    show_prediction(found)


def _draw(made: dict[str, object], path: Path) -> None:
    """Draw the law where matplotlib is installed."""
    from vivavoce.base.errors import MissingExtraError
    from vivavoce.evaluation.scaling.figures import write_png

    try:
        write_png(made, path)
    except MissingExtraError as error:
        note(f"no picture: {error}")
