"""A question in another language is answered by the voice of that language, unless one is asked for."""

from __future__ import annotations

import numpy as np
import pytest

import vivavoce
from vivavoce.inference.assistant import Assistant
from vivavoce.inference.session import Session

GERMAN, ENGLISH = "was ist drei plus vier", "what is three plus four"


@pytest.fixture(scope="module")
def nano() -> Assistant:
    return vivavoce.load("nano")


def test_typed_questions_are_answered_in_their_language_and_its_voice(nano: Assistant) -> None:
    for question, voice in ((GERMAN, "german"), (ENGLISH, "default")):
        reply = nano.chat(question, audio=True)
        assert np.array_equal(reply.audio, nano.say(reply.text, voice=voice).audio)
    assert "german" in nano.voices


def test_a_voice_that_is_asked_for_speaks_in_any_language(nano: Assistant) -> None:
    reply = nano.chat(GERMAN, audio=True, voice="awb")
    assert np.array_equal(reply.audio, nano.say(reply.text, voice="awb").audio)


def test_spoken_questions_too_by_what_was_heard(nano: Assistant) -> None:
    said = nano.say(GERMAN, voice="german")
    heard = nano.transcribe((said.audio, said.sample_rate))
    assert heard.text.lower().rstrip(".?") == GERMAN
    session = Session(nano)
    session.feed_audio(said.audio, said.sample_rate)
    deltas = list(session.respond(audio=True))
    text = "".join(delta.text or "" for delta in deltas)
    audio = np.concatenate([delta.audio for delta in deltas if delta.audio is not None])
    assert np.array_equal(audio, nano.say(text, voice="german").audio)


def test_one_foreign_word_among_others_changes_no_voice(nano: Assistant) -> None:
    speaks = nano.processor.voice_for
    assert speaks("") is None and speaks("what is the opposite of hat") is None
    assert speaks("welche farbe hat das gras") == "german" == speaks("Fünf?")
