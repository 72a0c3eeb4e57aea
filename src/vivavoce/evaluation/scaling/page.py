"""A law on one page that needs nothing else: numbers, cautions, and curves that follow N and D under a slider."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vivavoce.base.whole_files import write_whole
from vivavoce.evaluation.scaling.page_script import SCRIPT
from vivavoce.training.report import STYLE

MORE_STYLE = (  # sliders and tables of any width on a phone
    "body{overflow-wrap:anywhere}svg{display:block}label{display:block}input{width:24em;max-width:100%}"
    ".wide{overflow-x:auto;overflow-wrap:normal}.wide td,.wide th{white-space:nowrap}"
)
MOST_REFITS = 200  # that the page draws its intervals from


def write_page(made: Mapping[str, Any], path: Path, title: str = "A scaling law") -> Path:
    """Write the page of a ``fit.json``."""
    write_whole(path, "\n".join(_page(made, title)))
    return path


def _page(made: Mapping[str, Any], title: str) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    yield f"<meta name=viewport content='width=device-width,initial-scale=1'><style>{STYLE}{MORE_STYLE}</style>"
    yield f"<h1>{html.escape(title)}</h1><p>L(N, D) = E + A / N<sup>a</sup> + B / D<sup>b</sup>, "
    yield f"{len(made['points'])} points, N counted {'without' if made['count'] == 'n' else 'with'} token tables.</p>"
    if made["cautions"]:
        yield "<h2>Before you believe it</h2><ul>"
        yield from (f"<li>{html.escape(c['words'])}" for c in made["cautions"])
        yield "</ul>"
    yield "<h2>Loss by tokens</h2><div id=curves></div>"
    yield "<p><label>N <input type=range id=size min=0 max=1000 value=500></label> "
    yield "<label>D <input type=range id=tokens min=0 max=1000 value=500></label></p>"
    yield "<p id=told></p>"
    if made["valleys"]["valleys"]:
        yield "<h2>At equal FLOPs</h2><div id=valleys></div>"
    yield "<h2>The law</h2>" + "".join(_law_table(made))
    yield "<h2>The largest runs, predicted by a law of the others</h2>" + "".join(_held_table(made))
    yield "<h2>Budgets</h2>" + "".join(_budget_table(made))
    data = dict(made) | {"refits": {k: v[:MOST_REFITS] for k, v in made["refits"].items()}}
    text = json.dumps(data).replace("<", "\\u003c")
    yield f"<script>const made={text};\n{SCRIPT}</script></html>"


def _law_table(made: Mapping[str, Any]) -> Iterator[str]:
    share = f"{made['method']['confidence']:.0%}"
    yield f"<div class=wide><table><tr><th>loss<th>E ({share})<th>A<th>B<th>a<th>b<th>runs scatter by"
    laws = {"total": {"law": made["law"], "noise": made["noise"]}, **made["parts"]}
    for name, part in laws.items():
        yield f"<tr><td>{html.escape(name)}"
        for key in ("E", "A", "B", "a", "b"):
            value = part["law"][key]
            low, high = value["interval"]
            yield f"<td>{value['value']:.4g} [{low:.3g}, {high:.3g}]"
        yield f"<td>{part['noise']:.2%}"
    yield "</table></div>"


def _held_table(made: Mapping[str, Any]) -> Iterator[str]:
    yield "<div class=wide><table><tr><th>held back<th>N<th>D<th>seen<th>predicted<th>interval<th>"
    for name, held in made["held_back"].items():
        if "error" in held and "runs" not in held:
            yield f"<tr><td>{html.escape(name)}<td colspan=6>{html.escape(held['error'])}"
        for run in held.get("runs", ()):
            low, high = run["interval"]
            yield f"<tr><td>{html.escape(name.replace('_', ' '))}<td>{run['n']:.4g}<td>{run['tokens']:.4g}"
            yield f"<td>{run['loss']:.4f}<td>{run['predicted']:.4f}<td>{low:.4f} to {high:.4f}"
            yield f"<td>{'inside' if run['inside'] else 'outside'}"
    yield "</table></div>"


def _budget_table(made: Mapping[str, Any]) -> Iterator[str]:
    yield "<div class=wide><table><tr><th>FLOPs<th>N*<th>D*<th>L*<th>audio, h<th>GPU hours<th>cost<th>beyond the grid"
    for one in made["budgets"]:
        yield f"<tr><td>{one['flops']:.3g}"
        for name in ("n", "tokens", "loss"):
            low, high = one[name]["interval"]
            yield f"<td>{one[name]['value']:.4g} [{low:.3g}, {high:.3g}]"
        for name in ("audio_h", "gpu_h", "cost"):
            yield "<td>" + ("" if one[name] is None else f"{one[name]:.3g}")
        yield f"<td>{one['decades_beyond']:.1f} decades" if one["decades_beyond"] > 0 else "<td>no"
    yield "</table></div>"
