"""`instruct`: what is spoken, what stays text, and what nobody would say aloud."""

from __future__ import annotations

from typing import Any

import pytest
from tests.data.build.stand_ins import Humming, ask, assert_pure, check_settings, needs, run

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.speech.unspeakable import unspeakable
from vivavoce.data.conversation import Audio, Text

VOICES = {"voices": ["service:m#a", "service:m#b"], "language": "en"}


def context(seed: int = 0) -> Context:
    return Context(seed=seed, services={"tts": Humming})


def kinds(results: list[Any]) -> list[str]:
    return [r.kind if isinstance(r, Fault) else r[0].task for r in results]


def test_spoken_questions_with_typed_answers_and_a_share_of_text() -> None:
    rows = [ask(i, f"Question number {i}?", f"```answer {i}```") for i in range(60)]
    rows += [ask(60, "Explain `f(x)`", "It calls f."), ask(61, "How so?")]
    settings = {"text_share": 0.2, "speak": VOICES}
    made = assert_pure("instruct", settings, context(), rows, elsewhere=False, sizes=(1, 8))
    assert kinds(made[60:]) == ["unspeakable", "unanswered"]
    assert made[60].filtered and not made[61].filtered
    typed = [r[0] for r in made[:60] if not r[0].audios]
    assert 5 <= len(typed) <= 20
    for result, given in zip(made[:60], rows, strict=False):
        row = result[0]
        user, assistant = row.messages
        assert user.words == given.messages[0].text and assistant == given.messages[1]
        assert [type(p) for p in user.parts] == [Text if row in typed else Audio]
    everything = run("instruct", {**settings, "text_share": 1.0}, context(), rows[:61])
    assert [r[0].messages for r in everything] == [r.messages for r in rows[:61]]  # typed rows may hold code


def test_audio_to_audio() -> None:
    rows = [
        ask(0, "Say hello.", "Hello!"),
        ask(1, "Say code.", "print(1 == 2)"),
        ask(2, "Go on.", "word " * 30),
    ]
    settings = {"spoken": ["user", "assistant"], "max_answer_words": 20, "speak": VOICES}
    made = assert_pure("instruct", settings, context(), rows, elsewhere=False)
    assert kinds(made) == ["chat", "unspeakable", "too_long"]
    row = made[0][0]
    assert [[type(p) for p in m.parts] for m in row.messages] == [[Audio], [Text, Audio]]
    assert len({p.speaker for p in row.audio_parts()}) == 2 and row.messages[1].text == "Hello!"


def test_long_prompts_are_left_out_and_recordings_stay() -> None:
    long, heard = ask(0, "word " * 9, "yes"), ask(1, "", "yes")
    heard.messages[0].parts = [Audio("a.wav", transcript="word " * 9)]
    heard.messages += ask(2, "And now?", "no").messages
    settings = {"max_words": 8, "speak": VOICES}
    first, second = run("instruct", settings, context(), [long, heard])
    assert (
        isinstance(first, Fault) and first.kind == "too_long" and "9 words" in first.reason and first.filtered
    )
    assert (
        second[0].messages[0] == heard.messages[0]
        and second[0].messages[2].audios[0].transcript == "And now?"
    )


def test_real_voices_elsewhere() -> None:
    needs("espeak")
    rows = [ask(i, f"Question number {i}?", "Yes.") for i in range(4)]
    made = assert_pure(
        "instruct", {"text_share": 0.4, "spoken": ["user", "assistant"]}, context(3), rows, sizes=(3,)
    )
    assert {bool(r[0].audios) for r in made} == {True, False}
    assert not any(isinstance(r, Fault) for r in made) and made[0][0].source == "made up"


SAYABLE = [
    "What is the capital of France?", "Tell me a story about a dragon; make it short.", "I let him (my brother) go.",
    "Write 3 tips for (better) sleep - quickly!", "It's 5:30 p.m. and I have $20.", "Is 7 > 3, or 3/4 more than 0.5?",
    "Should I import cars from Japan?", "Explain `recursion` to a child.", 'He said "stop", didn\u2019t he?',
    "Should the public (me included) pay?", "Let x be 3. What does void mean?", "Call 555-0100 at AT&T.",
    "Eggs, milk, bread and butter\nor tea, please", "Name a class of function: odd or even?", "Pick one:\n- tea\n- me",
]  # fmt: skip
UNSAYABLE = {
    "code": ["def f(x):\n  return x", "Run print(x == y)", "os.path.join(a)", "What does `a.b()` do?", "let x = 3",
             "int main() { return 0; }", "SELECT a FROM b", "```\nhello\n```", "x += 1;\ny"],
    "address": ["See https://x.y/z", "mail a.b@c.de", "Run /usr/bin/env now", "open www.site.com", "C:\\temp"],
    "table": ["| a | b |\n|---|---|", "a,b,c,d,e\n1,2,3,4,5", "one\ttwo\tthree"],
    "formula": ["What is \\frac{1}{2}?", "Solve $x^2 = 4$", "Is 3 \u2264 4?"],
    "markup": ["<b>hi</b>", "[here](there)", "Dear {{name}}"],
    "number": ["Is 1234567890123456 prime?", "Find deadbeef12345678"],
    "picture": ["What is \U0001f600?"],
    "signs": ["@#$%^&*()=="],
}  # fmt: skip


def test_what_people_say_aloud() -> None:
    assert [(text, unspeakable(text)) for text in SAYABLE if unspeakable(text)] == []
    found = {text: (unspeakable(text) or ("", ""))[0] for texts in UNSAYABLE.values() for text in texts}
    assert found == {text: kind for kind, texts in UNSAYABLE.items() for text in texts}


def test_settings_are_checked_before_work() -> None:
    check_settings("instruct", {"spoken": ["user"], "speak": VOICES})
    for settings, message in (
        ({"spoken": []}, "wanted 'user'"),
        ({"text_share": 2}, "0 to 1"),
        ({"speak": {"roles": ["user"]}}, "say who is spoken by spoken"),
        ({"speak": {"speeds": [1, 1]}}, "did you mean 'speed'"),
        ({"speak": {"sample_rate": 10}}, "speak: sample_rate"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_settings("instruct", settings)
    with pytest.raises(ConfigError, match="needs the service 'tts'"):
        run("instruct", {"speak": VOICES}, Context(), [])
