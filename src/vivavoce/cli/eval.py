"""``vivavoce eval``: models scored beside their baselines, runs compared, reports made."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.eval_compare import compare
from vivavoce.cli.eval_tasks import report, tasks
from vivavoce.cli.options import Debug, Device, Json
from vivavoce.cli.screen import note

__all__ = ["compare", "report", "run", "tasks"]

NOISE_DB = (20.0, 15.0, 10.0, 5.0, 0.0)


def run(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...", help="`nano` (built in), folders or hub ids; several stand side by side."
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Tasks and suites, commas between; see `vivavoce eval tasks`. Default: the suite `nano`.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the run; default eval-MODEL here. A stopped run goes on."
        ),
    ] = None,
    cascade: Annotated[
        str | None,
        typer.Option(
            metavar="ASR+LLM",
            help="The cascade to beat, such as `pocketsphinx+own` or `hf:ID+own`. Default: pocketsphinx, then "
            "the model's own language model.",
        ),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="BASE", help="The language model before speech training. Default: what the model names."
        ),
    ] = None,
    noise: Annotated[
        bool, typer.Option("--noise", help="Ask everything spoken again with noise, 20 to 0 dB.")
    ] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Most questions per task.", min=1)] = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="Synthetic stand-ins for published data; nothing is downloaded.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask the models there, in OpenAI's shapes, such as http://HOST/v1."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="All of this in a file, and tasks of your own; options win."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of all that is drawn. Default 0.")] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR", help="Measure a codec instead: how near its output is to its input."
        ),
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For --codec: your own; default synthetic speech.")
    ] = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score models on spoken tasks, beside their cascade, their ceiling and their text before speech training.

    The word `run` may be left out. Writes items, report.json and report.html; goes on where it was stopped.
    """
    if codec is not None:
        if models:
            raise ConfigError(f"--codec measures a codec, and {models[0]!r} is a model; give one of the two.")
        from vivavoce.cli.eval_codec import measure_codec

        measure_codec(codec, recordings, out, limit, device, json)
        return
    from vivavoce.cli.eval_config import read_config
    from vivavoce.cli.eval_screen import answering, print_report

    given: dict[str, Any] = {
        "models": models or None,
        "tasks": [name.strip() for name in tasks.split(",") if name.strip()] if tasks is not None else None,
        "out": None if out is None else str(out),
        "cascade": cascade,
        "retention": retention,
        "noise": list(NOISE_DB) if noise else None,
        "limit": limit,
        "source": "twin" if twin else None,
        "endpoint": endpoint,
        "seed": seed,
        "device": device,
    }
    plan = read_config(config, {key: value for key, value in given.items() if value is not None})
    from vivavoce.audio.threads import one_thread
    from vivavoce.evaluation.diagnosis import diagnose
    from vivavoce.evaluation.report.making import make_report
    from vivavoce.evaluation.run.runner import run_evaluation, run_evaluations

    folder = Path(plan.out or f"eval-{plan.called}")
    # in a model as small as the bundle, threads of torch only wait for each other
    small = one_thread(device or "cpu") if plan.models == ("nano",) else nullcontext()
    with answering() as advance, small:
        if len(plan.models) == 1:
            run_evaluation(plan.models[0], plan.made_tasks(), plan.systems, folder, plan.settings(), advance)
            folders = [folder]
        else:
            made = run_evaluations(
                plan.models, plan.made_tasks(), plan.systems, folder, plan.settings(), advance
            )
            folders = list(made.values())
    for one in folders:
        diagnose(one)
    print_report(make_report(folder), json)
    if not json:
        note("which questions went wrong, with recordings, is on the page.")
