"""The curve of an added language: python recipes/add_language/plot_language.py runs/german/m* --out curve.svg

Each folder has training.json (add_language.py), german.json (measure_language.py) and, for the table that is printed,
english.json (recipes/nano/evaluate.py).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

LINES = {
    "held-out sentences, known voices: transcripts exact": "transcripts exact, known voices",
    "held-out voices: transcripts exact": "transcripts exact, new voices",
    "held-out sentences, known voices: answers right": "answers right, known voices",
    "typed questions, facts never trained: answers right": "typed sums never trained",
    "word error of the new voice, by the judge": "new voice: words read back",
}


def read(folder: Path) -> tuple[float, dict[str, tuple[float, float, float]]]:
    """Minutes, and (value, low, high) of the lines; a word error counts as words right."""
    minutes = json.loads((folder / "training.json").read_text())["minutes"]
    rows = {}
    for figure in json.loads((folder / "german.json").read_text()):
        if figure["name"] in LINES:
            value = figure["value"], figure["low"], figure["high"]
            if figure["name"].startswith("word error"):
                value = tuple(max(0.0, 1 - v) for v in (value[0], value[2], value[1]))  # type: ignore[assignment]
            rows[figure["name"]] = value
    return minutes, rows


KEPT = ("hearing: transcripts exact", "hearing: answers right", "digits: all, as the bundle was trained",
        "facts: typed, trained", "facts: typed, arithmetic never trained",
        "speaking: word error, sentences by the voice")  # fmt: skip


def table(folders: list[Path], before: Path | None) -> str:
    """Markdown: a column for each amount of recordings, the old language's figures below, first as they were before."""
    columns = [("before", {}, _old(before))] if before else []
    for folder in folders:
        facts = json.loads((folder / "training.json").read_text())
        rows = {f["name"]: f for f in json.loads((folder / "german.json").read_text())}
        name = f"{facts['minutes']:.0f} min, {facts['steps']} steps"
        columns.append((name, rows, _old(folder / "english.json")))
    lines = ["| figure | " + " | ".join(name for name, *_ in columns) + " |", "|---|" + "---|" * len(columns)]
    for side, names in ((1, list(columns[-1][1])), (2, KEPT)):
        for name in names:
            cells = [_cell(column[side].get(name)) for column in columns]  # type: ignore[union-attr]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _old(path: Path | None) -> dict[str, dict]:
    if path is None or not path.is_file():
        return {}
    return {f"{f['test']}: {f['name']}": f for f in json.loads(path.read_text())["figures"]}


def _cell(figure: dict | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f}), n {figure['n']}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="evaluate.py's figures of the bundle before")
    args = parser.parse_args()
    print(table(args.folders, args.before))
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    points = sorted(read(folder) for folder in args.folders)
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for name, label in LINES.items():
        found = [(minutes, *rows[name]) for minutes, rows in points if name in rows]
        if found:
            x, value, low, high = (list(column) for column in zip(*found, strict=True))
            bars = [
                [v - a for v, a in zip(value, low, strict=True)],
                [b - v for v, b in zip(value, high, strict=True)],
            ]
            axes.errorbar(x, value, yerr=bars, marker="o", capsize=3, label=label)
    axes.set(xscale="log", xlabel="minutes of recordings", ylabel="share", ylim=(0, 1.02))
    axes.set_xticks([m for m, _ in points], [f"{m:.0f}" for m, _ in points])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
