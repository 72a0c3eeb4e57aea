"""``vivavoce convert``: a model in another form, with its parts named or bundled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_result, printable, working


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A published form (Ultravox's folder, SALMONN's .pth, a language model with audio tokens), a folder "
            "of this package, or a hub id.",
        ),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="A folder that does not exist yet or is empty.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FORM", help="`vivavoce`, `ultravox`, `salmonn` or `vllm` (see `export`)."
        ),
    ] = "vivavoce",
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm", metavar="X", help="The language model: a folder or hub id that is named from now on."
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="X", help="The speech encoder: a folder, file or hub id.")
    ] = None,
    sound_encoder: Annotated[
        str | None,
        typer.Option("--sound-encoder", metavar="X", help="The second encoder, BEATs for SALMONN."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="X", help="The tokenizer, if it is not the language model's.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON of task and instruction, for chat and transcribe."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Load every part and write all of them together, naming nothing.")
    ] = False,
    accept_other: Annotated[
        bool,
        typer.Option(
            "--accept-other", help="Take a language model or encoder other than the one of the training."
        ),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model in another form; parts it does not hold are named, and not loaded but to merge."""
    with working(f"converting {source}"):
        from vivavoce.models.conversion import convert as convert_model
        from vivavoce.models.presets.preset import Sources

        sources = Sources(llm, encoder, sound_encoder, tokenizer, prompts, accept_other)
        done = convert_model(source, destination, to, sources, merge)
    print_conversion(done, json)


def print_conversion(done: Any, json: bool) -> None:
    """Say what was read and written."""
    if json:
        print_json(asdict(done))
        return
    rows = [("recognised", done.recognised), ("written", f"{done.folder} ({done.form}, {done.size_mb:,} MB)")]
    rows += [(part, _amount(done, part)) for part in done.tensors]
    rows += [(part, f"by reference: {name}") for part, name in done.references.items()]
    rows += [("note", text) for text in done.notes]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print_result(f"{name:{width}}  {printable(text)}")


def _amount(done: Any, part: str) -> str:
    """What is stored of a part."""
    settings = done.adapters.get(part.removesuffix(" adapters")) if part.endswith(" adapters") else None
    return f"{done.tensors[part]} tensors, {done.parameters[part]:,} numbers" + (
        f", {settings}" if settings else ""
    )
