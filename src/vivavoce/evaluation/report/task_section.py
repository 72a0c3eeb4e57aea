"""One task on the page: its scores beside their baselines, parts, noise, and what went worst."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from vivavoce.evaluation.report.drawing import draw_intervals, draw_sweep
from vivavoce.evaluation.report.parts import Slice
from vivavoce.evaluation.report.players import Players
from vivavoce.evaluation.report.report import ModelReport, TaskReport
from vivavoce.evaluation.report.style import COLOURS, OTHER_COLOUR
from vivavoce.evaluation.report.wording import (
    SMALL_N,
    SYSTEM_WORDS,
    number,
    settings_words,
    show_score,
)
from vivavoce.evaluation.report.worst import Poor

MOST_GROUPS = 24
SHOWN_AT_ONCE = 4
TAGS = {"same": ("", ""), "missing": ("<del>", "</del>"), "added": ("<ins>", "</ins>")}


def few(n: int) -> str:
    """A mark for figures that rest on few items."""
    return f'<span class="few">few: n {n}</span>' if n < SMALL_N else ""


def task_section(task: TaskReport, model: ModelReport, players: Players, anchor: str) -> Iterator[str]:
    """Write the section of a task."""
    record = task.scores.answers.record
    stamp = ' <span class="stamp">BROKEN MODEL</span>' if model.broken else ""
    yield f'<h2 id="{escape(anchor + task.name)}">{escape(task.name)}{stamp}</h2>'
    about = [record.kind, record.source, f"asked with: {record.prompt}" if record.prompt else ""]
    yield f'<p class="soft">{escape("; ".join(part for part in about if part))}</p>'
    if record.twin:
        yield '<p class="few">A synthetic stand-in: these figures are not those of the published data.</p>'
    for verdict in task.verdicts:
        kind = verdict.claim if verdict.about in ("cascade", "original", "retention") else ""
        yield f'<div class="word {kind}">{escape(verdict.words[:1].upper() + verdict.words[1:])}</div>'
    yield from _scores(task, model)
    if task.sweep is not None:
        yield f"<h3>Over noise: {escape(task.scores.metric)}</h3>"
        yield draw_sweep(task.sweep) + _key(list(task.sweep.scores))
        for level in task.noisy:
            snr = level.scores.answers.questions[0].snr_db
            for verdict in level.verdicts[:1]:
                yield f'<div class="word {verdict.claim}"><b>{snr:g} dB</b>{escape(verdict.words)}</div>'
    yield from _slices(task.slices, task.scores.metric)
    if task.worst:
        yield f"<h3>Worst {len(task.worst)} of {len(task.scores.answers.questions)} items</h3>"
        yield '<p class="soft small"><del>wanted, not given</del> <ins>given, not wanted</ins></p>'
        shown = 0 if task.typed else SHOWN_AT_ONCE
        for poor in task.worst[:shown]:
            yield from _poor(poor, task, model, players)
        if task.worst[shown:]:
            yield f"<details><summary>{'the other ' * bool(shown)}{len(task.worst) - shown}</summary>"
            for poor in task.worst[shown:]:
                yield from _poor(poor, task, model, players)
            yield "</details>"


def _scores(task: TaskReport, model: ModelReport) -> Iterator[str]:
    metrics = list(dict.fromkeys(m for scores in task.scores.scores.values() for m in scores))
    better = {m: s[m].better for s in task.scores.scores.values() for m in s}
    heads = "".join(f"<th>{escape(m)} ({better[m]} is better)</th>" for m in metrics)
    yield f'<div class="wide"><table><tr><th>system</th>{heads}<th class="n">n</th></tr>'
    for system, scores in task.scores.scores.items():
        own = ' class="own"' if system == task.scores.answers.subject else ""
        words = model.run.systems.get(system) or SYSTEM_WORDS.get(system, "")
        cells = "".join(
            f'<td class="v">{show_score(scores[m]) if m in scores else "not scored"}</td>' for m in metrics
        )
        n = max((score.n for score in scores.values()), default=0)
        colour = COLOURS.get(system, OTHER_COLOUR)
        yield (
            f'<tr{own}><td><span class="dot" style="background:{colour}"></span>{escape(system)}'
            f'<div class="soft small" style="font-weight:400">{escape(words)}</div></td>{cells}'
            f'<td class="n">{n} {few(n).replace(f": n {n}", "")}</td></tr>'
        )
    yield "</table></div>"
    deciding = {s: score for s in task.scores.scores if (score := task.scores.deciding(s)) is not None}
    yield draw_intervals(deciding)
    for sentence in task.scores.unscored:
        yield f'<p class="few">{escape(sentence)}</p>'
    rows: dict[str, list[str]] = {}
    for system, scores in task.scores.scores.items():
        for metric, score in scores.items():
            said = f"{metric}: {settings_words(score.settings)}; 95 % interval by {score.interval}"
            counted = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in score.counts.items())
            rows.setdefault(said, []).append(f"{system}: {counted}" if counted else "")
    yield '<details><summary>how these figures are made</summary><ul class="small">'
    for said, counts in rows.items():
        listed = "; ".join(c for c in counts if c)
        yield f"<li>{escape(said)}{f'<br/>{escape(listed)}' if listed else ''}</li>"
    yield "</ul></details>"


def _key(systems: list[str]) -> str:
    parts = "".join(
        f'<span><span class="dot" style="background:{COLOURS.get(s, OTHER_COLOUR)}"></span>{escape(s)}</span>'
        for s in systems
    )
    return f'<div class="key small">{parts}</div>'


def _slices(slices: list[Slice], metric: str) -> Iterator[str]:
    if not slices:
        return
    yield f"<h3>Parts: {escape(metric)}</h3>"
    for by, group in groupby(slices, key=lambda part: part.by):
        parts = list(group)
        systems = list(dict.fromkeys(s for part in parts for s in part.scores))
        heads = "".join(f'<th>{escape(s)}</th><th class="n">n</th>' for s in systems)
        yield f'<div class="wide"><table><tr><th>{escape(by)}</th>{heads}</tr>'
        for part in parts[:MOST_GROUPS]:
            cells = ""
            for system in systems:
                score = part.scores.get(system)
                if score is None:
                    cells += "<td></td><td></td>"
                    continue
                mark = '<br/><span class="few">few</span>' if score.n < SMALL_N else ""
                cells += f'<td class="v">{show_score(score)}</td><td class="n">{score.n}{mark}</td>'
            yield f"<tr><td>{escape(part.name)}</td>{cells}</tr>"
        yield "</table></div>"
        if len(parts) > MOST_GROUPS:
            yield f'<p class="soft small">{len(parts) - MOST_GROUPS} more stand in report.json.</p>'


def _poor(poor: Poor, task: TaskReport, model: ModelReport, players: Players) -> Iterator[str]:
    question, outcome = poor.question, poor.outcome
    unit = "share" if poor.value <= 1 or task.scores.metric in ("wer", "cer") else ""
    facts = [
        question.language,
        question.speaker,
        f"{question.duration_s:.1f} s" if question.duration_s else None,
    ]
    facts += [f"SNR {question.snr_db:g} dB" if question.snr_db is not None else None]
    facts += [f"{k} {v}" for k, v in question.slices.items()]
    said = ", ".join(
        [f"{task.scores.metric} {number(poor.value, unit)}{' %' if unit else ''}", *filter(None, facts)]
    )
    yield f'<div class="item"><div class="soft small"><b>{escape(question.id)}</b> {escape(said)}</div>'
    yield players.show(model.folder, question.audio, "asked")
    if question.question and question.question not in question.references:
        yield f"<div>asked: {escape(question.question)}</div>"
    if outcome.hypothesis is None:
        why = outcome.error or ("it said that it did not understand" if not outcome.understood else "")
        yield f'<div class="few">no answer{escape(f": {why}" if why else "")}</div>'
    pieces = " ".join(f"{TAGS[kind][0]}{escape(text)}{TAGS[kind][1]}" for kind, text in poor.diff if text)
    yield f'<div class="diff">{pieces}</div>'
    if outcome.transcript:
        yield f'<div class="small">it heard: {escape(outcome.transcript)}</div>'
    for system, answer in poor.others.items():
        words = "no answer" if answer is None else answer
        yield f'<div class="small soft">{escape(system)}: {escape(words)}</div>'
    yield players.show(model.folder, outcome.audio, "answered") + "</div>"
