"""Keep what a run logged as `curve.json`, draw it, or hold another run against it.

python recipes/codec_snac_small/curve.py runs/codec_snac_small                # writes curve.json and curve.png
python recipes/codec_snac_small/curve.py runs/another --check                 # says what is too far from curve.json

Write it anew only when a change of the numbers is meant, and say in the commit why they change.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vivavoce.training.metrics_log import read_metrics

FOLDER = Path(__file__).parent
CURVE = FOLDER / "curve.json"
KEPT = ("loss", "mel", "codebook", "held_out/mel", "seconds")
USE = ("used/level_", "entropy_bits/level_")
DRIFT = 0.03  # relative, of the mean of a loss over a line of metrics
LATER = 0.25  # after the first hundred updates with codes: rounding alone grows there
EARLY = 100
BITS = 0.5  # of a level's entropy


def curve(run: Path) -> dict[str, dict[str, float]]:
    """What is kept of a run's metrics, by update."""
    return {
        str(line["step"]): {k: round(v, 4) for k, v in line.items() if k in KEPT or k.startswith(USE)}
        for line in read_metrics(run)
    }


def drifts(found: Mapping[str, Mapping[str, float]], stored: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What of a run is too far from the stored one, in words; updates that only one of them has do not count."""
    first = min(
        (int(step) for step, line in stored.items() if f"{USE[1]}0" in line and line[f"{USE[1]}0"]), default=0
    )
    told = []
    for step in sorted(found.keys() & stored.keys(), key=int):
        ours, theirs = found[step], stored[step]
        most = DRIFT if int(step) < first + EARLY else LATER
        if abs(ours["mel"] - theirs["mel"]) > most * theirs["mel"]:
            told.append(f"update {step}: mel {ours['mel']:.3f}, stored {theirs['mel']:.3f}")
        for name in sorted(theirs):
            if name.startswith(USE[1]) and abs(ours[name] - theirs[name]) > BITS * (
                1 if most == DRIFT else 2
            ):
                told.append(f"update {step}: {name} {ours[name]:.2f}, stored {theirs[name]:.2f}")
    return told


def draw(
    stored: Mapping[str, Mapping[str, float]], file: Path, notes: Sequence[tuple[int, str]] = ()
) -> None:
    """Draw losses and the entropy of codes, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = sorted(map(int, stored))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(steps, [stored[str(s)]["mel"] for s in steps], label="crops")
    held = [s for s in steps if "held_out/mel" in stored[str(s)]]
    left.plot(held, [stored[str(s)]["held_out/mel"] for s in held], "o", label="held-out voice")
    left.set(xlabel="update", ylabel="mel distance, sum of 7 resolutions")
    levels = sorted({name for s in steps for name in stored[str(s)] if name.startswith(USE[1])})
    for number, name in enumerate(levels):
        right.plot(steps, [stored[str(s)].get(name, 0.0) for s in steps], label=f"level {number}")
    right.set(xlabel="update", ylabel="entropy of codes, bits")
    for at, text in notes:
        for axes in (left, right):
            axes.axvline(at, color="0.7", linewidth=0.8)
        right.annotate(text, (at, 0.2), fontsize=8, color="0.4")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=90)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    found = curve(args.run)
    if args.check:
        told = drifts(found, json.loads(CURVE.read_text(encoding="utf-8"))["updates"])
        print("\n".join(told) or f"{len(found)} lines of metrics are as stored")
        sys.exit(bool(told))
    record: dict[str, Any] = {"torch": torch.__version__.partition("+")[0]}
    lines = ",\n".join(f"{json.dumps(step)}: {json.dumps(line)}" for step, line in found.items())
    text = json.dumps(record)[:-1] + f', "updates": {{\n{lines}\n}}}}\n'
    CURVE.write_text(text, encoding="utf-8")
    recipe = json.loads((args.run / "config.json").read_text(encoding="utf-8"))["recipe"]
    notes = [(recipe["codebooks"]["from_step"], "codes")]
    if recipe["discriminators"] is not None:
        notes.append((recipe["discriminators"]["from_step"], "discriminators"))
    draw(found, FOLDER / "curve.png", notes)
    print(f"{len(found)} lines in {CURVE}")


if __name__ == "__main__":
    main()
