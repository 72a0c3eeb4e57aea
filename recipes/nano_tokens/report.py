"""Gather finished runs into one small file, draw it, and print the tables of docs/two-kinds-of-ears.md.

python recipes/nano_tokens/report.py --runs runs/nano_tokens --json recipes/nano_tokens/results.json --out docs/images
python recipes/nano_tokens/report.py --json recipes/nano_tokens/results.json --out docs/images

Needs matplotlib (pip install -e .[plots]).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {
    "mel": "#1f77b4", "flat": "#d62728", "coarse_mid": "#ff7f0e", "coarse": "#9467bd", "summed": "#2ca02c",
}  # fmt: skip
SETS = {"known": "known voices", "voices": "held-out voices", "people": "real digits (never trained)"}
TICKS = {"heard_h": [0.1, 0.2, 0.5, 1, 2], "positions": [20_000, 50_000, 100_000, 200_000]}
AXES = {"cpu_s": "CPU-seconds", "heard_h": "hours of speech heard", "positions": "language-model positions"}


def gather(folder: Path) -> list[dict[str, Any]]:
    """The points of every run below ``folder``, finished or not, in order of name."""
    import torch

    runs = []
    for state in sorted(folder.glob("*/state.pt")):
        stored = torch.load(state, weights_only=True, mmap=True)
        points = json.loads(stored["points"])
        if points:
            record = {"run": state.parent.name, "ear": stored["ear"], **json.loads(stored["facts"])}
            runs.append({**record, "points": points})
    return runs


def show(share: Sequence[float]) -> str:
    """A share with its interval, in percent."""
    value, low, high = (100 * x for x in share)
    return f"{value:.0f} ({low:.0f} to {high:.0f})"


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The last point of every run as a Markdown table."""
    rows = [
        "| ear | speech | CPU-s | steps | heard, h | positions | transcripts, known voices | held-out voices | "
        "real digits | answers, known voices |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        p = run["points"][-1]
        heard = [show(p[name]["transcript"]) for name in SETS]
        rows.append(
            f"| {run['run']} | {run['distinct_h']:.2f} h | {p['cpu_s']:.0f} | {p['step']} | {p['heard_h']:.1f} | "
            f"{p['positions'] / 1e3:.0f}k | {' | '.join(heard)} | {show(p['known']['answer'])} |"
        )
    return "\n".join(rows)


def draw(runs: Sequence[Mapping[str, Any]], panels: Sequence[tuple[str, str]], title: str, out: Path) -> None:
    """Share of exact transcripts with intervals; each panel is (axis, set)."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ears", "font.size": 9})
    figure, axes = plt.subplots(1, len(panels), figsize=(max(8.4, 4 * len(panels)), 3.8), sharey=True)
    for axis, (x, name) in zip(axes, panels, strict=True):
        for run in runs:
            shares = [p[name]["transcript"] for p in run["points"]]
            at, value = [p[x] for p in run["points"]], [100 * s[0] for s in shares]
            bars = [[100 * (s[0] - s[1]) for s in shares], [100 * (s[2] - s[0]) for s in shares]]
            colour = COLOURS[run["ear"].removesuffix("_ctc")]
            style = "-" if run["ear"].endswith("_ctc") else "--"
            label = run["ear"].replace("_ctc", " + CTC").replace("coarse_mid", "coarse, mid")
            axis.errorbar(
                at, value, yerr=bars, color=colour, ls=style, marker="o", ms=3, lw=1.2, elinewidth=0.6,
                label=label,
            )  # fmt: skip
        axis.set_xlabel(AXES[x])
        axis.set_title(SETS[name], fontsize=9)
        axis.grid(alpha=0.3)
        axis.set_ylim(-2, 102)
        if x != "cpu_s":
            axis.set_xscale("log")
            ticks = TICKS[x]
            axis.set_xticks(ticks, [f"{t:,g}" if t < 1000 else f"{t // 1000:g}k" for t in ticks])
            axis.minorticks_off()
    axes[0].set_ylabel("transcripts exact, %")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="lower center", ncol=-(-len(runs) // 2))
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, help="folder of runs; without it the file is taken as it is")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.runs:
        args.json.write_text(json.dumps(gather(args.runs), indent=None, separators=(",", ":")) + "\n")
    runs = json.loads(args.json.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    whole = [run for run in runs if run["run"] == run["ear"]]
    draw(whole, [("cpu_s", name) for name in SETS], "Equal CPU time", args.out / "two-kinds-of-ears-time.svg")
    panels = [("heard_h", "known"), ("positions", "known")]
    draw(whole, panels, "Equal speech, equal tokens", args.out / "two-kinds-of-ears-data.svg")
    print(table(runs))


if __name__ == "__main__":
    main()
