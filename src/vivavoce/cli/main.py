"""The command ``vivavoce``: a table of verbs, and the one place where errors become lines and exit codes.

Exit codes: 0 done; 1 a fault of ours or a closed pipe; 2 something the user can put right; 130 Ctrl-C.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

import vivavoce
from vivavoce.base.errors import VivavoceError
from vivavoce.base.registry import Registry
from vivavoce.cli.groups import RunByDefault
from vivavoce.cli.recordings import spread_audio
from vivavoce.cli.screen import one_line, print_error, print_stop

# (panel of the help page, verbs in the order of the page)
PANELS = (
    ("Talk", ("demo", "chat", "transcribe", "say", "serve")),
    ("Tokens", ("encode", "decode")),
    ("Models", ("train", "convert", "export")),
    (
        "Measure",
        (
            "eval run",
            "eval compare",
            "eval tasks",
            "eval report",
            "scale plan",
            "scale run",
            "scale fit",
            "scale predict",
        ),
    ),
    (
        "Data",
        ("data build", "data run", "data plan", "data check", "data convert", "data formats", "data info"),
    ),
    ("Look", ("info", "models", "codecs")),
)
GROUPS = {
    "data": "Make, check, convert and plan data.",
    "eval": "Score models beside their baselines: `vivavoce eval MODEL... --out DIR`.",
    "scale": "What small runs say of large ones: sweeps, laws with intervals, predictions.",
}
RUN_BY_DEFAULT = ("eval",)
"""Groups whose word `run` may be left out."""


def _place(verb: str) -> str:
    """Where a verb is: ``chat`` in cli/chat.py, ``data build`` in cli/data.py."""
    module, _, name = verb.partition(" ")
    return f"vivavoce.cli.{module}:{name or module}"


VERBS = Registry("command", {verb: _place(verb) for _, verbs in PANELS for verb in verbs})

ABOUT = "Viva Voce gives any open-weights language model ears and a voice. Start with: vivavoce demo"
EPILOG = "Every command takes --json and --debug. Exit codes: 0 done, 2 put something right, 130 Ctrl-C."


def build_app() -> typer.Typer:
    """The typer app with all verbs."""
    app = typer.Typer(
        name="vivavoce",
        help=ABOUT,
        epilog=EPILOG,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for panel, verbs in PANELS:
        groups: dict[str, typer.Typer] = {}
        for verb in verbs:
            group, _, name = verb.partition(" ")
            if not name:
                app.command(verb, rich_help_panel=panel)(VERBS.get(verb))
                continue
            if group not in groups:
                kind = RunByDefault if group in RUN_BY_DEFAULT else None
                settings = app.info.context_settings
                groups[group] = typer.Typer(cls=kind, help=GROUPS[group], context_settings=settings)
                app.add_typer(groups[group], name=group, rich_help_panel=panel)
            groups[group].command(name)(VERBS.get(verb))
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Without the program's name; default those of the process.
    """
    atexit.register(_leave_cycles)
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given[: given.index("--")] if "--" in given else "--debug" in given
    if not debug:
        _hush()
    try:
        if given[:1] == ["chat"]:
            given = spread_audio(given)
        result = build_app()(args=given or ["--help"], prog_name="vivavoce", standalone_mode=False)
        sys.stdout.flush()
        code = result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001  (the last line of defence)
        if debug and not hasattr(error, "format_message"):
            traceback.print_exc()
        code = _report(error)
    if code == 130:
        print_stop("interrupted.")
    return code


def _leave_cycles() -> None:
    """Let Python end at once: its last search for cycles takes seconds in torch's and transformers' objects.

    What was made after an earlier freeze is searched: extensions complain about objects of theirs that are left.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(vivavoce.__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """The options that stand before the verb; they act by their callbacks."""


def _report(error: Exception) -> int:
    """Print one line about an error; returns the exit code."""
    if isinstance(error, VivavoceError):
        print_error(str(error))
        return 2
    if hasattr(error, "format_message"):  # a usage error of typer, under whichever of its class trees
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "vivavoce"
        message = one_line(error.format_message())
        print_error(f"{message}{'' if message.endswith(('.', '?')) else '.'} See: {path} --help")
        return 2
    if isinstance(error, typer.Abort):
        print_error("the input ended.")
        return 1
    print_error(f"unexpected {type(error).__name__}: {error}. Run again with --debug for the trace.")
    return 1


def _hush() -> None:
    """Keep libraries from writing between our lines; --debug leaves them talking."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
