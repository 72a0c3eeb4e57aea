"""``vivavoce say``: read a text aloud."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.assistants import open_assistant, reply_row
from vivavoce.cli.files import STREAM, check_sound_path, write_sound
from vivavoce.cli.options import Debug, Device, Json, Model, Quantize, Seed
from vivavoce.cli.screen import print_json, print_result, working


def say(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; `-` reads stdin.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Sound file; `-` is a wav on stdout.")
    ],
    model: Model = "nano",
    voice: Annotated[
        str | None, typer.Option(metavar="VOICE", help="One of the model's voices; see `info`.")
    ] = None,
    seed: Seed = None,
    quantize: Quantize = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read a text aloud into a sound file."""
    check_sound_path(out)
    if json and out == STREAM:
        raise ConfigError("stdout takes the wav or the JSON, not both; give --out FILE.")
    words = sys.stdin.read() if text == STREAM else text
    if not words.strip():
        raise ConfigError("nothing to say: the text is empty.")
    assistant = open_assistant(model, quantize, device)
    with working("speaking"):
        reply = assistant.say(words, voice=voice, seed=seed)
    write_sound(out, reply.audio, reply.sample_rate or 0)
    if json:
        print_json({**reply_row(reply, model, out), "text": words.strip()})
    elif out != STREAM:
        print_result(f"{out}  {reply.timings['audio_s']:.2f} s")
