"""``vivavoce train --dry-run``: what a run would do, for people or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vivavoce.cli.screen import note, print_error, print_json, print_result, print_table, printable

if TYPE_CHECKING:
    from vivavoce.training.codec.config import CodecTrainConfig
    from vivavoce.training.config import TrainConfig
    from vivavoce.training.plan import Plan
    from vivavoce.training.world import World

NOT_READY = 2


def show_any_plan(config: TrainConfig | CodecTrainConfig, folder: Path, world: World, json: bool) -> None:
    """Print what a run of any kind would do; raises as `show_plan`."""
    from vivavoce.training.codec.config import CodecTrainConfig

    if isinstance(config, CodecTrainConfig):
        _show_codec_plan(config, folder, world, json)
    else:
        show_plan(config, folder, world, json)


def _show_codec_plan(config: CodecTrainConfig, folder: Path, world: World, json: bool) -> None:
    """Print sizes, data and time of a codec's run; one update of it is made, and forgotten."""
    from vivavoce.training.codec.run import plan_codec

    found = plan_codec(config, folder, world, note if world.is_first else lambda line: None)
    if not world.is_first:
        return
    if json:
        print_json(found)
        return
    for name in ("codec", "trained", "discriminators"):
        print_result(f"{name:<15}{found[name]:,} weights")
    print_result(f"{'recordings':<15}{found['recordings']:,}")
    crops = ", then ".join(f"{seconds:.2f}" for seconds in found["crop_s"])
    print_result(f"{'crops':<15}{config.crops.batch} of {crops} s")
    print_result(
        f"{'an update':<15}{found['update_s']:.2f} s, {found['update_flop'] / 1e9:,.0f} GFLOP, with discriminators, "
        "at the first length of crops"
    )
    print_result(f"{'the run':<15}{found['run_s'] / 3600:.1f} h for {config.steps:,} updates")


def show_plan(config: TrainConfig, folder: Path, world: World, json: bool) -> None:
    """Print what a run would do; all processes call it, the first one prints.

    Raises:
        ConfigError: Too little memory, or settings that do not fit.
        typer.Exit: With code 2, where something speaks against the run.
    """
    from vivavoce.training.plan import make_plan

    plan = make_plan(config, folder, world, note if world.is_first else lambda line: None)
    if world.is_first:
        if json:
            print_json(plan.as_dict())
        else:
            _print(plan)
            for sentence in plan.errors:
                print_error(sentence)
    if not plan.ok:
        raise typer.Exit(NOT_READY)


def _print(plan: Plan) -> None:
    from vivavoce.cli.row_view import has_colours, legend, preview_lines, print_lines

    colours = has_colours()
    for preview in plan.previews:
        print_lines(preview_lines(preview, colours))
    if any(preview.rendering for preview in plan.previews):
        print_lines([legend(colours)])
        print_result("")
    parts = [(name, f"{a:,}", f"{b:,}") for name, (a, b) in plan.parts.items()]
    print_table(("part", "trained", "frozen"), parts, right=("trained", "frozen"))
    print_result("")
    for name, words in _facts(plan):
        print_result(f"{name:<10}{printable(words)}")
    for finding in plan.findings:
        print_result(printable(f"{finding.severity}: {finding.kind}: {finding}"))
    for sentence in plan.warnings:
        print_result(printable(f"warning: {sentence}"))
    bad = len(plan.errors) + sum(f.severity == "error" for f in plan.findings)
    print_result(f"\n{'ready to train' if plan.ok else f'not ready: {bad} to put right'}")


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    from vivavoce.training.memory import gib

    size = plan.sizes
    yield "rows", ", ".join(f"{name} {rows:,}" for name, rows in plan.rows.items())
    yield "updates", f"{plan.steps:,}, {plan.passes:.2f} passes over the rows"
    yield (
        "update",
        f"{size.tokens:,.0f} tokens, {size.learned:,.0f} of them learned, {size.audio_s:.1f} s of audio "
        f"(mean of {size.updates}, a process)",
    )
    yield (
        "packing",
        f"{size.micro_batches:.1f} micro-batches, {size.documents_per_micro_batch:.1f} documents in each, filled to "
        f"{size.filled:.0%}, {size.padding:.1%} padding",
    )
    memory = plan.memory
    if memory is None:
        yield "memory", "known when the model is loaded"
    else:
        parts = ("weights", "gradients", "optimizer", "activations", "logits")
        words = ", ".join(f"{part} {gib(getattr(memory, part))}" for part in parts)
        left = "" if memory.available is None else f" of {gib(memory.available)}"
        yield "memory", f"about {gib(memory.total)}{left}: {words}"
    if plan.peak is not None:
        yield "", f"{gib(plan.peak)} measured without the optimizer"
    yield "loss", f"{plan.loss:.4f} before training"
    yield (
        "time",
        f"about {_duration(plan.seconds)} on {plan.processes} x {plan.device}; a micro-batch takes {plan.pass_s:.3g} s "
        "forwards and backwards",
    )


def _duration(seconds: float) -> str:
    """Seconds as people read them."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
