"""A conversation on a terminal or through a pipe: a session with the model, and a few / commands."""

from __future__ import annotations

import contextlib
import difflib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import ConfigError, ModelError, VivavoceError
from vivavoce.cli.assistants import reply_row
from vivavoce.cli.files import check_recording
from vivavoce.cli.question import save_answer, show
from vivavoce.cli.screen import note, print_error, print_json, print_stop
from vivavoce.cli.sound import Loudspeaker, can_play, listen

if TYPE_CHECKING:
    from vivavoce.inference.assistant import Assistant
    from vivavoce.inference.reply import Delta, Reply

PROMPT = "you> "
HELP = """Type a question, or:
  /audio FILE   ask with a recording
  /mic          ask by the microphone; Enter ends what you say
  /say on|off   speak the answers, or only write them
  /voice NAME   another voice; without NAME, which there are
  /save FILE    write the last spoken answer (.wav, .flac, .ogg, .opus, .mp3)
  /reset        forget the conversation
  /help         show this
  /quit         leave (or Ctrl-D); Ctrl-C breaks an answer off"""


class Conversation:
    """Feeds a session, shows and plays what comes back.

    Args:
        assistant: From ``open_assistant``.
        model: Its name, for output.
        options: Sampling options of every answer.
        system: System prompt.
        voice: Voice of spoken answers.
        json: Print nothing but rows of JSON on stdout.
        out_dir: Folder for spoken answers, ``answer-001.wav`` and so on.
    """

    def __init__(
        self,
        assistant: Assistant,
        model: str,
        options: dict[str, Any],
        system: str | None = None,
        voice: str | None = None,
        json: bool = False,
        out_dir: str | None = None,
    ) -> None:
        from vivavoce.inference.session import Session

        begin = [{"role": "system", "content": system}] if system else []
        self._session = Session(assistant, messages=begin, **options)
        self._assistant, self._model, self._json = assistant, model, json
        self._voice, self._out_dir = voice, Path(out_dir) if out_dir else None
        self._say = assistant.speaks
        self._typed = sys.stdin.isatty()
        self._plays = self._say and self._typed and not json and can_play()
        self._last: Reply | None = None
        self._num_answers = 0
        if voice is not None:
            assistant.check_can_answer(True, voice)

    def interactive(self) -> bool:
        """Answer questions until the input ends; False if a line of a pipe could not be answered."""
        fine = True
        if self._typed and not self._json:
            note(f"Talking with {self._model}. /help lists what else there is; Ctrl-D leaves.")
            if self._say and not self._plays and self._out_dir is None:
                note("No loudspeaker: answers are written; --out-dir DIR or /save FILE keeps their sound.")
        while (line := self._read_line()) is not None:
            if line in ("/quit", "/exit"):
                break
            try:
                self._take(line)
            except VivavoceError as error:
                print_error(str(error))
                fine = self._typed
        return fine

    def _read_line(self) -> str | None:
        """The next line; None at the end. Ctrl-C at an empty prompt says how to leave."""
        if not self._typed:
            line = sys.stdin.readline()
            return line.strip() if line else None
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (editing and recall)
        while True:
            try:
                if self._json:
                    print(PROMPT, end="", file=sys.stderr, flush=True)
                return input("" if self._json else PROMPT).strip()
            except EOFError:
                print(file=sys.stderr)
                return None
            except KeyboardInterrupt:
                note("\nCtrl-D leaves.")

    def _take(self, line: str) -> None:
        """One line of input: a question or a command."""
        if not line:
            return
        if not line.startswith("/"):
            self._session.feed_text(line)
            self._answer()
            return
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/audio": self._ask_with_file,
            "/mic": lambda _: self._ask_by_microphone(),
            "/say": self._switch_speech,
            "/voice": self._choose_voice,
            "/save": self._save,
            "/reset": lambda _: self._reset(),
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

    # commands

    def _ask_with_file(self, file: str) -> None:
        from vivavoce.audio.files import read_audio

        check_recording(file)
        waveform, rate = read_audio(file)
        self._session.feed_audio(waveform if waveform.ndim == 1 else waveform.mean(axis=0), rate)
        self._answer()

    def _ask_by_microphone(self) -> None:
        if not self._typed:
            raise ConfigError("/mic needs a terminal, where Enter ends what you say; use /audio FILE.")
        if not self._assistant.hears:
            raise ModelError(f"{self._model} does not hear; type your question.")
        heard_s, told = 0.0, False
        try:
            for samples, rate in listen():
                if not told:
                    note("listening; Enter ends it, Ctrl-C drops it.")
                    told = True
                self._session.feed_audio(samples, rate)  # read while you speak
                heard_s += len(samples) / rate
        except KeyboardInterrupt:
            self._session.forget_input()
            print_stop("dropped.")
            return
        if not heard_s:
            raise ConfigError("nothing was recorded; see that a microphone is there and not muted.")
        self._answer()

    def _switch_speech(self, word: str) -> None:
        if word not in ("on", "off", ""):
            raise ConfigError(f"/say {word}: wanted on or off.")
        if word == "on" and not self._assistant.speaks:
            raise ModelError(f"{self._model} answers in text only.")
        self._say = word == "on" if word else self._say
        note(f"answers are {'spoken' if self._say else 'written'}.")

    def _choose_voice(self, name: str) -> None:
        if name:
            self._assistant.check_can_answer(True, name)
            self._voice = name
        voices = ", ".join(self._assistant.voices) or "one without a name"
        note(f"voice: {self._voice or 'the first'}; there are: {voices}.")

    def _save(self, file: str) -> None:
        save_answer(self._last, file)
        note(f"saved {file}")

    def _reset(self) -> None:
        self._session.reset()
        self._last = None

    # answers

    def _answer(self) -> None:
        """Have the session answer what was fed; Ctrl-C keeps of the answer what was given out."""
        from vivavoce.inference.collect import collect

        rate = self._assistant.sample_rate if self._say else None
        stream = self._session.respond(audio=self._say, voice=self._voice if self._say else None)
        with contextlib.ExitStack() as stack:
            stopped = stack.enter_context(_stop_asked())
            player = Loudspeaker(rate) if rate and self._plays else None
            if player is not None:
                stack.callback(player.close)
            try:
                deltas = self._played(stream, player, stopped)
                reply = collect(deltas if self._json else show(deltas), rate)
            except BaseException:
                if self._session.answering:
                    self._session.interrupt()
                raise
            while player is not None and player.left_s > 0 and not stopped:
                time.sleep(0.02)
            if stopped:
                self._session.interrupt(player.played_s if player is not None else None)
        if stopped:
            print_stop("stopped.")
        self._last = reply
        self._tell(reply)

    def _played(
        self, deltas: Iterator[Delta], player: Loudspeaker | None, stopped: list[bool]
    ) -> Iterator[Delta]:
        for delta in deltas:
            if player is not None and delta.audio is not None:
                player.push(delta.audio)
            yield delta
            if stopped:
                return

    def _tell(self, reply: Reply) -> None:
        """The file of a spoken answer, and how long things took."""
        out = None
        if self._out_dir is not None and reply.audio is not None and len(reply.audio):
            self._num_answers += 1
            out = str(self._out_dir / f"answer-{self._num_answers:03}.wav")
            save_answer(reply, out)
        if self._json:
            print_json(reply_row(reply, self._model, out), indent=None)
            return
        if out:
            note(f"saved {out}")
        if sys.stderr.isatty():
            note(latency_line(reply.timings))


def latency_line(timings: dict[str, float]) -> str:
    """When the parts of an answer came, from the end of the question on."""
    names = {
        "transcript_s": "heard",
        "ttft_s": "first word",
        "first_audio_s": "first sound",
        "total_s": "all",
    }
    parts = [f"{name} {1000 * timings[key]:.0f}" for key, name in names.items() if key in timings]
    parts[-1] += " ms"
    if timings.get("audio_s"):
        parts.append(f"{timings['audio_s']:.1f} s of speech, RTF {timings['rtf']:.2f}")
    return f"[{' · '.join(parts)}]"


@contextlib.contextmanager
def _stop_asked() -> Iterator[list[bool]]:
    """A list that Ctrl-C fills, so that an answer is broken off between two pieces; a second one ends at once."""
    asked: list[bool] = []

    def note_it(*_: Any) -> None:
        if asked or not sys.stdin.isatty():
            raise KeyboardInterrupt
        asked.append(True)

    before = signal.signal(signal.SIGINT, note_it)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
