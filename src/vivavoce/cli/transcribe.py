"""``vivavoce transcribe``: write down what is said in recordings."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vivavoce.base.errors import VivavoceError
from vivavoce.cli.assistants import open_assistant
from vivavoce.cli.files import STREAM, bad_recordings
from vivavoce.cli.options import Debug, Device, Json, Model, Quantize
from vivavoce.cli.screen import Progress, print_error, print_json, print_result, printable


def transcribe(
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Recordings; `-` is stdin.")],
    model: Model = "nano",
    quantize: Quantize = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write down what is said in recordings.

    One line per recording: file, seconds, text, with tabs between. A recording that cannot be read gets a
    line on stderr, the others go on, and the exit code is 2.
    """
    bad = bad_recordings(files)
    if len(bad) == len(files):
        _report(bad)
        if json:
            print_json([])
        raise typer.Exit(2)
    assistant = open_assistant(model, quantize, device)
    rows, progress = [], Progress("transcribing", len(files))
    for file in files:
        if file in bad:
            _report({file: bad[file]})
            continue
        try:
            with progress.step(file):
                heard = assistant.transcribe(sys.stdin.buffer if file == STREAM else file)
        except VivavoceError as error:
            if not assistant.hears:
                raise
            bad[file] = error
            _report({file: error})
            continue
        rows.append(
            {"file": file, "text": heard.text, "seconds": heard.seconds, "understood": heard.understood}
        )
        if not json:
            mark = "" if heard.understood else "(not understood) "
            print_result(f"{file}\t{heard.seconds:.2f}\t{mark}{printable(heard.text)}".rstrip())
    if json:
        print_json(rows)
    if bad:
        raise typer.Exit(2)


def _report(bad: dict[str, VivavoceError]) -> None:
    for file, error in bad.items():
        message = str(error)
        print_error(message if file in message else f"{file}: {message}")
