"""Options that several verbs share, so that they are spelled and explained the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the whole trace of an error, and library messages.")
]

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="`nano` (built in), a folder, or a hub id.")
]
Device = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="Where to run, such as `cpu` or `cuda:0`. Default: a GPU if any."),
]
Quantize = Annotated[
    str | None, typer.Option(metavar="KIND", help="Load weights in 4 bits: `nf4` (needs the extra `quant`).")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Same seed, same answer.")]

CodecName = Annotated[
    str, typer.Option("--codec", "-c", metavar="NAME|PATH", help="A codec by name, folder or hub id.")
]
LayoutName = Annotated[
    str,
    typer.Option("--layout", "-l", metavar="LAYOUT", help="Order of the codes: `orpheus` or `interleaved`."),
]
Base = Annotated[
    int | None,
    typer.Option(
        metavar="ID",
        help="Token id of the first code. Default: as in the published models on Llama 3 "
        "(orpheus 128266, interleaved 128258); start and end stand before it.",
    ),
]
