"""``vivavoce demo``: a spoken question in, a spoken answer out, with the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.cli.assistants import open_assistant, reply_row, timing_rows
from vivavoce.cli.files import write_bytes, write_sound
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_result, print_table, printable, working

QUESTION = "question.wav"
ANSWER = "answer.wav"


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the sound files.")
    ] = Path("viva-out"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Hear a spoken question and answer it aloud, offline, on a CPU.

    Writes DIR/question.wav and DIR/answer.wav.
    """
    from vivavoce.models.loading import find_folder

    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; wanted a folder.")
    recorded = find_folder("nano") / QUESTION
    if not recorded.is_file():
        raise ModelError(f"the package has no nano/{QUESTION}; install vivavoce again.")
    assistant = open_assistant("nano", device="cpu")
    messages = [{"role": "user", "content": [{"type": "audio", "audio": str(recorded)}]}]
    with working("listening and answering"):
        reply = assistant.chat(messages, audio=True)
    question, answer = out / QUESTION, out / ANSWER
    write_bytes(question, recorded.read_bytes())
    write_sound(answer, reply.audio, reply.sample_rate or 0)
    if json:
        print_json({"question": str(question), **reply_row(reply, "nano", str(answer))})
        return
    print_result(f"question  {question}")
    print_result(f"heard     {printable(reply.transcript)}")
    print_result(f"answer    {printable(reply.text)}")
    print_result(f"spoken    {answer}\n")
    print_table(("timing", "value"), timing_rows(reply.timings))
    print_result("\nTry next:")
    for command in next_commands(question):
        print_result(f"  {command}")


def next_commands(question: Path) -> list[str]:
    """Three commands that show what else there is."""
    return [
        "vivavoce chat                                # type or /audio your own questions",
        f"vivavoce transcribe {question}   # write down what is said in recordings",
        'vivavoce say "seven plus eight" --out hello.wav',
    ]
