"""A report as one HTML page that needs nothing else: no scripts, no addresses, everything from a run escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from vivavoce.evaluation.report.card import model_card
from vivavoce.evaluation.report.latency import TIMES, Times
from vivavoce.evaluation.report.players import Players
from vivavoce.evaluation.report.report import ModelReport, Report
from vivavoce.evaluation.report.style import POLICY, STYLE
from vivavoce.evaluation.report.task_section import few, task_section
from vivavoce.evaluation.report.wording import seconds, show_score
from vivavoce.evaluation.results import Finding


def report_page(report: Report, players: Players | None = None) -> str:
    """Write the page of a report.

    Args:
        report: Of one model, or several.
        players: For its recordings.
    """
    players = players or Players(report.folder)
    names = ", ".join(model.run.model for model in report.models)
    broken = [model for model in report.models if model.broken]
    title = f"{'BROKEN: ' if broken else ''}Evaluation of {names}"
    body = [f"<h1>Evaluation of {escape(names)}</h1>"]
    if len(report.models) > 1:
        body += _side_by_side(report)
    for model in report.models:
        body += _model(model, players, several=len(report.models) > 1)
    return frame(title, body)


def frame(title: str, body: list[str]) -> str:
    """A whole page around its body."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _model(model: ModelReport, players: Players, several: bool) -> Iterator[str]:
    anchor = f"{model.folder.name}-" if several else ""
    if several:
        stamp = ' <span class="stamp">BROKEN</span>' if model.broken else ""
        yield f'<h1 id="{escape(anchor)}top">{escape(model.run.model)}{stamp}</h1>'
    yield from findings_banner(model.findings)
    facts = [model.run.date[:16].replace("T", " "), f"seed {model.run.seed}"]
    facts += [
        f"{k} {v}" for k, v in model.run.model_facts.items() if k in ("parameters", "weights", "licence")
    ]
    yield f'<p class="soft">{escape(", ".join(f for f in facts if f))}</p>'
    spoken, typed = [t for t in model.tasks if not t.typed], [t for t in model.tasks if t.typed]
    yield '<nav class="small">' + "".join(
        f'<a href="#{escape(anchor + t.name)}">{escape(t.name)}</a>' for t in model.tasks
    )
    yield (
        "".join(f'<a href="#{escape(anchor)}{to}">{to}</a>' for to in ("latency", "environment", "card"))
        + "</nav>"
    )
    yield "<h2>In words</h2>"
    for task in spoken:
        for verdict in task.verdicts[:1]:
            yield _word(task.name, verdict.claim, verdict.words, bool(model.broken))
    for task in typed:
        for verdict in task.verdicts:
            yield _word(f"text kept? {task.name}", verdict.claim, verdict.words, bool(model.broken))
    if not typed:
        yield _word(
            "text kept?", "missing", "no typed task was run, so nothing is known of the model's text."
        )
    for task in model.tasks:
        yield from task_section(task, model, players, anchor)
    yield from _latency(model, anchor)
    yield from _environment(model, anchor)
    yield f'<h2 id="{escape(anchor)}card">Model card</h2><p class="soft">To paste into the card of the model.</p>'
    yield f"<pre>{escape(model_card(model))}</pre>"


def findings_banner(findings: list[Finding]) -> Iterator[str]:
    """What the diagnosis found: broken in red above all else, warnings, and what was fine folded away."""
    broken = [f for f in findings if f.severity == "broken"]
    warnings = [f for f in findings if f.severity == "warning"]
    fine = [f for f in findings if f.severity == "ok"]
    if broken:
        yield '<div class="broken" role="alert"><h2>This model is broken</h2>'
        yield "<p>Its scores below say nothing until this is put right:</p><ul>"
        yield "".join(f"<li><b>{escape(_named(f))}</b>: {escape(f.words)}{_numbers(f)}</li>" for f in broken)
        yield "</ul></div>"
    for finding in warnings:
        said = f"{escape(finding.words)}{_numbers(finding)}"
        yield f'<div class="word warning"><b>{escape(_named(finding))}</b>{said}</div>'
    if fine:
        rows = "".join(f"<li><b>{escape(_named(f))}</b>: {escape(f.words)}{_numbers(f)}</li>" for f in fine)
        many = "1 check" if len(fine) == 1 else f"{len(fine)} checks"
        yield f"<details><summary>{many} found nothing wrong</summary><ul>{rows}</ul></details>"
    if not findings:
        yield '<p class="soft">No diagnosis was made of this run.</p>'


