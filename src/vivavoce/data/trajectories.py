"""Read emotional-trajectory dialogues in every published form, described and checked as they are read.

``read_trajectories("task1_3.jsonl")`` takes the HumDial challenge's lines and the fine-tuned SALMONN's list,
told apart by what is in them, with any number of turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from vivavoce.audio.files import AudioInfo
from vivavoce.audio.joining import CROP_S
from vivavoce.base.errors import DataError
from vivavoce.data.dialogues import Dialogue
from vivavoce.data.trajectory_facts import Problem, TrajectoryFacts, check, describe, probe
from vivavoce.data.trajectory_files import Fault, read_items
from vivavoce.data.trajectory_forms import PUBLISHED_PROMPT, annotation, conversation, joined_conversation
from vivavoce.data.trajectory_rows import BrokenRowError, read_row


def read_trajectories(
    path: str | os.PathLike[str],
    audio_root: str | os.PathLike[str] | None = None,
    encoding: str = "utf-8",
    echo: Callable[[str], object] | None = None,
) -> TrajectorySet:
    """Read a file of dialogues; broken rows are kept apart with their reasons.

    Args:
        path: JSON lines or a JSON list, in any of the forms of ``trajectory_rows``.
        audio_root: Folder that names of recordings are relative to; the file's own by default.
        encoding: Of the file.
        echo: Is given the description and the problems as text, such as ``print``.

    Raises:
        DataError: The file cannot be read, is empty, or no row of it can be used.
    """
    file = Path(path)
    root = file.parent if audio_root is None else Path(audio_root)
    items, faults = read_items(file, encoding)
    dialogues = []
    for item in items:
        try:
            dialogues.append(read_row(item.value, item.place, root, file.name))
        except BrokenRowError as error:
            known = item.value.get("dialogue_id") if isinstance(item.value, dict) else None
            faults.append(Fault(item.place, error.kind, str(error), "" if known is None else str(known)))
    if not dialogues:
        first = "; ".join(map(str, faults[:3])) or "it has no rows"
        raise DataError(f"no row of {file} can be used: {first}.")
    made = TrajectorySet(file, root, tuple(dialogues), tuple(faults))
    if echo is not None:
        echo(str(made))
    return made


@dataclass(frozen=True)
class TrajectorySet(Sequence[Dialogue]):
    """Dialogues of one file, in its order.

    Attributes:
        path: The file.
        audio_root: Where its recordings are looked for.
        dialogues: The usable rows.
        faults: The others.
    """

    path: Path
    audio_root: Path
    dialogues: tuple[Dialogue, ...]
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.dialogues)

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Dialogue, ...]: ...
    def __getitem__(self, index: int | slice) -> Dialogue | tuple[Dialogue, ...]:
        return self.dialogues[index]

    def __str__(self) -> str:
        problems = self.check()
        said = [f"problem     {problem}" for problem in problems] or ["problems    none"]
        return "\n".join([str(self.path), str(self.describe()), *said])

    @cached_property
    def _audio(self) -> dict[str, Any]:
        return probe(self.dialogues)

    def describe(self) -> TrajectoryFacts:
        """Count what is in the set; recordings are looked at once, by their headers."""
        return describe(self.dialogues, self.faults, self._audio)

    def check(self) -> list[Problem]:
        """List what is wrong, by kind, rows left out included; [] for nothing."""
        return check(self.dialogues, self.faults, self._audio)

    def rows(
        self,
        joined: bool = False,
        suffix: bool = True,
        present_only: bool = False,
        *,
        typed_question: bool = False,
        typed_transcripts: bool = False,
        spoken_replies: bool = False,
        prompt: str = PUBLISHED_PROMPT,
        trailing_gap: bool = True,
        crop_s: float | None = CROP_S,
    ) -> Iterator[dict[str, Any]]:
        """Give the dialogues as conversations, one row each.

        Args:
            joined: All turns in one clip, read now and cut, as the published fine-tune does; otherwise a clip
                per turn, by its path.
            suffix: End the answer with the line of emotions.
            present_only: Leave out dialogues with a recording that is missing or cannot be read.
            typed_question: See ``trajectory_forms.conversation``; not for ``joined``.
            typed_transcripts: As above.
            spoken_replies: As above.
            prompt: See ``trajectory_forms.joined_conversation``; only for ``joined``.
            trailing_gap: As above.
            crop_s: As above.

        Raises:
            AudioError, DataError: As ``trajectory_forms.joined_conversation``.
        """
        for dialogue in self.dialogues:
            if present_only and not all(self._is_present(turn.path) for turn in dialogue.turns):
                continue
            source = self.path.name
            if joined:
                yield joined_conversation(dialogue, source, suffix, prompt, trailing_gap, crop_s)
            else:
                yield conversation(
                    dialogue, source, suffix, typed_question, typed_transcripts, spoken_replies
                )

    def to_annotation(self, suffix: bool = True) -> dict[str, Any]:
        """The set as upstream SALMONN's training file, ``{"annotation": [{"path", "expand_wav", ...}]}``.

        Raises:
            DataError: A dialogue lacks a recording or an answer.
        """
        return {"annotation": [annotation(dialogue, suffix) for dialogue in self.dialogues]}

    def _is_present(self, path: str) -> bool:
        return isinstance(self._audio.get(path), AudioInfo)
