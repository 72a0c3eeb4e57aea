"""``vivavoce export``: a model as other engines serve it; ``convert`` that chooses form and folder itself."""

from __future__ import annotations

from typing import Annotated

import typer

from vivavoce.cli.convert import print_conversion
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import working


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a published form, or a hub id.")],
    destination: Annotated[
        str | None,
        typer.Argument(
            metavar="[DST]", help="A folder that does not exist yet or is empty. Default: `NAME-FORM` here."
        ),
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="`vllm`, or a form of `convert`.")] = "vllm",
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="For Ultravox's form: write every part, naming nothing. Else always so."
        ),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write what vLLM serves natively: a plain language model with audio tokens, or Ultravox's form.

    Models whose audio is tokens of the vocabulary become what they are, a causal language model with adapters merged,
    tokenizer, chat template and ends, and `vivavoce.json` that tells our front about codec and layout. Ears on a
    language model become Ultravox's form. The same as `convert MODEL DST --to vllm`.
    """
    target = destination or f"{model.rstrip('/').rpartition('/')[2]}-{to}"
    with working(f"exporting {model}"):
        from vivavoce.models.conversion import convert

        done = convert(model, target, to, merge=merge)
    print_conversion(done, json)
