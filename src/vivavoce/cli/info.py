"""``vivavoce info``: what a model, a codec, a recording or a token file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vivavoce.base.errors import AudioError, LayoutError
from vivavoce.cli.files import STREAM, read_bytes
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_result, printable


def info(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|FILE",
            help="A recording (`-` is stdin), a token file, a model or codec folder, `nano`, a codec's name, a hub id.",
        ),
    ],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell what a model, a codec, a recording or a token file is; nothing is downloaded."""
    facts = facts_of(target)
    if json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        lines = list(_lines(value)) or [""]
        for i, line in enumerate(lines):
            print_result(f"{name if i == 0 else '':{width}}  {printable(line)}".rstrip())


def facts_of(target: str) -> dict[str, Any]:
    """Facts about whatever ``target`` is, as plain values.

    Raises:
        VivavoceError: There is no such thing, or it cannot be read.
    """
    from vivavoce.cli.codec_facts import codec_facts, is_codec_folder, known_codec
    from vivavoce.cli.file_facts import recording_facts, token_facts
    from vivavoce.cli.model_facts import model_facts

    path = Path(target).expanduser()
    if path.is_dir():
        return codec_facts(target) if is_codec_folder(path) else model_facts(target)
    if path.is_file():
        try:
            return token_facts(path)
        except LayoutError:
            return recording_facts(path, target)
    if target == STREAM or path.exists():
        return recording_facts(read_bytes(target), target)
    if path.suffix.lower() in _FILE_SUFFIXES:
        raise AudioError(f"{target} does not exist; check the path.")
    return known_codec(target) or model_facts(target)


_FILE_SUFFIXES = frozenset(
    ".wav .flac .ogg .opus .mp3 .m4a .aac .webm .aiff .wma .mp4 .txt .ids .npy".split()
)


def _lines(value: Any) -> list[str]:
    """A value as lines for people."""
    if isinstance(value, dict):
        return [f"{k}: {', '.join(_lines(v))}" for k, v in value.items()] or ["unknown"]
    if isinstance(value, list | tuple):
        return [", ".join(str(v) for v in value)] if value else ["none"]
    if value is None:
        return ["unknown"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, float):
        return [f"{value:.4g}"]
    return [f"{value:,}" if isinstance(value, int) and value >= 100_000 else str(value)]
