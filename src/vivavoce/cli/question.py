"""One question to an assistant, answers as they come on the screen, and spoken answers as files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import SessionError
from vivavoce.cli.files import check_sound_path, write_sound
from vivavoce.cli.screen import print_result, printable, working

if TYPE_CHECKING:
    from vivavoce.inference.assistant import Assistant
    from vivavoce.inference.reply import Delta, Reply


def ask(
    assistant: Assistant,
    files: Sequence[str],
    text: str | None,
    options: dict[str, Any],
    system: str | None = None,
    voice: str | None = None,
    speak: bool = False,
    json: bool = False,
) -> Reply:
    """Put one question and show the answer while it comes.

    Args:
        assistant: From ``open_assistant``.
        files: Recordings.
        text: Typed words beside or instead of them.
        options: Sampling.
        system: System prompt.
        voice: Of the spoken answer.
        speak: Have the answer spoken too.
        json: Show nothing.

    Raises:
        VivavoceError: The question cannot be answered.
    """
    from vivavoce.inference.collect import collect

    words: list[dict[str, Any]] = [{"type": "text", "text": text}] if text is not None else []
    clips: list[dict[str, Any]] = [{"type": "audio", "audio": file} for file in files]
    content = clips + words if assistant.clips_first else words + clips
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": content if files else text})
    stream = assistant.stream(messages, audio=speak, voice=voice if speak else None, **options)
    return collect(stream if json else show(stream), assistant.sample_rate if speak else None)


def save_answer(reply: Reply | None, out: str) -> None:
    """Write a spoken answer.

    Raises:
        AudioError: The file cannot be written.
        SessionError: There is no spoken answer.
    """
    check_sound_path(out)
    if reply is None or reply.audio is None or not reply.sample_rate or not len(reply.audio):
        raise SessionError("there is no spoken answer to save yet.")
    write_sound(out, reply.audio, reply.sample_rate)


def show(deltas: Iterable[Delta]) -> Iterator[Delta]:
    """Print what is new of each delta, and pass it on."""
    begun = ""
    with contextlib.ExitStack() as waiting:
        waiting.enter_context(working("thinking"))
        try:
            for delta in deltas:
                for part, new in (("heard", delta.transcript), ("answer", delta.text)):
                    if new:
                        waiting.close()
                        start = "" if begun == part else ("\n" if begun else "") + f"{part}> "
                        print_result(start + printable(new if begun == part else new.lstrip()), end="")
                        begun = part
                yield delta
        finally:  # also of an answer that was broken off
            waiting.close()
            if begun:
                print_result("")
