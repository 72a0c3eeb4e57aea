"""The turns of spoken dialogues as rows of their own, answered by one word: what ears learn from first.

A whole answer has some fifty letters and one of them, the first of the mood, is to be heard; the rest is form, and
drowns the gradient that says what was heard. One word has no form.

python recipes/trajectory_small/split_turns.py runs/trajectory_small/learned runs/trajectory_small/learned_turns
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vivavoce.data.build.texts.trajectory import WORDS
from vivavoce.data.conversation import Conversation, Message, Text
from vivavoce.data.manifest import write_set
from vivavoce.data.rows import RowFile


def split(row: Conversation) -> list[Conversation]:
    """A row for each spoken turn, with its own recording, and its mood in one word."""
    made = []
    for number, part in enumerate(row.audio_parts()):
        answer = Message("assistant", [Text(WORDS["en"][part.labels["emotion"]])])
        asked = Message("user", [replace(part, audio=0)])
        made.append(
            Conversation(
                f"{row.id}-{number}",
                [asked, answer],
                [row.audios[part.audio]],
                license=row.license,
            )
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dialogues", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    rows = [turn for row in RowFile(given.dialogues) for turn in split(row)]
    write_set(given.out, rows)
    print(f"{given.out}  {len(rows)} rows")


if __name__ == "__main__":
    main()
