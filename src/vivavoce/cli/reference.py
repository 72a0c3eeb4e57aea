"""The command reference in Markdown, made from the commands themselves.

``python -m vivavoce.cli.reference docs/cli.md`` rewrites what stands below the marker of that page.
"""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from vivavoce.cli.main import PANELS, build_app

MARKER = "<!-- below: made by `python -m vivavoce.cli.reference docs/cli.md`; do not edit -->"


EVERYWHERE = ("help", "json", "debug")


def reference() -> str:
    """All verbs with their arguments and options, except the options that all of them share."""
    root: Any = typer.main.get_command(build_app())
    sections = []
    for verb in (verb for _, verbs in PANELS for verb in verbs):
        command = root
        for name in verb.split():
            command = command.commands[name]
        sections.append(_section(verb, command))
    return "\n\n".join(sections) + "\n"


def refreshed(page: str) -> str:
    """A page with everything below the marker made anew."""
    return page.partition(MARKER)[0] + MARKER + "\n\n" + reference()


def _section(verb: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name not in EVERYWHERE]
    usage = " ".join(["vivavoce", verb, *(p.metavar for p in arguments), "[OPTIONS]"])
    lines = [f"## {verb}", "", f"    {usage}", "", inspect.cleandoc(command.help), ""]
    lines += [f"- `{p.metavar}`: {p.help}{_default(p)}" for p in arguments]
    for option in options:
        names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))
        value = "" if option.is_flag else f" `{option.metavar}`"
        needed = " Required." if option.required else ""
        lines.append(f"- {names}{value}: {option.help}{needed}{_default(option)}")
    return "\n".join(lines)


def _default(parameter: Any) -> str:
    value = parameter.default
    if isinstance(value, Enum):
        value = value.value
    if parameter.required or value in (None, False, ()) or not isinstance(value, str | int | float | Path):
        return ""
    return f" Default: `{value}`."


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(refreshed(target.read_text(encoding="utf-8")), encoding="utf-8")
