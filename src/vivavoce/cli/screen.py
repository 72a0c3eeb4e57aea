"""What commands write: results on stdout, everything else (errors, notes, progress) on stderr.

Colours, spinners and bars appear on terminals only; text that comes from files and models is never read as
markup, and its control characters are shown instead of obeyed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from vivavoce.base.whole_files import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress


def console(stream: TextIO) -> Console:
    """A rich console that writes text as it is: no markup, no guessed highlights, no hard wraps."""
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text whose control characters, line breaks aside, are escaped; escape codes cannot reach the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(part for part in (line.strip() for line in text.splitlines()) if part)


def print_error(message: str) -> None:
    """Write one line on stderr."""
    from rich.text import Text

    line = Text("error:", style="bold red") + Text(" " + printable(one_line(message)))
    console(sys.stderr).print(line)


def print_stop(word: str) -> None:
    """Write on stderr that Ctrl-C was heard; on a terminal below the line where it happened."""
    print(("\n" if sys.stderr.isatty() else "") + word, file=sys.stderr)


def note(message: str) -> None:
    """Write one line for people on stderr."""
    print(printable(message), file=sys.stderr)


def print_result(text: str, end: str = "\n") -> None:
    """Write on stdout at once."""
    print(text, end=end, flush=True)


def print_json(value: Any, indent: int | None = 1) -> None:
    """Write one JSON document on stdout.

    Args:
        value: Plain values; numbers that JSON does not have (NaN, infinity) become null.
        indent: None for one line.
    """
    print_result(json.dumps(plain(value, digits=6), ensure_ascii=False, indent=indent, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """Write a table on stdout: fitted to a terminal, or in full with aligned columns into a file or pipe.

    Args:
        columns: Headings.
        rows: One value per column; None is left blank.
        right: Headings of columns that are aligned right.
    """
    cells = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in columns:
            table.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        console(sys.stdout).print(table, soft_wrap=False)
        return
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        padded = [
            value.rjust(width) if name in right else value.ljust(width)
            for name, value, width in zip(columns, row, widths, strict=True)
        ]
        print_result("  ".join(padded).rstrip())


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show a spinner on stderr while something of unknown length goes on."""
    if not sys.stderr.isatty():
        yield
        return
    with console(sys.stderr).status(printable(what)):
        yield


@contextmanager
def counting(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr with rate and time to go; gives a function that is told (done, all)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False), TimeRemainingColumn(),
    )  # fmt: skip
    began, first = time.monotonic(), -1
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(printable(what), total=None, rate="")

        def advance(done: int, total: int) -> None:
            nonlocal first
            first = done if first < 0 else first
            rate = (done - first) / max(time.monotonic() - began, 1e-3)
            bar.update(task, completed=done, total=total, rate=f"{rate:.1f} {unit}/s")

        yield advance


class Progress:
    """A bar on stderr for a number of files; results are printed above it.

    Args:
        what: Verb in the -ing form, such as "encoding".
        total: Files; a bar is shown for more than one.
    """

    def __init__(self, what: str, total: int) -> None:
        self._bar: RichProgress | None = None
        if total and sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}", markup=False),)
            more = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) if total > 1 else ()
            self._bar = RichProgress(
                *columns,
                *more,
                console=console(sys.stderr),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task(what, total=total)
        self._what = what

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the bar while one file is worked on; it is gone again when results are printed."""
        if self._bar is None:
            yield
            return
        self._bar.update(self._task, description=f"{self._what} {printable(name)}")
        self._bar.start()
        try:
            yield
        finally:
            self._bar.advance(self._task)
            self._bar.stop()
