"""``vivavoce chat``: one question and its answer, or a conversation."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.assistants import open_assistant, reply_row
from vivavoce.cli.conversation import Conversation
from vivavoce.cli.files import STREAM, check_recording, check_sound_path
from vivavoce.cli.options import Debug, Device, Json, Quantize, Seed
from vivavoce.cli.question import ask, save_answer
from vivavoce.cli.recordings import expand_recordings
from vivavoce.cli.screen import print_json, print_result
from vivavoce.cli.tasks import TRAJECTORY, Trajectories, task_text


def chat(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="`nano` (built in), a folder, or a hub id.")
    ] = "nano",
    audio: Annotated[
        list[str] | None,
        typer.Option(
            "--audio", "-a", metavar="FILE...", help="Recordings to ask with: files, a,b,c, or @list.txt."
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", metavar="TEXT", help="A question, or words beside --audio.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK", help="A task the model has a prompt for, or `trajectory`: emotions over turns."
        ),
    ] = None,
    joined: Annotated[
        bool, typer.Option("--joined", help="With `trajectory`: all turns as one clip, cut at 30 s.")
    ] = False,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Speak the answer into this file.")
    ] = None,
    out_dir: Annotated[
        str | None,
        typer.Option("--out-dir", metavar="DIR", help="In a conversation: keep each spoken answer as a wav."),
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

    In a conversation: /audio FILE asks with a recording and /mic by the microphone, /say on|off switches
    speech, /voice chooses one, /save FILE keeps the last spoken answer, /reset starts anew, /help lists
    these. Ctrl-C breaks an answer off, Ctrl-D leaves. Questions are also read from a pipe, one per line.
    Sampling options not given come from the model.

    With --task trajectory, each recording is one turn of the user in a dialogue, and the answer tells how the
    emotions went; without --audio, dialogues are read line by line.
    """
    if out == STREAM:
        raise ConfigError("chat writes its text on stdout; give --out FILE for the spoken answer.")
    if out is not None:
        check_sound_path(out)
    files = [file for given in audio or [] for file in expand_recordings(given)]
    for file in files:
        check_recording(file)
    if joined and task != TRAJECTORY:
        raise ConfigError("--joined belongs to --task trajectory.")
    if task and not files and task != TRAJECTORY:
        raise ConfigError(f"--task {task} is about recordings; give them with --audio.")
    options: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "max_new_tokens": max_tokens,
    }
    if text is not None and not text.strip() and not files:
        raise ConfigError("--text is empty; wanted a question.")
    if out is not None and text is None and not files:
        raise ConfigError(
            "--out keeps one answer, to --text or --audio; in a conversation use --out-dir DIR."
        )
    if out_dir is not None and (text is not None or files):
        raise ConfigError("--out-dir is for conversations; --out FILE keeps one answer.")
    if task == TRAJECTORY and (out or voice or system):
        raise ConfigError("--task trajectory answers in text; leave out --out, --voice and --system.")
    assistant = open_assistant(model, quantize, device)
    if task == TRAJECTORY:
        dialogues = Trajectories(assistant, model, options, joined, text, json)
        if files:
            dialogues.ask(files)
        elif not dialogues.interactive():
            raise typer.Exit(2)
        return
    if task:
        text = task_text(assistant, task, text)
    if text is None and not files:
        conversation = Conversation(assistant, model, options, system, voice, json, out_dir)
        if not conversation.interactive():
            raise typer.Exit(2)
        return
    reply = ask(assistant, files, text, options, system, voice, speak=out is not None, json=json)
    if out is not None:
        save_answer(reply, out)
    if json:
        print_json(reply_row(reply, model, out))
    elif out is not None:
        print_result(f"{out}  {reply.timings.get('audio_s', 0.0):.2f} s")
