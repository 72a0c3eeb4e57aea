"""``vivavoce chat``: one question and its answer, or a conversation."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.assistants import open_assistant
from vivavoce.cli.conversation import Conversation
from vivavoce.cli.files import STREAM, check_recording, check_sound_path
from vivavoce.cli.options import Debug, Device, Json, Quantize, Seed
from vivavoce.cli.screen import print_result


def chat(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="`nano` (built in), a folder, or a hub id.")
    ] = "nano",
    audio: Annotated[
        list[str] | None,
        typer.Option("--audio", "-a", metavar="FILE", help="A recording to ask with; repeatable."),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", metavar="TEXT", help="A question, or words beside --audio.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Speak the answer into this file.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")
    ] = None,
    voice: Annotated[
        str | None, typer.Option(metavar="VOICE", help="One of the model's voices; see `info`.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="0 takes the likeliest token.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Draw from the likeliest tokens that make up P.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Draw from the N likeliest tokens; 0 from all.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(metavar="P", help="Leave out tokens below P times the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="Above 1 avoids repetition.")
    ] = None,
    seed: Seed = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Most tokens of an answer, text and audio.")
    ] = None,
    quantize: Quantize = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask by text or voice; a conversation if neither --text nor --audio is given.

    In a conversation: /audio FILE asks with a recording, /save FILE keeps the last spoken answer, /reset
    starts anew, /help lists these, /quit or Ctrl-D leaves. Questions are also read from a pipe, one per
    line. Sampling options not given come from the model.
    """
    if out == STREAM:
        raise ConfigError("chat writes its text on stdout; give --out FILE for the spoken answer.")
    if out is not None:
        check_sound_path(out)
    for file in audio or []:
        check_recording(file)
    options: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "max_new_tokens": max_tokens,
    }
    if text is not None and not text.strip() and not audio:
        raise ConfigError("--text is empty; wanted a question.")
    if out is not None and text is None and not audio:
        raise ConfigError("--out keeps one answer, to --text or --audio; in a conversation use /save FILE.")
    assistant = open_assistant(model, quantize, device)
    conversation = Conversation(assistant, model, options, system=system, voice=voice, json=json)
    if text is None and not audio:
        if not conversation.interactive():
            raise typer.Exit(2)
        return
    reply = conversation.ask(audio or [], text, speak=out is not None)
    if out is not None:
        conversation.save(out)
    if json:
        conversation.print_row(reply, out, indent=1)
    elif out is not None:
        print_result(f"{out}  {reply.timings.get('audio_s', 0.0):.2f} s")
