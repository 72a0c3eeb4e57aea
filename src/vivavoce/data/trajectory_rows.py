"""Rows of the published emotional-dialogue files to dialogues.

Three forms. "Turns": the HumDial challenge's ``{"dialogue_id", "turns": [{"turn_id", "text", "emotion",
"split_audio_file", "response_txt"}]}``. "Lines": the fine-tuned SALMONN's ``{"dialogue_id", "task",
"input_text", "target_text", "audio_files", "emotion_sequence"}`` with a line of ``input_text`` per message and
an instruction as the last one. "Numbered": the output of that repository's converter, where ``input_text`` is
a Chinese protocol with numbered turns and there are no emotions.
"""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError
from vivavoce.data.dialogues import TRAJECTORY, Dialogue, UserTurn
from vivavoce.tokens.trajectory import read_emotion

TASKS = {"1": TRAJECTORY, "2": "reasoning", "3": "empathy"}
COUNTS_DIFFER, NOT_A_DIALOGUE, WRONG_NUMBERS = "turn counts differ", "no dialogue", "turn numbers"

_TASK = re.compile(r"task[_ -]?([1-3])(?!\d)", re.IGNORECASE)
_SPEAKER = re.compile(r"^[ \t]*第[ \t]*(\d+)[ \t]*轮[ \t]*(用户说|模型回)[ \t]*[:：][ \t]*", re.MULTILINE)
_QUOTED = re.compile(r'\s*["“](.*)["”]\s*', re.DOTALL)
_QUOTED_THEN_ORDER = re.compile(r'\s*["“](.*)["”][ \t]*\n\s*(.*?)\s*', re.DOTALL)


