"""What sessions are made of: a resampler that streams, text by what was played, and the bundle in conversation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.talks import answer_both_ways, feed, noise

import vivavoce
from vivavoce.audio.resample import resample
from vivavoce.base.errors import AudioError, ConfigError, SessionError
from vivavoce.inference.played import GivenOut
from vivavoce.inference.reply import Delta
from vivavoce.inference.session import Session
from vivavoce.inference.sinc_stream import SincStream

BUNDLE = vivavoce.__path__[0] + "/bundle/nano"


@given(
    st.sampled_from([8000, 16_000, 16_001, 22_050, 24_000, 44_100, 48_000, 96_000]),
    st.integers(1, 60_000),
    st.lists(st.floats(0, 1), max_size=8),
)
def test_a_resampled_stream_is_the_resampled_whole(rate, samples, cuts):
    wave = noise(samples / rate, rate, samples)
    bounds = [0, *sorted(int(cut * len(wave)) for cut in cuts), len(wave)]
    stream = SincStream(rate, 24_000)
    pieces = [stream.push(wave[a:b]) for a, b in pairwise(bounds)]
    joined = np.concatenate([*pieces, stream.flush()])
    whole = resample(wave, rate, 24_000, "sinc")
    assert joined.shape == whole.shape and joined.dtype == np.float32
    assert np.abs(joined - whole).max() < 1e-6


def test_a_resampler_gives_early_and_ends_once():
    stream = SincStream(48_000, 24_000)
    assert len(stream.push(noise(0.1, 48_000))) > 2300
    stream.flush()
    for call in (stream.flush, lambda: stream.push(noise(0.1, 48_000))):
        with pytest.raises(SessionError, match="flushed"):
            call()
    with pytest.raises(AudioError, match="10 Hz"):
        SincStream(10, 24_000)


def given_out(*deltas):
    answer = GivenOut()
    for delta in deltas:
        answer.add(delta)
    return answer


def sound(seconds, **more):
    return Delta(audio=np.zeros(round(seconds * 1000), np.float32), sample_rate=1000, **more)


@pytest.mark.parametrize(
    ("played_s", "text"),
    [(None, "one two three"), (0.0, ""), (0.5, ""), (1.0, "one"), (2.9, "one two"), (3.1, "one two three")],
)
def test_words_that_ended_were_played(played_s, text):
    words = [sound(1, word=(w, float(i), i + 1.0)) for i, w in enumerate(["one", "two", "three"])]
    assert given_out(Delta(text="one two three"), *words).played(played_s) == text


@pytest.mark.parametrize(
    ("played_s", "text"), [(0.9, ""), (2.0, "It is"), (3.0, "It is 21"), (4.0, "It is 21 now.")]
)
def test_a_written_word_needs_all_its_spoken_words(played_s, text):
    spoken = ["it", "is", "twenty", "one", "now"]
    ends = [1.0, 2.0, 2.5, 3.0, 4.0]
    words = [sound(1, word=(w, 0.0, end)) for w, end in zip(spoken, ends, strict=True)]
    assert given_out(Delta(text="It is 21 now."), *words).played(played_s) == text


def test_speech_without_word_times_is_shared_out_over_its_own_text():
    answer = given_out(Delta(text="aaa bbb "), sound(1), sound(1), Delta(text="ccc ddd"), sound(1), sound(1))
    assert [answer.played(s) for s in (0.0, 0.99, 1.8, 2.0, 3.0, 3.1, 4.0, 9.0)] == [
        "", "aaa", "aaa bbb", "aaa bbb", "aaa bbb ccc", "aaa bbb ccc", "aaa bbb ccc ddd", "aaa bbb ccc ddd",
    ]  # fmt: skip


def test_seconds_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="0 or more"):
        given_out(sound(1)).played(float("nan"))
    with pytest.raises(ConfigError, match="no audio yet"):
        given_out(Delta(text="a")).played(1.0)
    assert given_out().played(0.0) == given_out(Delta(text="a")).played(0.0) == ""


@pytest.fixture(scope="module")
def nano():
    return vivavoce.load("nano")


def test_the_bundle_talks_as_it_answers_and_is_broken_off(nano):
    wave, rate = soundfile.read(BUNDLE + "/question.wav", dtype="float32")
    session = Session(nano)
    assert session.prefill == "none"  # its gate reads a clip that is whole
    feed(session, wave, rate, np.arange(1, 20) / 20)
    first = answer_both_ways(session, audio=True)
    assert first.transcript and session.messages[0]["content"][0]["transcript"] == first.transcript
    assert session.interrupt(0.0) == ""
    before = session._kept.num_read
    feed(session, wave, rate, [0.37])
    last = answer_both_ways(session, audio=True)
    assert last.transcript == first.transcript
    typed = len(first.transcript.split())  # the first question, read when it was answered
    assert session._kept.num_read - before <= len(session._kept._logits[0]) - typed
    feed(session, noise(0.6, 16_000), 16_000)
    refused = answer_both_ways(session)
    assert not refused.understood and "transcript" not in session.messages[-2]["content"][0]
    feed(session, wave, rate, [0.8])
    assert answer_both_ways(session).text
