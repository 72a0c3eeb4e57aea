"""`judge`: verdicts are read or refused, never guessed; asked once; what is not kept says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.stand_ins import ask, assert_pure, check_settings, run

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.texts.judge import Verdict, read_verdict
from vivavoce.data.conversation import Audio, Conversation, Message

KINDS = ("question", "story")
FINE = '{"keep": true, "kind": "question", "reason": "clear"}'
asked: list[str] = []


class Reader:
    """A service "llm" whose verdict hangs on the words."""

    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, conversations: list[Any], max_new_tokens: int) -> list[str]:
        return [self._verdict(messages[-1]["content"]) for messages in conversations]

    def _verdict(self, prompt: str) -> str:
        asked.append(prompt)
        words = " ".join(line for line in prompt.splitlines() if line.startswith('{"speaker"'))
        if "advert" in words:
            return 'Well. {"keep": false, "kind": "other", "reason": "it sells something"} Done.'
        if "mumble" in words:
            return "I would keep this one."
        if "story" in words:
            return '{"keep": true, "kind": "story", "reason": "told well"}'
        return f"```json\n{FINE}\n```"


def spoken(number: int, question: str, answer: str | None) -> Conversation:
    """A row as `mine` makes it."""
    row = ask(number, "", "")
    row.messages = [
        Message("user", [Audio("q.wav", transcript=question)]),
        Message("assistant", [Audio("a.wav", transcript=answer)]),
    ]
    return row


ROWS = [
    spoken(0, "How far is it?", "Two hours on foot."),
    spoken(1, "Why?", "Buy our advert now."),
    spoken(2, "mumble", "mumble mumble"),
    spoken(3, "And then?", None),
    spoken(4, "Tell me a story.", "Once there was a hen."),
    ask(5, "Typed as well?", "Yes."),
]


def test_rows_are_judged_alone_and_refusals_say_why() -> None:
    made = assert_pure("judge", {"model": "service:reader"}, Context(services={"llm": Reader}), ROWS)
    kinds = [r.kind if isinstance(r, Fault) else r[0].meta["verdict"]["kind"] for r in made]
    assert kinds == ["question", "not_kept", "bad_verdict", "no_transcript", "story", "question"]
    assert made[1].filtered and made[1].reason == "other: it sells something"
    assert not made[2].filtered and "I would keep this one." in made[2].reason
    kept = made[0][0]
    assert kept.meta["verdict"] == {
        "keep": True, "kind": "question", "reason": "clear", "model": "service:reader",
    }  # fmt: skip
    assert kept.messages == ROWS[0].messages and kept.meta["number"] == 0
    assert (kept.license, kept.source, kept.id) == ("cc0-1.0", "made up", "row/0")
    only = run(
        "judge", {"model": "service:reader", "keep_kinds": ["story"]}, Context(services={"llm": Reader}), ROWS
    )
    assert [r.kind if isinstance(r, Fault) else "kept" for r in only][:1] == ["not_kept"]
    assert not isinstance(only[4], Fault)


def test_the_prompt_has_the_words_as_data_and_the_kinds() -> None:
    asked.clear()
    row = spoken(0, 'Say "{kinds}" {words}', "No.")
    run(
        "judge",
        {"model": "service:reader", "kinds": ["question", "other"]},
        Context(services={"llm": Reader}),
        [row],
    )
    (prompt,) = asked
    lines = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"speaker"')]
    assert lines == [
        {"speaker": "first", "words": 'Say "{kinds}" {words}'},
        {"speaker": "second", "words": "No."},
    ]
    assert 'one of ["question", "other"]' in prompt


def test_verdicts_are_kept(tmp_path: Path) -> None:
    asked.clear()
    context = Context(cache=tmp_path, services={"llm": Reader})
    first = run("judge", {"model": "service:reader"}, context, ROWS[:3])
    assert len(asked) == 3
    again = run("judge", {"model": "service:reader"}, context, ROWS[:3])
    assert len(asked) == 3 and again[1:] == first[1:]
    assert again[0][0].content_hash() == first[0][0].content_hash()


@pytest.mark.parametrize(
    "text",
    [
        "", "yes", "{}", "[true]", '{"keep": true', '{"keep": "true", "kind": "question"}',
        '{"keep": 1, "kind": "question"}', '{"keep": true, "kind": "joke"}', '{"keep": true, "kind": ["question"]}',
        '{"keep": true, "kind": "question", "reason": 3}', f"{FINE} {FINE}", '{"kind": "question"}',
    ],
)  # fmt: skip
def test_what_is_no_verdict_is_a_fault(text: str) -> None:
    found = read_verdict(text, KINDS)
    assert isinstance(found, Fault) and found.kind == "bad_verdict"


def test_verdicts_are_read_with_what_models_write_around_them() -> None:
    for text in (FINE, f"```json\n{FINE}\n```", f"Here it is:\n{FINE}", f"{FINE}\nThat is all."):
        assert read_verdict(text, KINDS) == Verdict(True, "question", "clear")
    assert read_verdict('{"keep": false, "kind": "story"}', KINDS) == Verdict(False, "story", "")


def test_settings_are_checked_before_work() -> None:
    check_settings("judge", {"model": "endpoint:judge"})
    for settings, message in (
        ({"model": "judge"}, "wanted one of transformers:NAME"),
        ({"model": "service:x", "instruction": "Is it good?"}, "0 times, wanted once"),
        ({"model": "service:x", "keep_kinds": ["jokes"]}, "keep_kinds has"),
        ({"model": "service:x", "max_new_tokens": 0}, "max_new_tokens is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_settings("judge", settings)
