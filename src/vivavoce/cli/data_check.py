"""``vivavoce data check``: what is wrong with a set, and how a model reads its rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.cli.files import write_bytes
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import counting, note, print_json

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec
    from vivavoce.data.check.config import CheckConfig
    from vivavoce.data.check.report import Report
    from vivavoce.data.conversation import Conversation
    from vivavoce.training.preview import Preview

NOT_READY = 2
FIRST_ROWS, EXAMPLE_ROWS = 3, 10  # rows of a page
# --task -> how the model learns; other tasks are learned as answers
OBJECTIVES = {"distill": "distill", "next_token": "next_token", "pretrain": "next_token"}


def check(
    path: Annotated[
        str,
        typer.Argument(metavar="SET", help="A folder of shards, a .parquet file, or a file of JSON lines."),
    ],
    show: Annotated[
        list[str] | None,
        typer.Option(
            "--show",
            "-s",
            metavar="ID|N",
            help="Show this row, by its id or by its place from 0 on, instead of checking the set; may be repeated.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Look at what this model reads: `nano`, a folder, a hub id.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER", help="A set that must share nothing with this one, such as the test set."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="What the set is for, if not each row's own task; `distill` needs transcripts.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Check text with this tokenizer; --model brings its own."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", "-c", metavar="NAME|PATH", help="The codec that codes must be of."),
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option("--sample-rate", metavar="HZ", help="Rate that recordings should have.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", help="Most tokens of a row.")
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Write a page with the rows, which plays them."),
    ] = None,
    recordings: Annotated[
        str, typer.Option("--recordings", metavar="HOW", help="`all` decodes them, `headers`, or `none`.")
    ] = "all",
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", help="Examples of each kind of finding.")
    ] = 5,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes. Default: the cores for many rows, else none.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Find the mistakes in a set that raise no error, or show rows as a model reads them.

    Exit code 0 means no errors; warnings and infos may be meant. With --html and without --show the page holds the
    report, the first rows and those with findings.
    """
    if max_tokens is not None and not (model or tokenizer):
        raise ConfigError(
            "--max-tokens counts tokens; say of which model: --tokenizer MODEL or --model MODEL."
        )
    from vivavoce.data.check.config import CheckConfig

    config = CheckConfig(task, sample_rate, _codec_spec(codec), max_tokens, recordings, examples)
    report = None
    with counting("checking", "rows") as advance:
        view = _View(Path(path), config, model, tokenizer)
        if show:
            previews = [view.preview(*view.find(name), sound=bool(html)) for name in show]
        else:
            report = view.report(against, workers, advance)
            shown = view.worth_showing(report) if html else []
            previews = [view.preview(*view.row(number), sound=True) for number in shown]
    if html:
        _write_page(previews, path, model, html, report)
    if report is None:
        return _show(previews, json)
    if json:
        print_json(report.as_dict())
    else:
        from vivavoce.cli.row_view import print_lines, report_lines

        print_lines(report_lines(report))
    return 0 if report.ok else NOT_READY


