"""A run on one page: what was trained, its curves, its figures and what the model said; nothing from elsewhere.

``loss.png`` beside it where matplotlib is installed.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vivavoce.base.whole_files import write_whole
from vivavoce.training.metrics_log import read_metrics

WIDTH, HEIGHT, MARGIN = 540, 220, 62
COLOURS = (
    "#2563eb",
    "#dc2626",
    "#059669",
    "#d97706",
    "#7c3aed",
    "#0891b2",
    "#be185d",
    "#4b5563",
    "#65a30d",
    "#9333ea",
)
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:76em;margin:2em auto;padding:0 1em;color:#111;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}figcaption{font-weight:600}"
    "figure{display:inline-block;margin:0 1em 1em 0;max-width:100%}svg{max-width:100%;height:auto}"
    "td,th{text-align:left;padding:.15em 1.2em .15em 0;vertical-align:top}"
    "pre{background:#f4f4f5;padding:1em;overflow:auto;font-size:13px}.key{color:#555;font-size:13px}"
    "@media(prefers-color-scheme:dark){body{background:#18181b;color:#e4e4e7}pre{background:#27272a}.key{color:#aaa}}"
)
CHARTS = (
    ("Loss", ("loss", "held_out/loss")),
    ("Loss by what is predicted", ("loss/text", "loss/audio", "loss/kl", "loss/ce")),
    ("Loss by slot of the codec", tuple(f"loss/slot_{i}" for i in range(16))),
    ("Learning rate", ("lr",)),
    ("Norm of the gradient", ("grad_norm",)),
    ("Tokens per second", ("tokens_per_s",)),
)


def write_report(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]] = (),
    rows: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` and ``loss.png`` of a run.

    Args:
        folder: With ``metrics.jsonl`` and ``config.json``.
        title: Of the page.
        facts: Name -> value, for the table.
        samples: ``{"asked", "wanted", "said", "audio"}`` of the last sampling; audio is a path in the folder or None.
        rows: What became of the rows, in sentences.

    Returns:
        The page.
    """
    lines = read_metrics(folder)
    config = folder / "config.json"
    record = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    page = "\n".join(_page(title, facts, lines, record, samples, rows, folder))
    path = folder / "report.html"
    write_whole(path, page)
    _loss_png(folder, lines)
    return path


def _page(
    title: str,
    facts: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    record: Any,
    samples: Sequence[Mapping[str, Any]],
    rows: Sequence[str],
    folder: Path,
) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    yield f"<meta name=viewport content='width=device-width,initial-scale=1'><style>{STYLE}</style>"
    yield f"<h1>{html.escape(title)}</h1><table>"
    for name, value in facts.items():
        yield f"<tr><th>{html.escape(str(name))}<td>{html.escape(str(value))}"
    yield "</table><h2>Curves</h2>"
    for name, keys in CHARTS:
        series = {key: points for key in keys if len(points := _points(lines, key)) > 1}
        if series:
            yield f"<figure><figcaption>{name}</figcaption>{chart(series)}</figure>"
    if samples:
        yield "<h2>What the model said</h2><table><tr><th>asked<th>wanted<th>said<th>"
        for sample in samples:
            cells = "".join(
                f"<td>{html.escape(str(sample.get(k) or ''))}" for k in ("asked", "wanted", "said")
            )
            yield f"<tr>{cells}<td>{_player(folder, sample.get('audio'))}"
        yield "</table>"
    if rows:
        yield "<h2>Rows</h2><ul>" + "".join(f"<li>{html.escape(row)}" for row in rows) + "</ul>"
    yield f"<h2>Settings</h2><pre>{html.escape(json.dumps(record, indent=2, ensure_ascii=False))}</pre></html>"


def _points(lines: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Step and number of each line that has one; what was not finite is left out."""
    found = [(line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)]
    return [(x, y) for x, y in found if math.isfinite(y)]


def chart(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines as SVG.

    Args:
        series: Name -> (x, y), two points or more.
    """
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low, high = min(ys), max(ys)
    high = high if high > low else low + 1.0
    left, right = min(xs), max(max(xs), min(xs) + 1)

    def at(x: float, y: float) -> str:
        across = MARGIN + (x - left) / (right - left) * (WIDTH - MARGIN - 8)
        return f"{across:.1f},{8 + (high - y) / (high - low) * (HEIGHT - 36):.1f}"

    made = [f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} role=img>"]
    for i in range(5):
        y = low + (high - low) * i / 4
        _, down = at(left, y).split(",")
        made.append(f"<line x1={MARGIN} x2={WIDTH - 8} y1={down} y2={down} stroke='#8884' />")
        made.append(
            f"<text x={MARGIN - 4} y={down} font-size=11 text-anchor=end fill=currentColor>{_short(y)}</text>"
        )
    for x, anchor in ((left, "start"), (right, "end")):
        across, _ = at(x, low).split(",")
        made.append(
            f"<text x={across} y={HEIGHT - 12} font-size=11 text-anchor={anchor} fill=currentColor>{x:,.0f}</text>"
        )
    for colour, points in zip(COLOURS * 2, series.values(), strict=False):
        path = " ".join(at(x, y) for x, y in points)
        made.append(f"<polyline fill=none stroke='{colour}' stroke-width=1.5 points='{path}' />")
    made.append("</svg>")
    names = " ".join(
        f"<span style='color:{colour}'>&#9632;</span> {html.escape(name)} {points[-1][1]:.4g}"
        for colour, (name, points) in zip(COLOURS * 2, series.items(), strict=False)
    )
    return "".join(made) + f"<div class=key>{names}</div>"


def _short(value: float) -> str:
    """A number for an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _player(folder: Path, audio: Any) -> str:
    if not audio:
        return ""
    data = base64.b64encode((folder / str(audio)).read_bytes()).decode()
    return f"<audio controls src='data:audio/wav;base64,{data}'></audio>"


def _loss_png(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    for key in ("loss", "loss/text", "loss/audio", "held_out/loss"):
        points = _points(lines, key)
        if points:
            axes.plot(*zip(*points, strict=True), label=key, linewidth=1.2)
    axes.set_xlabel("update")
    axes.set_ylabel("nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / "loss.png")
    pyplot.close(figure)
