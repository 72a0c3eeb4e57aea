"""The report of a codec: page and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from vivavoce.base.whole_files import write_whole
from vivavoce.evaluation.report.codec import CodecReport
from vivavoce.evaluation.report.making import to_json
from vivavoce.evaluation.report.page import frame
from vivavoce.evaluation.report.players import Players
from vivavoce.evaluation.report.report import score_record
from vivavoce.evaluation.report.task_section import few
from vivavoce.evaluation.report.wording import settings_words, show_score

MOST_PLAYED = 20


def write_codec_report(report: CodecReport, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html``; gives the page."""
    write_whole(
        folder / "report.json", to_json(codec_record(report) | {"report": str(folder / "report.html")})
    )
    page = frame(f"Codec {report.spec.name}", list(_page(report, Players(folder), folder)))
    write_whole(folder / "report.html", page)
    return folder / "report.html"


def codec_record(report: CodecReport) -> dict[str, Any]:
    """The report as JSON."""
    spec, verdict = report.spec, report.verdict
    return {
        "codec": spec.name,
        "weights": spec.weights,
        "sample_rate": spec.sample_rate,
        "tokens_per_second": spec.tokens_per_second,
        "kbit_per_second": report.kbit_per_second,
        "entropy_kbit_per_second": report.entropy_kbit_per_second,
        "source": report.source,
        "clips": len(report.clips),
        "seconds": report.seconds,
        "scores": {name: score_record(score) for name, score in report.scores.items()},
        "verdict": verdict.words if verdict else None,
        "levels": [vars(level) for level in report.levels],
        "real_time_factor": {"encode": report.encode_rtf, "decode": report.decode_rtf},
        "recogniser": report.recogniser,
        "unscored": report.unscored,
        "environment": {"hardware": report.hardware, "versions": report.versions},
    }


def _page(report: CodecReport, players: Players, folder: Path) -> Iterator[str]:
    spec = report.spec
    yield f"<h1>Codec {escape(spec.name)}</h1>"
    rates = f"{spec.sample_rate} Hz, {spec.num_levels} levels of {spec.codebook_size}"
    yield f'<p class="soft">{escape(rates)}; {escape(report.source)}, {report.seconds:.1f} s</p>'
    if report.verdict is not None:
        kind = "worse" if report.verdict.claim == "worse" else ""
        yield f'<div class="word {kind}">{escape(report.verdict.words)}</div>'
    yield '<h2>Scores</h2><div class="wide"><table><tr><th>metric</th><th>score [95 %]</th><th class="n">n</th></tr>'
    for name, score in report.scores.items():
        shown = f'<td class="v">{show_score(score)}</td><td class="n">{few(score.n) or score.n}</td>'
        yield f"<tr><td>{escape(name)} ({score.better} is better)</td>{shown}</tr>"
    yield "</table></div>"
    for sentence in report.unscored:
        yield f'<p class="few">{escape(sentence)}</p>'
    yield '<details><summary>how these figures are made</summary><ul class="small">'
    for name, score in report.scores.items():
        yield f"<li>{escape(f'{name}: {settings_words(score.settings)}; 95 % interval by {score.interval}')}</li>"
    yield "</ul></details><h2>Rate and speed</h2><dl>"
    facts = {
        "tokens per second": f"{spec.tokens_per_second:.1f}",
        "bit rate": f"{report.kbit_per_second:.2f} kbit/s, {report.entropy_kbit_per_second:.2f} by code frequencies",
        "encoding": f"{report.encode_rtf:.3f} s for a second of audio",
        "decoding": f"{report.decode_rtf:.3f} s for a second of audio",
        "licence": spec.licence or "not stated",
    }
    yield "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()) + "</dl>"
    yield '<h2>Codebooks</h2><div class="wide"><table><tr><th>level</th><th class="n">codewords used</th>'
    yield '<th class="n">entropy, bits</th><th class="n">codes seen</th></tr>'
    for number, level in enumerate(report.levels):
        used = f"{level.used} of {level.size} ({level.used / level.size:.0%})"
        yield f'<tr><td>{number}</td><td class="n">{used}</td><td class="n">{level.entropy_bits:.2f}</td>'
        mark = " (few for this codebook)" if level.codes < 4 * level.size else ""
        yield f'<td class="n">{level.codes}{mark}</td></tr>'
    yield "</table></div><h2>Listen</h2>"
    for name, (original, back) in list(report.clips.items())[:MOST_PLAYED]:
        yield f'<div class="item"><b class="small">{escape(name)}</b>{players.show(folder, original, "original")}'
        yield players.show(folder, back, "reconstruction") + "</div>"
    yield "<h2>Environment</h2><dl>"
    for name, found in {"hardware": report.hardware, "versions": report.versions}.items():
        yield f"<dt>{name}</dt><dd>{escape(', '.join(f'{k} {v}' for k, v in found.items()))}</dd>"
    yield "</dl>"