class _View:
    """A set, and the model that reads it."""

    def __init__(self, path: Path, config: CheckConfig, model: str | None, tokenizer: str | None) -> None:
        from vivavoce.data.check.reading import plan

        self.path, self.config, self.plan = path, config, plan(path)
        self.processor: Any = None
        self.tokenizer: Any = None
        if model:
            from vivavoce.training.processors import load_processor

            self.processor = load_processor(model)
            self.tokenizer = self.processor.tokenizer
        elif tokenizer:
            from vivavoce.training.processors import load_tokenizer

            self.tokenizer = load_tokenizer(tokenizer)
        self.objective = OBJECTIVES.get(config.task or "", "sft")

    def report(self, against: str | None, workers: int | None, advance: Any) -> Report:
        """The check of the whole set."""
        from vivavoce.data.check.sets import check_set

        doctor: Any = None
        if self.processor is not None:
            from vivavoce.training.doctor import Doctor

            doctor = Doctor(self.processor, self.objective, self.config.max_tokens)
        return check_set(
            self.path, self.config, tokenizer=self.tokenizer, doctor=doctor, against=against, workers=workers,
            report=advance,
        )  # fmt: skip

    def find(self, name: str) -> tuple[Conversation, int]:
        """A row by its place, or by its id.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        if name.isdecimal() and str(int(name)) == name and int(name) < self.plan.rows:
            row, number = self.row(int(name))
            if row.id != name and row.id.isdecimal():
                note(f"row {number} from 0 on has the id {row.id!r}.")
            return row, number
        from vivavoce.data.check.reading import read_block

        for block in self.plan.blocks:
            for number, found in read_block(block):
                if not isinstance(found, DataError) and found.id == name:
                    return found, number
        raise DataError(f"{self.path} has no row {name!r}; it has {self.plan.rows} rows, numbered from 0.")

    def row(self, number: int) -> tuple[Conversation, int]:
        """A row by its place.

        Raises:
            DataError: It cannot be read.
        """
        from vivavoce.data.check.reading import read_block

        block = next(b for b in self.plan.blocks if b.first <= number < b.first + b.rows)
        found = next(row for n, row in read_block(block) if n == number)
        if isinstance(found, DataError):
            raise found
        return found, number

    def preview(self, row: Conversation, number: int, sound: bool) -> Preview:
        """A row with what is wrong with it."""
        from vivavoce.data.check.rows import RowChecker
        from vivavoce.training.preview import preview_row

        alone = None if self.processor is not None else self.tokenizer  # the doctor counts for the model
        checker = RowChecker(self.config, self.plan.root, alone)
        return preview_row(
            row, number, self.processor, self.objective, root=self.plan.root, sound=sound,
            findings=checker(row, number).findings, max_tokens=self.config.max_tokens,
        )  # fmt: skip

    def worth_showing(self, report: Report) -> list[int]:
        """Numbers of the first rows, and of rows with errors and warnings, that can be read."""
        from vivavoce.data.check.kinds import KINDS

        told = report.tally
        kinds = [k for k in told.kinds() if KINDS[k].severity != "info" and k != "invalid_row"]
        named = dict.fromkeys(f.number for k in kinds for f in told.examples.get(k, ()) if f.number >= 0)
        numbers = {*range(min(FIRST_ROWS, self.plan.rows)), *list(named)[:EXAMPLE_ROWS]}
        return [number for number in sorted(numbers) if self._is_readable(number)]

    def _is_readable(self, number: int) -> bool:
        try:
            self.row(number)
        except DataError:
            return False
        return True


def _show(previews: list[Preview], json: bool) -> int:
    """Print rows; returns the exit code."""
    if json:
        print_json([preview.as_dict() for preview in previews])
    else:
        from vivavoce.cli.row_view import has_colours, legend, preview_lines, print_lines

        colours = has_colours()
        for preview in previews:
            print_lines(preview_lines(preview, colours))
        if any(preview.rendering for preview in previews):
            print_lines([legend(colours)])
    bad = any(f.severity == "error" for preview in previews for f in preview.findings)
    return NOT_READY if bad else 0


def _write_page(
    previews: list[Preview], path: str, model: str | None, html: str, report: Report | None
) -> None:
    from vivavoce.training.preview_page import preview_page

    page = preview_page(previews, Path(path).name, model=model, report=report)
    write_bytes(Path(html), page.encode())
    note(f"page: {html}")


def _codec_spec(name: str | None) -> CodecSpec | None:
    """The numbers of a codec, with the hash of its weights where they are on this machine."""
    if name is None:
        return None
    from vivavoce.codecs.loading import list_codecs, load_codec

    listed = next((codec for codec in list_codecs() if codec.name == name), None)
    if listed is not None and not listed.offline:
        note(f"the weights of {name} are not on this machine, so hashes of codes are not compared with them.")
        return listed
    return load_codec(name).spec
