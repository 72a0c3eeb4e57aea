"""Previews of rows as one HTML page that needs nothing else: no network, no scripts, recordings inside.

All text of a row is escaped, and the page's own policy forbids scripts and addresses whatever a row says.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape

from vivavoce.data.check.findings import Finding
from vivavoce.data.check.kinds import KINDS
from vivavoce.data.check.report import Report
from vivavoce.data.conversation import Audio, Text
from vivavoce.training.preview import ClipView, Piece, Preview, look_of

MOST_CLIP_BYTES, MOST_PAGE_BYTES = 1_000_000, 20_000_000
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src data:"
_WIDTH, _HEIGHT = 480, 56
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1b1f24; --soft: #5c6670; --line: #d5dbe1; --box: #f5f7f9;
  --learned: #d4f0d8; --learned-ink: #0b5a1e; --audio: #d9e8fb; --audio-ink: #0b4a8f; --both: #d0eeee;
  --both-ink: #0a5454;
  --error: #b3261e; --warning: #8a5a00; --info: #48607a; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --ink: #e4e8ec; --soft: #9aa4ae; --line: #343b42;
  --box: #1c2125; --learned: #123d1d; --learned-ink: #9be3ab; --audio: #12305a; --audio-ink: #a9cdf9; --both: #0c4444;
  --both-ink: #a3e6e6; --error: #ff8a80; --warning: #f0c060; --info: #9db8d4; } }
body { background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 62rem;
  margin: 0 auto; padding: 1rem 1.2rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .6rem 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: .95rem; margin: 1.1rem 0 .3rem; color: var(--soft); font-weight: 600; }
p { margin: .3rem 0; } .soft { color: var(--soft); } ul { margin: .3rem 0; padding-left: 1.3rem; }
.box, .tokens { background: var(--box); border: 1px solid var(--line); border-radius: 6px; padding: .55rem .7rem;
  margin: .4rem 0; }
.tokens { font: 13.5px/1.95 ui-monospace, monospace; white-space: pre-wrap; }
.t { border-right: 1px solid var(--line); padding: .1rem 0; } .special { font-style: italic; color: var(--soft); }
.learned { background: var(--learned); color: var(--learned-ink); text-decoration: underline; }
.audio { background: var(--audio); color: var(--audio-ink); border-radius: 4px; padding: .1rem .35rem; }
.learned.audio { background: var(--both); color: var(--both-ink); }
.error { color: var(--error); } .warning { color: var(--warning); } .info { color: var(--info); }
.kind { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; margin: .4rem 0; }
dt { color: var(--soft); } dd { margin: 0; } audio { width: 100%; max-width: 480px; height: 34px; display: block; }
svg { display: block; width: 100%; max-width: 480px; height: 56px; } svg path { fill: var(--audio-ink); }
svg line { stroke: var(--soft); stroke-width: .6; } svg text { fill: var(--soft); font-size: 9px; }
.role { font-weight: 600; } details { margin: .2rem 0; } summary { cursor: pointer; color: var(--soft); }
nav a { margin-right: .7rem; color: var(--audio-ink); }
"""


def preview_page(
    previews: Sequence[Preview], title: str, *, model: str | None = None, report: Report | None = None
) -> str:
    """Write a page.

    Args:
        previews: Rows, made with ``sound=True`` if they are to be played. Recordings over a megabyte, and what would
            make the page larger than 20, are left out and said so.
        title: What the rows are of.
        model: Whose reading is shown.
        report: Of the whole set.
    """
    return "".join(_page(previews, title, model, report))


def _page(previews: Sequence[Preview], title: str, model: str | None, report: Report | None) -> Iterator[str]:
    yield f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
    objective = next((p.rendering.objective for p in previews if p.rendering), None)
    if model:
        yield f"<p>As <b>{escape(model)}</b> reads it{f', objective {escape(objective)}' if objective else ''}. "
        yield '<span class="t learned">learned</span> <span class="t">only read</span> '
        yield '<span class="audio">audio, only heard</span> <span class="learned audio">audio that is learned</span> '
        yield '<span class="special">special token</span></p>\n'
    if report is not None:
        yield from _report(report)
    if len(previews) > 1:
        links = (f'<a href="#row-{p.number}">{escape(p.row.id)}</a>' for p in previews)
        yield f"<nav>{' '.join(links)}</nav>\n"
    room = MOST_PAGE_BYTES
    for preview in previews:
        yield f'<section id="row-{preview.number}">\n'
        for clip in preview.clips:
            room -= len(clip.flac) if len(clip.flac) <= MOST_CLIP_BYTES else 0
        yield from _row(preview, room >= 0)
        yield "</section>\n"
    yield "</body>\n</html>\n"


def _report(report: Report) -> Iterator[str]:
    mark = "info" if report.ok else "error"
    yield f'<h2>The set</h2>\n<p class="{mark}"><b>{escape(report.summary())}</b></p>\n<dl>'
    for name, words in report.fact_lines():
        yield f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>"
    yield "</dl>\n"
    for kind in report.tally.kinds():
        about = KINDS[kind]
        yield f'<div class="box"><span class="{about.severity} kind">{about.severity}: {escape(kind)}</span> '
        count, rows = report.tally.counts[kind], report.tally.rows[kind]
        yield f"{count:,} in {rows:,} row{'' if rows == 1 else 's'}: {escape(about.why)}.<ul>"
        for finding in report.tally.examples.get(kind, ()):
            yield f"<li>{escape(str(finding))}</li>"
        yield f'</ul><span class="soft">Next: {escape(about.next_step)}.</span></div>\n'


