"""A conversation on a terminal or through a pipe: questions in, streamed answers out, and a few / commands."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import ConfigError, SessionError, VivavoceError
from vivavoce.cli.assistants import reply_row
from vivavoce.cli.files import check_recording, check_sound_path, write_sound
from vivavoce.cli.screen import note, print_error, print_json, print_result, print_stop, printable, working

if TYPE_CHECKING:
    from vivavoce.inference.assistant import Assistant
    from vivavoce.inference.reply import Delta, Reply

PROMPT = "you> "
HELP = """Type a question, or:
  /audio FILE   ask with a recording
  /save FILE    write the last spoken answer (.wav, .flac, .ogg, .opus, .mp3)
  /reset        forget the conversation
  /help         show this
  /quit         leave (or Ctrl-D); Ctrl-C stops an answer"""


class Conversation:
    """Keeps the messages, asks the assistant and shows what comes back.

    Args:
        assistant: From ``open_assistant``.
        model: Its name, for output.
        options: Sampling options of every answer.
        system: System prompt.
        voice: Voice of spoken answers.
        json: Print nothing but rows of JSON on stdout.
    """

    def __init__(
        self,
        assistant: Assistant,
        model: str,
        options: dict[str, Any],
        system: str | None = None,
        voice: str | None = None,
        json: bool = False,
    ) -> None:
        self._assistant, self._model, self._options = assistant, model, options
        self._system, self._voice, self._json = system, voice, json
        self._messages: list[dict[str, Any]] = []
        self._last: Reply | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system prompt."""
        self._messages = [{"role": "system", "content": self._system}] if self._system else []
        self._last = None

    def ask(self, files: Sequence[str], text: str | None, speak: bool) -> Reply:
        """Put a question, show the answer while it comes, and remember both.

        Args:
            files: Recordings.
            text: Typed words beside or instead of them.
            speak: Have the answer spoken too.

        Raises:
            VivavoceError: The question cannot be answered; the conversation is as it was before.
        """
        from vivavoce.inference.collect import collect

        words: list[dict[str, Any]] = [{"type": "text", "text": text}] if text is not None else []
        clips: list[dict[str, Any]] = [{"type": "audio", "audio": file} for file in files]
        content = clips + words if self._assistant.clips_first else words + clips
        question = {"role": "user", "content": content if files else text}
        stream = self._assistant.stream(
            [*self._messages, question], audio=speak, voice=self._voice if speak else None, **self._options
        )
        rate = self._assistant.sample_rate if speak else None
        reply = collect(stream if self._json else self._show(stream), rate)
        if len(files) == 1 and reply.understood and reply.transcript:
            clips[0]["transcript"] = reply.transcript
        self._messages += [question, {"role": "assistant", "content": reply.text}]
        self._last = reply
        return reply

    def save(self, out: str) -> None:
        """Write the last spoken answer.

        Raises:
            AudioError: The file cannot be written.
            SessionError: There is no spoken answer.
        """
        check_sound_path(out)
        reply = self._last
        if reply is None or reply.audio is None or not reply.sample_rate or not len(reply.audio):
            raise SessionError("there is no spoken answer to save yet.")
        write_sound(out, reply.audio, reply.sample_rate)

    def print_row(self, reply: Reply, out: str | None, indent: int | None = None) -> None:
        """Print an answer as JSON."""
        print_json(reply_row(reply, self._model, out), indent=indent)

    def interactive(self) -> bool:
        """Answer questions until the input ends; False if a line of a pipe could not be answered."""
        typed, fine = sys.stdin.isatty(), True
        if typed and not self._json:
            note(f"Talking with {self._model}. /help lists what else there is; /quit leaves.")
        for line in _typed_lines(self._json) if typed else sys.stdin:
            if line.strip() in ("/quit", "/exit"):
                break
            try:
                self._take(line.strip())
            except VivavoceError as error:
                print_error(str(error))
                fine = typed
            except KeyboardInterrupt:
                if not typed:
                    raise
                print_stop("stopped.")
        return fine

    def _take(self, line: str) -> None:
        """One line of input: a question or a command."""
        if not line:
            return
        if not line.startswith("/"):
            self._answer([], line)
            return
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/audio": self._audio_command,
            "/save": self._save_command,
            "/reset": lambda _: self.reset(),
            "/help": lambda _: note(HELP),
        }
        if name not in commands:
            near = difflib.get_close_matches(name, [*commands, "/quit"], n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"unknown command {name}.{hint} /help lists them.")
        argument = argument.strip().strip("'\"")
        if name in ("/audio", "/save") and not argument:
            raise ConfigError(f"{name} needs the name of a file.")
        commands[name](argument)

    def _answer(self, files: list[str], text: str | None) -> None:
        reply = self.ask(files, text, speak=self._assistant.speaks)
        if self._json:
            self.print_row(reply, None)

    def _audio_command(self, file: str) -> None:
        check_recording(file)
        self._answer([file], None)

    def _save_command(self, file: str) -> None:
        self.save(file)
        note(f"saved {file}")

    def _show(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        """Print what is new of each delta, and pass it on."""
        begun = ""
        with contextlib.ExitStack() as waiting:
            waiting.enter_context(working("thinking"))
            for delta in deltas:
                for part, new in (("heard", delta.transcript), ("answer", delta.text)):
                    if new:
                        waiting.close()
                        start = "" if begun == part else ("\n" if begun else "") + f"{part}> "
                        print_result(start + printable(new if begun == part else new.lstrip()), end="")
                        begun = part
                yield delta
        if begun:
            print_result("")


def _typed_lines(json: bool) -> Iterator[str]:
    """Lines from a terminal, with editing and recall where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    while True:
        try:
            if json:
                print(PROMPT, end="", file=sys.stderr, flush=True)
            yield input("" if json else PROMPT)
        except EOFError:
            print(file=sys.stderr)
            return
