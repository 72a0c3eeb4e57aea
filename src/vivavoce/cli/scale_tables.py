"""Tables of ``vivavoce scale``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vivavoce.cli.screen import print_result, print_table, printable


def show_cells(cells: Sequence[Any]) -> None:
    """Print the runs of a plan and their sums."""
    columns = (
        "run", "width", "layers", "N", "with tables", "tokens", "audio h", "D/N", "passes", "updates", "lr",
        "FLOPs", "time",
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = [
        (
            c.id, c.width, c.layers, f"{c.n:,}", f"{c.n_total:,}", f"{c.tokens:,.0f}", f"{c.audio_s / 3600:.3g}",
            f"{c.tokens / c.n:.3g}", f"{c.passes:.2f}", f"{c.steps:,}", f"{c.lr:.3g}",
            f"{c.flops:.3g}", span(c.seconds),
        )
        for c in cells
    ]  # fmt: skip
    known = [c.seconds for c in cells if c.seconds is not None]
    total = span(sum(known)) if known else ""
    tokens, hours = sum(c.tokens for c in cells), sum(c.audio_s for c in cells) / 3600
    flops = sum(c.flops for c in cells)
    rows.append(("all", *[""] * 4, f"{tokens:,.0f}", f"{hours:.3g}", *[""] * 4, f"{flops:.3g}", total))
    print_table(columns, rows, columns[1:])


def show_results(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print the points of a sweep."""
    columns = ("run", "N", "tokens", "audio h", "loss", "text", "audio", "bits/s")
    rows = [
        (
            line["id"], f"{line['n']:,}", f"{line['tokens']:,.0f}", f"{line['audio_h']:.3g}", f"{line['loss']:.4f}",
            *(f"{line['losses'][k]:.4f}" if k in line["losses"] else "" for k in ("text", "audio")),
            "" if line["bits_per_s"] is None else f"{line['bits_per_s']:.1f}",
        )
        for line in lines
    ]  # fmt: skip
    print_table(columns, rows, columns[1:])


def show_fit(made: Mapping[str, Any]) -> None:
    """Print a law, its parts, the checks on it and budgets."""
    share = f"{made['method']['confidence']:.0%}"
    kind = "without" if made["count"] == "n" else "with"
    print_result(
        f"L(N, D) = E + A/N^a + B/D^b, {len(made['points'])} points, N {kind} token tables, {share} intervals"
    )
    columns = ("loss", "E", "a", "b", "A", "B", "scatter")
    laws = {"total": {"law": made["law"], "noise": made["noise"]}, **made["parts"]}
    rows = [
        (name, *(_between(part["law"][k]) for k in columns[1:-1]), f"{part['noise']:.2%}")
        for name, part in laws.items()
    ]
    print_table(columns, rows, columns[1:])
    valleys = made["power"]["valleys"]
    other = "unknown" if valleys is None else f"C^{valleys:.2f}"
    print_result(
        f"\nN* grows as C^{made['power']['law']:.2f} by the law, {other} by parabolas at equal FLOPs\n"
    )
    held = [
        (
            name.replace("_", " "), f"{run['n']:.4g}", f"{run['tokens']:.4g}", f"{run['loss']:.4f}",
            f"{run['predicted']:.4f}", "{:.4f} to {:.4f}".format(*run["interval"]),
            "inside" if run["inside"] else "OUTSIDE",
        )
        for name, one in made["held_back"].items()
        for run in one.get("runs", ())
    ]  # fmt: skip
    print_table(
        ("held back", "N", "tokens", "seen", "predicted", "interval", ""), held, ("N", "tokens", "seen")
    )
    print_result("")
    budgets = [
        (
            f"{b['flops']:.3g}", *(_between(b[k]) for k in ("n", "tokens", "loss")),
            *("" if b[k] is None else f"{b[k]:.3g}" for k in ("audio_h", "gpu_h", "cost")),
            f"{b['decades_beyond']:.1f} decades" if b["decades_beyond"] else "no",
        )
        for b in made["budgets"]
    ]  # fmt: skip
    told = ("FLOPs", "N*", "D*", "L*", "audio h", "GPU h", "cost", "beyond the grid")
    print_table(told, budgets, told[:-1])
    for caution in made["cautions"]:
        print_result(printable(f"{caution['severity']}: {caution['words']}"))


def show_prediction(found: Mapping[str, Any]) -> None:
    """Print a predicted run."""
    low, high = found["interval"]
    print_result(
        f"loss {found['loss']:.4f} nats a token, {found['confidence']:.0%} interval of one run {low:.4f} to {high:.4f}"
    )
    for name, words in (("n", "parameters"), ("tokens", "tokens")):
        ends = found.get(f"{name}_interval")
        told = "" if ends is None else f" ({ends[0]:.3g} to {ends[1]:.3g})"
        print_result(f"{found[name]:.4g} {words}{told}")
    audio = "" if found["audio_h"] is None else f", {found['audio_h']:.3g} h of audio"
    cost = "" if found["cost"] is None else f", cost {found['cost']:.3g}"
    print_result(f"{found['flops']:.3g} FLOPs{audio}, {found['gpu_h']:.3g} GPU hours{cost}")
    for words in found["cautions"]:
        print_result(printable(f"warning: {words}"))


def span(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _between(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['value']:.3g} [{low:.3g}, {high:.3g}]"
