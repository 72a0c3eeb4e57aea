"""``vivavoce chat --task``: what a model was trained to be asked, and emotional trajectories over several turns."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.cli.recordings import expand_recordings
from vivavoce.cli.screen import note, print_error, print_json, print_result, print_stop, printable, working

if TYPE_CHECKING:
    from vivavoce.inference.assistant import Assistant
    from vivavoce.inference.trajectory import TrajectoryReply

TRAJECTORY = "trajectory"
PROMPT = "recordings> "


def task_text(assistant: Assistant, task: str, question: str | None) -> str | None:
    """The text that a model was trained to be asked for a task.

    Args:
        assistant: The model.
        task: One of its prompts.
        question: Goes to the place ``{}`` of the prompt.

    Raises:
        ConfigError: The model has no such prompt, or the prompt has no place for a question, or wants one.
    """
    prompts = getattr(assistant.model.config.audio_in, "prompts", None) or {}
    if task not in prompts:
        near = difflib.get_close_matches(task, [*prompts, TRAJECTORY], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(dict.fromkeys([*prompts, TRAJECTORY]))
        raise ConfigError(f"{assistant.name} has no prompt for task {task!r}.{hint} It knows: {known}.")
    form: str = prompts[task]
    if "{}" in form and not question:
        raise ConfigError(f"task {task!r} asks a question of yours; give it with --text.")
    if "{}" not in form and question:
        raise ConfigError(
            f"task {task!r} has no place for a question; leave out --text, or leave out --task."
        )
    return form.replace("{}", question or "") or None


class Trajectories:
    """Asks about emotions over the turns of dialogues, one recording a turn.

    Args:
        assistant: A model that hears.
        model: Its name, for output.
        options: Sampling options of every answer.
        joined: Give all turns as one clip cut at 30 s, as models that were fine-tuned so heard them.
        question: Instead of the usual one.
        json: Print rows of JSON only.
    """

    def __init__(
        self,
        assistant: Assistant,
        model: str,
        options: dict[str, Any],
        joined: bool,
        question: str | None,
        json: bool,
    ) -> None:
        self._assistant, self._model, self._options = assistant, model, options
        self._joined, self._question, self._json = joined, question, json

    def ask(self, files: Sequence[str]) -> TrajectoryReply:
        """Ask about one dialogue and print the answer.

        Raises:
            VivavoceError: A recording or option that cannot be used.
        """
        from vivavoce.inference.trajectory import ask_trajectory

        with working("listening"):
            reply = ask_trajectory(
                self._assistant, files, question=self._question, joined=self._joined, **self._options
            )
        if self._json:
            print_json({"model": self._model, "files": list(files), **reply.as_dict()})
            return reply
        print_result(printable(reply.description))
        if reply.emotions:
            print_result(f"emotions  {' -> '.join(map(printable, reply.emotions))}")
        elif reply.understood:
            note("the answer names no sequence of emotions.")
        if reply.cut_s:
            note(f"the last {reply.cut_s:.1f} s were cut off by --joined.")
        return reply

    def interactive(self) -> bool:
        """Read recordings line by line: a path, a comma list, or @list.txt; False if a line of a pipe failed."""
        typed, fine = sys.stdin.isatty(), True
        if typed and not self._json:
            note(
                "One line is one dialogue: turn1.wav,turn2.wav or @list.txt with a path a line. /quit leaves."
            )
        while True:
            try:
                line = input(PROMPT if typed and not self._json else "").strip()
            except EOFError:
                return fine
            if line in ("/quit", "/exit", "quit", "exit"):
                return fine
            if not line:
                continue
            try:
                self.ask(expand_recordings(line))
            except VivavoceError as error:
                print_error(str(error))
                fine = typed
            except KeyboardInterrupt:
                if not typed:
                    raise
                print_stop("stopped.")