def _named(finding: Finding) -> str:
    return finding.name.replace("_", " ")


def _numbers(finding: Finding) -> str:
    said = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in finding.numbers.items())
    return f' <span class="small">({escape(said)})</span>' if said else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items())
    return str(value)


def _word(name: str, claim: str, words: str, broken: bool = False) -> str:
    stamp = '<span class="stamp">BROKEN MODEL</span> ' if broken else ""
    return f'<div class="word {claim}">{stamp}<b>{escape(name)}</b>{escape(words)}</div>'


def _side_by_side(report: Report) -> Iterator[str]:
    """The deciding score of every task and model in one table."""
    tasks = list(dict.fromkeys(task.name for model in report.models for task in model.tasks))
    stamps = {m.folder: ' <span class="stamp">BROKEN</span>' if m.broken else "" for m in report.models}
    head = "".join(
        f'<th><a href="#{escape(m.folder.name)}-top">{escape(m.run.model)}</a>{stamps[m.folder]}</th>'
        for m in report.models
    )
    yield f'<h2>Side by side</h2><div class="wide"><table><tr><th>task</th><th>metric</th>{head}</tr>'
    for name in tasks:
        cells, metric = "", ""
        for model in report.models:
            task = next((t for t in model.tasks if t.name == name), None)
            score = task.scores.deciding(task.scores.answers.subject) if task else None
            cascade = task.scores.deciding("cascade") if task else None
            cell = "not run" if score is None else f"{show_score(score)} {few(score.n)}"
            if cascade is not None:
                cell += f'<br/><span class="soft small">cascade {show_score(cascade)}</span>'
            metric = task.scores.metric if task else metric
            cells += f'<td class="v">{cell}</td>'
        yield f"<tr><td>{escape(name)}</td><td>{escape(metric)}</td>{cells}</tr>"
    yield "</table></div>"
    yield '<p class="soft small">Whether two models differ: vivavoce eval compare, on the same questions.</p>'


def _latency(model: ModelReport, anchor: str) -> Iterator[str]:
    yield f'<h2 id="{escape(anchor)}latency">Latency</h2>'
    rows = [
        (task.name, system, words, key, times[key])
        for task in model.tasks
        for system, times in task.latency.items()
        for key, words in TIMES
        if key in times
    ]
    if not rows:
        yield '<p class="soft">No times were taken.</p>'
        return
    yield '<div class="wide"><table><tr><th>task</th><th>system</th><th>until</th><th class="n">p50 [95 %]</th>'
    yield '<th class="n">p95 [95 %]</th><th class="n">largest</th><th class="n">n</th></tr>'
    for task, system, words, key, times in rows:
        cells = "".join(f'<td class="n">{escape(cell)}</td>' for cell in time_cells(key, times))
        yield f"<tr><td>{escape(task)}</td><td>{escape(system)}</td><td>{words}</td>{cells}</tr>"
    yield "</table></div>"
    yield '<p class="soft small">From the end of the question; how many were asked at a time is in the settings.</p>'


def time_cells(key: str, times: Times) -> list[str]:
    """p50, p95, largest and n of a kind of times, as shown."""

    def shown(value: float) -> str:
        return f"{value:.2f}" if key == "rtf" else seconds(value)

    quantiles = [f"{shown(q.value)} [{shown(q.low)}, {shown(q.high)}]" for q in (times.p50, times.p95)]
    return [*quantiles, shown(times.largest), str(times.n)]


def _environment(model: ModelReport, anchor: str) -> Iterator[str]:
    run = model.run
    groups = {
        "hardware": run.hardware,
        "versions": run.versions,
        "model": run.model_facts,
        "settings": run.settings,
    }
    yield f'<h2 id="{escape(anchor)}environment">Environment</h2><dl>'
    yield f"<dt>date</dt><dd>{escape(run.date or 'not recorded')}</dd><dt>seed</dt><dd>{run.seed}</dd>"
    for system, words in run.systems.items():
        yield f"<dt>{escape(system)}</dt><dd>{escape(words)}</dd>"
    for name, facts in groups.items():
        said = ", ".join(f"{k} {_short(v)}" for k, v in facts.items())
        yield f"<dt>{name}</dt><dd>{escape(said or 'not recorded')}</dd>"
    yield "</dl>"
