"""A session whose history is replaced answers as one that had it from the beginning."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.base.errors import SessionError
from vivavoce.inference.assistant import Assistant, load
from vivavoce.inference.session import Session


@pytest.fixture(scope="module")
def nano() -> Assistant:
    return load("nano")


SAID = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]
QUESTION = "what is nine plus four"


def answer(session: Session) -> str:
    return "".join(delta.text for delta in session.respond())


def test_another_history(nano: Assistant) -> None:
    session = Session(nano)
    for _ in range(2):
        session.feed_text("what is two plus three")
        answer(session)
    session.replace_history(SAID)
    assert session.messages == SAID
    session.feed_text(QUESTION)
    assert answer(session) == "thirteen"
    own = nano.chat([*SAID, {"role": "user", "content": QUESTION}])
    assert session.finish == own.finish
    assert session.messages[-1] == {"role": "assistant", "content": own.text}


def test_another_history_under_a_recording(nano: Assistant, question_wave: np.ndarray) -> None:
    session = Session(nano)
    session.feed_audio(question_wave[:8000], 16000)
    session.replace_history(SAID)
    session.feed_audio(question_wave[8000:], 16000)
    assert answer(session) == "twelve"
    part = {"type": "audio", "audio": question_wave, "sampling_rate": 16000}
    assert session.finish == nano.chat([*SAID, {"role": "user", "content": [part]}]).finish


def test_input_that_is_dropped(nano: Assistant, question_wave: np.ndarray) -> None:
    session = Session(nano)
    session.feed_audio(question_wave, 16000)
    session.forget_input()
    session.feed_text(QUESTION)
    assert answer(session) == "thirteen"
    assert session.messages[0]["content"] == QUESTION


def test_clips_go_with_their_messages(nano: Assistant, question_wave: np.ndarray) -> None:
    session = Session(nano)
    for _ in range(3):
        session.feed_audio(question_wave, 16000)
        answer(session)
    assert len(session._clips._known) == 3
    session.replace_history(session.messages[4:])
    assert len(session._clips._known) == 1


def test_not_while_an_answer_is_given(nano: Assistant) -> None:
    session = Session(nano)
    session.feed_text(QUESTION)
    deltas = session.respond()
    next(deltas)
    for call in (session.forget_input, lambda: session.replace_history([])):
        with pytest.raises(SessionError, match="interrupt"):
            call()


@pytest.fixture(scope="module")
def question_wave() -> np.ndarray:
    from pathlib import Path

    import vivavoce
    from vivavoce.audio.files import read_audio

    return read_audio(Path(vivavoce.__file__).parent / "bundle" / "nano" / "question.wav")[0]
