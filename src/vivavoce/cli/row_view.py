"""Rows and findings in a terminal: what is learned in green, audio in blue; into pipes, what is learned in «marks».

Text of rows is never read as markup, and its control characters are shown instead of obeyed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from vivavoce.cli.screen import console, printable

if TYPE_CHECKING:
    from vivavoce.data.check.report import Report
    from vivavoce.training.preview import ClipView, Piece, Preview

STYLES = {
    "learned": "green", "audio": "blue", "learned audio": "bold cyan", "read": "", "special": "dim", "soft": "dim",
    "error": "bold red", "warning": "yellow", "info": "cyan", "name": "bold",
}  # fmt: skip
_MARGIN = 12
_SHOWN_TOKENS = 60  # characters of a clip's tokens
_NARROW = 20  # columns that text keeps beside its margin


class Line(NamedTuple):
    """A line on the screen.

    Attributes:
        text: Without line breaks.
        hang: Columns that its other lines are indented by, where it is folded.
    """

    text: Text
    hang: int = 0


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines on stdout; on a terminal in colours, and folded between words."""
    screen = console(sys.stdout)
    for text, hang in lines:
        if screen.is_terminal:
            rest = text[hang:].wrap(screen, max(_NARROW, screen.width - hang))
            text = text[:hang] + Text("\n" + " " * hang).join(rest)
        screen.print(text)
    sys.stdout.flush()


def has_colours() -> bool:
    """Whether colours on stdout can be seen."""
    screen = console(sys.stdout)
    return screen.is_terminal and not screen.no_color and screen.color_system is not None


def report_lines(report: Report) -> Iterator[Line]:
    """A report for people."""
    from vivavoce.data.check.kinds import KINDS

    yield Line(Text(printable(report.name), STYLES["name"]))
    for name, words in report.fact_lines():
        yield from _labelled(name, Text(printable(words)))
    for kind in report.tally.kinds():
        about = KINDS[kind]
        count, rows = report.tally.counts[kind], report.tally.rows[kind]
        yield Line(Text(""))
        yield Line(
            Text.assemble(
                (about.severity, STYLES[about.severity]), " ", (kind, STYLES["name"]),
                f"  {count:,} in {rows:,} row{'' if rows == 1 else 's'}: {about.why}",
            ),
            2,
        )  # fmt: skip
        for finding in report.tally.examples.get(kind, ()):
            yield Line(Text(f"  {printable(str(finding))}"), 4)
        yield Line(Text(f"  next: {about.next_step}", STYLES["soft"]), 4)
    yield Line(Text(""))
    yield Line(Text(report.summary(), STYLES["info" if report.ok else "error"]))


def preview_lines(preview: Preview, colours: bool) -> Iterator[Line]:
    """A row for people.

    Args:
        preview: The row.
        colours: Colours can be seen; otherwise what is learned stands in «marks».
    """
    row = preview.row
    about = {"task": row.task, "source": row.source, "licence": row.license, "number": preview.number}
    said = ", ".join(f"{name} {value}" for name, value in about.items() if value not in (None, ""))
    yield Line(Text.assemble((f"row {printable(row.id)}", STYLES["name"]), f"  {printable(said)}"), 2)
    for finding in preview.findings:
        where = f"{finding.place}: " if finding.place else ""
        words = printable(f" {finding.kind}: {where}{finding.seen}; wanted {finding.wanted}")
        yield Line(Text.assemble("  ", (finding.severity, STYLES[finding.severity]), words), 4)
    clips = iter(enumerate(preview.clips))
    for message in row.messages:
        loss = Text("" if message.loss is None else f" (loss {message.loss})", STYLES["soft"])
        said_there = message.text or message.loss is not None
        texts = [Text.assemble(printable(message.text), loss)] if said_there else []
        texts += [_clip(*next(clips)) for _ in message.audios]
        yield from _labelled(message.role, Text("\n").join(texts or [Text("(nothing)", STYLES["soft"])]))
    if preview.rendering is not None:
        n = preview.numbers()
        about_ids = (
            f"{n['positions']} positions, {n['audio_positions']} of them audio, {n['learned']} learned"
        )
        yield from _labelled("reads", Text(f"{about_ids}, objective {preview.rendering.objective}"))
        yield from _labelled("", _tokens(preview.pieces, preview.clips, colours))
    if preview.teacher:
        yield from _labelled("teacher", Text("reads in the place of the audio:"))
        yield from _labelled("", _tokens(preview.teacher, preview.clips, colours))
    yield Line(Text(""))


def legend(colours: bool) -> Line:
    """What the colours mean."""
    if not colours:
        return Line(Text("«learned», the rest is only read; | stands between tokens."))
    names = ("learned", "read", "audio", "learned audio", "special")
    return Line(Text("  ").join(Text(name, STYLES[name]) for name in names))


def _labelled(name: str, words: Text) -> Iterator[Line]:
    """Lines behind a name, all indented alike."""
    for i, line in enumerate(words.split("\n", allow_blank=True)):
        label = f"  {name if i == 0 else ''}".ljust(_MARGIN)
        yield Line(Text.assemble((label, STYLES["soft"]), line), _MARGIN)


def _clip(index: int, clip: ClipView) -> Text:
    part = clip.part
    facts = ["" if clip.seconds is None else f"{clip.seconds:.2f} s at {clip.sample_rate} Hz"]
    if clip.positions:
        facts.append(
            f"{clip.positions} {clip.how}{'' if clip.known else ' (counted, the codec is not here)'}"
        )
    elif clip.how:
        facts.append("not used by this model")
    if part.tokens:
        facts.append(f"codes of {part.tokens.get('codec')}")
    made = Text.assemble((f"clip {index}", STYLES["audio"]), f"  {printable(', '.join(filter(None, facts)))}")
    if part.transcript:
        known = ", ".join(filter(None, (part.language, part.speaker)))
        made.append(f'\n"{printable(part.transcript)}"  {printable(known)}'.rstrip())
    if clip.fault:
        made.append(f"\n{printable(clip.fault)}", STYLES["error"])
    return made


def _tokens(found: Sequence[Piece], clips: Sequence[ClipView], colours: bool) -> Text:
    from vivavoce.training.preview import runs

    made = Text()
    for look, group in runs(found):
        learned = look.startswith("learned") and not colours
        made.append("«" if learned else "")
        for i, piece in enumerate(group):
            if i:
                made.append("|", STYLES["soft"])
            style = STYLES["special"] if piece.special and look == "read" else STYLES[look]
            made.append(_spelled(piece, clips), style)
        made.append("»" if learned else "")
    return made


def _spelled(piece: Piece, clips: Sequence[ClipView]) -> str:
    if piece.kind == "text":
        return printable(piece.text).replace("\n", "↵\n")
    known = piece.clip is None or clips[piece.clip].known
    text = piece.text if known else ""
    text = text if len(text) <= _SHOWN_TOKENS else f"{text[:_SHOWN_TOKENS]}..."
    return f"[clip {piece.clip}: {len(piece.ids)} {piece.kind}{': ' if text else ''}{printable(text)}]"