class BrokenRowError(DataError):
    """A row that gives no dialogue.

    Args:
        kind: Of fault.
        reason: What was seen and what was wanted.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def read_row(value: Any, place: str, root: Path, file_name: str) -> Dialogue:
    """Make a dialogue of a row in any of the three forms.

    Args:
        value: The JSON value.
        place: Where it stands, kept in the dialogue.
        root: Folder that names of recordings are relative to.
        file_name: Of the file; tells the task where the row does not.

    Raises:
        BrokenRowError: The row is of none of the forms, or its parts do not fit together.
    """
    if not isinstance(value, Mapping):
        raise BrokenRowError(NOT_A_DIALOGUE, f"{_short(value)}; wanted an object")
    if "turns" in value:
        turns, order = _from_turns(value, root), ""
    elif "input_text" in value:
        turns, order = _from_text(value, root)
    else:
        keys = ", ".join(map(str, value)) or "no keys"
        raise BrokenRowError(NOT_A_DIALOGUE, f"{keys}; wanted 'turns', or 'input_text' with 'audio_files'")
    named = _text(value, "task")
    found = next((m for m in map(_TASK.search, (named, file_name, turns[0].audio)) if m), None)
    task = TASKS[found[1]] if found and (_TASK.search(named) or not named) else named or TRAJECTORY
    identity = value.get("dialogue_id")
    return Dialogue("" if identity is None else str(identity), place, task, named, tuple(turns), order)


def _from_turns(row: Mapping[str, Any], root: Path) -> list[UserTurn]:
    given = row["turns"]
    if not isinstance(given, list) or not given or not all(isinstance(turn, Mapping) for turn in given):
        raise BrokenRowError(NOT_A_DIALOGUE, f"turns is {_short(given)}; wanted a list of one turn or more")
    numbers = [turn.get("turn_id", i) for i, turn in enumerate(given, 1)]
    if not all(isinstance(n, int) or (isinstance(n, str) and n.isdecimal()) for n in numbers):
        raise BrokenRowError(WRONG_NUMBERS, f"turn_id is {_short(numbers)}; wanted whole numbers")
    numbers = [int(n) for n in numbers]
    if len(set(numbers)) < len(numbers):
        raise BrokenRowError(WRONG_NUMBERS, f"turn_id is {numbers}; wanted each number once")
    turns = []
    for number, turn in sorted(zip(numbers, given, strict=True), key=lambda pair: pair[0]):
        where = f" of turn {number}"
        emotion = _text(turn, "emotion", "input_emotion", where=where)
        turns.append(
            UserTurn(
                number=number,
                text=_text(turn, "text", "input_text", where=where),
                emotion=read_emotion(emotion),
                emotion_given=emotion,
                reply=_text(turn, "response_txt", "response_text", where=where),
                reply_audio=_place(root, _text(turn, "response_audio", where=where)),
                **_recording(root, _text(turn, "split_audio_file", where=where)),
            )
        )
    return turns


def _from_text(row: Mapping[str, Any], root: Path) -> tuple[list[UserTurn], str]:
    written = _text(row, "input_text").replace("\r\n", "\n")
    texts, replies, order = _numbered(written) if _SPEAKER.search(written) else _lines(written)
    files, emotions = _words(row, "audio_files"), _words(row, "emotion_sequence")
    if len(files) != len(texts) or len(emotions) not in (0, len(texts)):
        raise BrokenRowError(
            COUNTS_DIFFER,
            f"the text has {len(texts)} user turns, audio_files {len(files)}, emotion_sequence {len(emotions)}",
        )
    answers = [*replies, _text(row, "target_text")]
    turns = []
    for i, (text, file, reply) in enumerate(zip(texts, files, answers, strict=True)):
        emotion = emotions[i] if emotions else ""
        label = read_emotion(emotion)
        turns.append(
            UserTurn(i + 1, text, emotion=label, emotion_given=emotion, reply=reply, **_recording(root, file))
        )
    return turns, order


def _lines(written: str) -> tuple[list[str], list[str], str]:
    """User and assistant take turns line by line; then a question of the user, and an instruction."""
    lines = [line.strip() for line in written.rstrip("\n").split("\n")]
    if len(lines) % 2:
        raise BrokenRowError(
            COUNTS_DIFFER,
            f"input_text has {len(lines)} lines; wanted user, reply, ..., question, instruction: an even number",
        )
    return lines[:-1:2], lines[1:-1:2], lines[-1]


def _numbered(written: str) -> tuple[list[str], list[str], str]:
    """A protocol with "turn N, user says" and "turn N, model answers" before each message."""
    marks = list(_SPEAKER.finditer(written))
    texts: list[str] = []
    replies: list[str] = []
    order = ""
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        said = written[mark.end() : following.start() if following else len(written)]
        last = None if following else _QUOTED_THEN_ORDER.fullmatch(said)
        quoted = last or _QUOTED.fullmatch(said)
        order = last[2] if last else ""
        kept = texts if mark[2] == "用户说" else replies
        kept.append((quoted[1] if quoted else said).strip())
        if int(mark[1]) != len(kept) or len(texts) - len(replies) not in (0, 1):
            raise BrokenRowError(WRONG_NUMBERS, f"{mark[0].strip()!r} is out of order")
    if len(replies) != len(texts) - 1:
        raise BrokenRowError(
            COUNTS_DIFFER, f"{len(texts)} user turns and {len(replies)} replies; wanted one reply less"
        )
    return texts, replies, order


def _recording(root: Path, name: str) -> dict[str, str]:
    return {"audio": name, "path": _place(root, name)}


def _place(root: Path, name: str) -> str:
    return str(root / name) if name else ""


def _text(row: Mapping[str, Any], *keys: str, where: str = "") -> str:
    """The first of the keys that has something, as text without space around it."""
    value = next((row[key] for key in keys if row.get(key) is not None), "")
    if not isinstance(value, str):
        raise BrokenRowError(NOT_A_DIALOGUE, f"{keys[0]}{where} is {_short(value)}; wanted text")
    return value.strip()


def _words(row: Mapping[str, Any], key: str) -> Sequence[str]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise BrokenRowError(NOT_A_DIALOGUE, f"{key} is {_short(value)}; wanted a list of texts")
    return [word.strip() for word in value]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
