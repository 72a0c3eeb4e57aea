"""`ask`: an instruction beside the user's last recording, and the transcript or the given answer after it."""

from __future__ import annotations

import pytest
from tests.data.build.stand_ins import assert_pure, check_settings, run

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.conversation import Audio, Conversation, Message, Text

CONTEXT = Context(seed=3)
PROMPTS = ["Write it down.", "What is said?", "Say it again."]


def heard(number: int, transcript: str | None = "a small boat", answer: str = "") -> Conversation:
    turns = [Message("user", [Audio(f"{number}.wav", transcript=transcript)])]
    turns += [Message("assistant", [Text(answer)])] if answer else []
    return Conversation(f"r{number}", turns, source="made up", license="cc0-1.0")


@pytest.mark.parametrize("where", ["after", "before"])
@pytest.mark.parametrize("answer", ["given", "transcript"])
def test_instruction_and_answer(where: str, answer: str) -> None:
    rows = [heard(i, answer="It sails on." * (i % 2)) for i in range(40)]
    found = run("ask", {"prompts": PROMPTS, "where": where, "answer": answer}, CONTEXT, rows)
    asked = []
    for i, ((row,), before) in enumerate(zip(found, rows, strict=True)):
        typed = 1 if where == "after" else 0
        assert row.task == "asr" and [m.role for m in row.messages] == ["user", "assistant"]
        assert row.messages[0].parts[1 - typed] == before.messages[0].parts[0]
        asked.append(row.messages[0].parts[typed].text)
        kept = answer == "given" and i % 2
        assert row.messages[1].text == ("It sails on." if kept else "a small boat")
    assert set(asked) == set(PROMPTS)


def test_rows_stay_as_they_are_and_depend_on_nothing_else() -> None:
    assert_pure("ask", {"prompts": PROMPTS}, CONTEXT, [heard(i) for i in range(4)], elsewhere=False)
    (row,) = run("ask", {"task": None}, CONTEXT, [heard(0)])[0]
    assert row.task == heard(0).task


def test_rows_put_aside() -> None:
    typed = Conversation("t", [Message("user", [Text("hello")])])
    found = run("ask", {}, CONTEXT, [typed, heard(1, None), heard(2, " "), heard(3, None, "yes")])
    kinds = [made.kind if isinstance(made, Fault) else "" for made in found]
    assert kinds == ["no_recording", "no_answer", "no_answer", ""]


def test_settings() -> None:
    for prompts in ([], ["  "]):
        with pytest.raises(ConfigError, match="one instruction or more"):
            check_settings("ask", {"prompts": prompts})