def _row(preview: Preview, playable: bool) -> Iterator[str]:
    row = preview.row
    facts = {"task": row.task, "source": row.source, "licence": row.license, "number": str(preview.number)}
    about = ", ".join(f"{name} {escape(str(value))}" for name, value in facts.items() if value)
    yield f'<h2>Row {escape(row.id)}</h2>\n<p class="soft">{about}</p>\n'
    if preview.findings:
        yield "<ul>"
        for finding in preview.findings:
            yield f"<li>{_finding(finding)}</li>"
        yield "</ul>\n"
    clips = iter(enumerate(preview.clips))
    for message in row.messages:
        loss = "" if message.loss is None else f' <span class="soft">loss {escape(str(message.loss))}</span>'
        yield f'<div class="box"><span class="role">{escape(message.role)}</span>{loss}'
        for part in message.parts:
            if isinstance(part, Text):
                yield f'<p style="white-space: pre-wrap">{escape(part.text)}</p>'
            else:
                yield from _clip(*next(clips), playable)
        yield "</div>\n"
    if preview.rendering is not None:
        numbers = preview.numbers()
        yield f"<h3>What the model reads: {numbers['positions']} positions, {numbers['audio_positions']} of them "
        yield f"audio; {numbers['learned']} are learned</h3>\n"
        yield from _tokens(preview.pieces, preview.clips)
    if preview.teacher:
        yield "<h3>What its teacher reads in the place of the audio</h3>\n"
        yield from _tokens(preview.teacher, preview.clips)


def _finding(finding: Finding) -> str:
    where = f"{escape(finding.place)}: " if finding.place else ""
    said = f"{where}{escape(finding.seen)}; wanted {escape(finding.wanted)}."
    return f'<span class="{finding.severity} kind">{finding.severity}: {escape(finding.kind)}</span> {said}'


def _clip(index: int, clip: ClipView, playable: bool) -> Iterator[str]:
    part = clip.part
    yield f'<div><span class="audio">clip {index}</span> {_how(clip)}'
    if clip.fault:
        yield f'<p class="error">{escape(clip.fault)}</p>'
    if clip.envelope:
        yield _drawing(clip)
    if clip.flac and playable and len(clip.flac) <= MOST_CLIP_BYTES:
        data = base64.b64encode(clip.flac).decode()
        yield f'<audio controls preload="metadata" src="data:audio/flac;base64,{data}"></audio>'
    elif clip.flac:
        yield f'<p class="soft">{len(clip.flac) / 1e6:.1f} MB, too large to be played from this page.</p>'
    yield "<dl>"
    for name, value in _known(part):
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl></div>"


def _how(clip: ClipView) -> str:
    length = "" if clip.seconds is None else f"{clip.seconds:.2f} s at {clip.sample_rate} Hz"
    each = f" of {1000 * clip.seconds / clip.positions:.0f} ms" if clip.seconds and clip.positions else ""
    used = f"{clip.positions} {clip.how}{each}" if clip.positions else clip.how and "not used by this model"
    used += "" if clip.known else ", counted only: the codec is not here"
    return escape(", ".join(filter(None, (length, used))))


def _known(part: Audio) -> Iterator[tuple[str, str]]:
    start_end = f"{part.start_s:g} to {'the end' if part.end_s is None else f'{part.end_s:g} s'}"
    tokens = part.tokens or {}
    codes = " ".join(str(tokens[k]) for k in ("codec", "codec_hash", "layout") if tokens.get(k))
    for name, value in (
        ("transcript", part.transcript),
        ("language", part.language),
        ("speaker", part.speaker),
        ("part", start_end if part.start_s or part.end_s else None),
        ("labels", ", ".join(f"{k}: {v}" for k, v in part.labels.items())),
        ("codes", f"{codes}, {len(tokens.get('ids') or ())} ids" if tokens else None),
    ):
        if value:
            yield name, str(value)


def _drawing(clip: ClipView) -> str:
    """The waveform, and where its words begin."""
    middle, step = _HEIGHT / 2, _WIDTH / len(clip.envelope)
    largest = max(max(abs(low), abs(high)) for low, high in clip.envelope) or 1.0
    scale = 0.75 * middle / largest
    top = " ".join(
        f"L{i * step:.1f} {middle - high * scale:.1f}" for i, (_, high) in enumerate(clip.envelope)
    )
    ends = reversed(list(enumerate(clip.envelope)))
    bottom = " ".join(f"L{i * step:.1f} {middle - low * scale + 0.5:.1f}" for i, (low, _) in ends)
    made = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="waveform">'
    )
    made += f'<path d="M0 {middle} {top} {bottom} Z"/>'
    for word, start, _ in clip.part.words or ():
        if clip.seconds and 0 <= start <= clip.seconds:
            x = start / clip.seconds * _WIDTH
            made += f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{_HEIGHT}"/>'
            made += f'<text x="{x + 2:.1f}" y="9">{escape(word)}</text>'
    return made + "</svg>"


def _tokens(found: Sequence[Piece], clips: Sequence[ClipView]) -> Iterator[str]:
    yield '<div class="tokens">'
    for piece in found:
        title = (
            f"position {piece.start}, id {', '.join(map(str, piece.ids[:8]))}, loss weight {piece.weight:g}"
        )
        look = look_of(piece).replace("read", "")
        if piece.kind == "text":
            look = f"t {look} special" if piece.special else f"t {look}"
            shown = escape(piece.text).replace("\n", "\u21b5\n")
            yield f'<span class="{" ".join(look.split())}" title="{escape(title)}">{shown}</span>'
            continue
        known = piece.clip is None or clips[piece.clip].known
        name = f"clip {piece.clip}: {len(piece.ids)} {piece.kind}"
        yield f'<span class="{look}" title="{escape(title)}">{escape(name)}</span>'
        if piece.text and known:
            yield f'<details><summary>its tokens</summary><span class="{look}">{escape(piece.text)}</span></details>'
    yield "</div>\n"
