"""A session answers what a single call answers, whatever it read early, over turns and through interruptions."""

from __future__ import annotations

import gc
import weakref
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference import talks, tiny
from tests.inference.talks import FREE, answer_both_ways, feed, made, noise

from vivavoce.base.errors import AudioError, ConfigError, ModelError, SessionError
from vivavoce.inference.batching.rows import room_for
from vivavoce.inference.collect import collect
from vivavoce.inference.reply import Delta
from vivavoce.inference.session import Session

PREFILL = {
    "tokens->text": "tokens",
    "tokens->tokens": "tokens",
    "embeddings->text": "none",
    "embeddings->tokens": "none",
    "transcript first": "none",
    "by blocks": "blocks",
    "by chunks": "chunks",
    "by samples": "chunks",
    "by blocks, silence around": "blocks",
    "by samples, silence around": "chunks",
    "as its reference pads": "none",
    "sliding window": "blocks",
}
RATES = (8000, 16_000, 24_000, 44_100, 48_000)


LOUDNESS = (0.0, 0.003, 0.1, 0.9)


@st.composite
def turns_of(draw, name):
    """Turns of a conversation: lists of texts and (seconds, rate, cuts, level) of recordings."""
    clip = st.tuples(
        st.one_of(st.floats(0.02, 0.4), st.floats(0.4, 1.9)),
        st.sampled_from(RATES),
        st.lists(st.floats(0, 1), max_size=12),
        st.sampled_from(LOUDNESS),
    )
    if name == "transcript first":  # a recording or words, and words that it knows
        return draw(
            st.lists(st.tuples(st.one_of(clip, st.just("what is one plus two"))), min_size=1, max_size=2)
        )
    text = st.sampled_from(["Say ", "and\n", "why? "])
    turn = st.one_of(st.tuples(clip), st.tuples(text, clip), st.tuples(clip, text, clip))
    return draw(st.lists(turn, min_size=1, max_size=2))


def converse(name, turns):
    assistant = made(name)
    options = {
        **FREE,
        "max_new_tokens": (12 if name == "transcript first" else 24) if assistant.speaks else 6,
    }
    session = Session(assistant, **options)
    assert session.prefill == PREFILL[name]
    for number, turn in enumerate(turns):
        for at, part in enumerate(turn):
            if isinstance(part, str):
                session.feed_text(part)
            else:
                seconds, rate, cuts, level = part
                feed(session, noise(seconds, rate, 10 * number + at, level), rate, cuts)
        answer_both_ways(session, assistant.speaks, **options)


@settings(max_examples=25)
@given(st.sampled_from(sorted(talks.MAKERS)).flatmap(lambda name: st.tuples(st.just(name), turns_of(name))))
def test_streaming_equals_offline(question):
    converse(*question)


@pytest.mark.slow
@pytest.mark.parametrize("name", talks.MAKERS)
def test_streaming_equals_offline_in_a_thousand_ways(name):
    examples = 1000 // len(talks.MAKERS)

    @settings(max_examples=examples)
    @given(turns_of(name))
    def check(turns):
        converse(name, turns)

    check()


@pytest.mark.parametrize("name", talks.MAKERS)
def test_three_turns_of_one_cache_equal_full_passes(name):
    assistant = made(name)
    session = Session(assistant, **FREE)
    for turn in range(3):
        if turn == 1 and name != "transcript first":
            session.feed_text("And ")
        feed(session, noise(1.3, 16_000, turn), 16_000, [0.1, 0.2, 0.5, 0.51, 0.9])
        answer_both_ways(session, assistant.speaks, **FREE)
    assert [m["role"] for m in session.messages] == ["user", "assistant"] * 3


@pytest.mark.parametrize(
    "name", ["tokens->text", "by blocks", "by chunks", "by samples", "by samples, silence around"]
)
def test_most_of_a_question_is_read_before_it_ends_and_nothing_twice(name):
    session = Session(made(name), **FREE)
    session.feed_text("Say ")
    feed(session, noise(2.7, 16_000), 16_000, np.arange(1, 54) / 54)
    early = len(session._kept.decoding)
    collect(session.respond())
    prompt = session._prompt_length
    sound = {"tokens->text": 0.3, "by blocks": 0.16}.get(name, 0.8)
    per_second = 82 if name == "tokens->text" else 6.25
    around = 60 if name == "tokens->text" else 15  # the template's end
    assert prompt - early <= around + 16 + sound * per_second + 2
    assert early > 0.5 * prompt and session._kept.num_read == prompt
    feed(session, noise(0.5, 16_000, 1), 16_000)
    collect(session.respond())
    assert session._kept.num_read < prompt + session._prompt_length - 0.9 * prompt


@pytest.mark.parametrize("name", ["by blocks", "by chunks"])
def test_a_recording_that_gets_loud_at_its_end_is_read_again(name):
    """Whisper's log-mel is cut below a clip's maximum: silence, then a bang, changes all frames before."""
    session = Session(made(name), **FREE)
    wave = np.concatenate([1e-4 * noise(1.5, 16_000), noise(0.4, 16_000, 1, 0.5)])
    feed(session, wave, 16_000, np.arange(1, 20) / 20)
    answer_both_ways(session, **FREE)
    assert session._kept.num_read > session._prompt_length


def test_stop_strings_limits_and_a_beginning():
    assistant = made("tokens->text")
    begun = [{"role": "system", "content": "Be brief."}]
    session = Session(assistant.model, assistant.processor, messages=begun, **FREE)
    feed(session, noise(0.4, 24_000), 24_000, [0.5])
    full = answer_both_ways(session, **FREE).text
    stop = next(c for c in full[3:] if c.isascii() and c not in full[:3])
    session = Session(assistant, messages=begun, stop=stop, **FREE)
    feed(session, noise(0.4, 24_000), 24_000, [0.5])
    assert answer_both_ways(session, stop=stop, **FREE).text == full[: full.index(stop)].strip()
    assert session.messages[0] == begun[0] and begun == [{"role": "system", "content": "Be brief."}]


def played_only(name, played_s, take=None, audio=True):
    """A conversation that was interrupted, gone on with, and checked against one with the played part only."""
    assistant = made(name)
    options = {**FREE, "max_new_tokens": 200 if audio else 40}
    session = Session(assistant, **options)
    feed(session, noise(0.6, 16_000), 16_000, [0.3])
    deltas = session.respond(audio=audio)
    given = list(islice(deltas, take))
    full = "".join(delta.text for delta in given)
    before = len(session._kept.decoding)
    text = session.interrupt(played_s)
    assert list(deltas) == [] and not session.answering
    assert session.messages[-1] == {"role": "assistant", "content": text}
    assert len(session._kept.decoding) <= before
    feed(session, noise(0.5, 16_000, 7), 16_000, [0.6])
    answer_both_ways(session, audio, **options)
    return text, full.strip(), session


@pytest.mark.parametrize("name", ["tokens->text", "embeddings->text", "by blocks", "sliding window"])
def test_text_that_was_broken_off_goes_on_as_if_only_that_had_been_said(name):
    text, full, _ = played_only(name, None, take=4, audio=False)
    assert text == full != ""
    assert played_only(name, None, audio=False)[0] == played_only(name, None, audio=False)[1]


def wanting_audio(name):
    """An assistant that writes a little and then speaks."""
    from tests.inference.test_assistant import wanting_audio as wanting

    assistant = wanting(talks.MAKERS[name]())
    return assistant


@pytest.mark.parametrize("name", ["tokens->tokens", "embeddings->tokens"])
def test_speech_that_was_broken_off_keeps_its_share_of_the_text(name):
    options = {"temperature": 1.0, "seed": 5, "max_new_tokens": 90}
    assistant = wanting_audio(name)
    texts = []
    for share in (0.0, 0.5, 1.0):
        session = Session(assistant, **options)
        feed(session, noise(0.4, 16_000), 16_000, [0.5])
        reply = answer_both_ways(session, True, **options)
        seconds = len(reply.audio) / 24_000
        assert seconds > 0.1
        texts.append(session.interrupt(share * seconds))
        if share == 0.5:
            feed(session, noise(0.3, 16_000, 2), 16_000)
            answer_both_ways(session, True, **options)
    assert texts[0] == "" and reply.text.startswith(texts[2]) and texts[2].startswith(texts[1])


def test_an_aligned_voice_keeps_the_words_that_were_played():
    assistant = tiny.transcript_first(gate=None)
    session, reply = answered_aloud(assistant)
    assert len(reply.words) >= 3
    word, _, end_s = reply.words[1]
    text = session.interrupt(end_s)
    assert text.split() == reply.text.split()[:2] and text.split()[-1] == word
    session, _ = answered_aloud(assistant)
    assert session.interrupt(end_s - 0.01).split() == reply.text.split()[:1]
    feed(session, noise(0.5, 16_000, 9), 16_000, [0.2])
    answer_both_ways(session, True, **FREE)


def answered_aloud(assistant):
    """A session with a spoken answer of a few words that is known to have been understood."""
    end, answer = (
        assistant.processor.tokenizer.convert_tokens_to_ids(t) for t in ("<|end|>", "<|assistant|>")
    )
    words = assistant.processor.tokenizer("yes no plus two", add_special_tokens=False)["input_ids"]
    plain = assistant.model.language_model.lm_head.forward
    written = [*words[:2], answer, *words, end]
    step = iter(written)

    def scripted(hidden):
        logits = plain(hidden)
        return logits + 200 * torch.nn.functional.one_hot(torch.tensor(next(step)), logits.shape[-1])

    session = Session(assistant, **FREE)
    feed(session, noise(0.5, 16_000), 16_000, [0.4])
    session._kept.clear()
    assistant.model.language_model.lm_head.forward = plain
    assistant.calls.open()  # tries the model out, which is not part of the script
    assistant.model.language_model.lm_head.forward = scripted
    try:
        reply = collect(session.respond(audio=True), 24_000)
    finally:
        assistant.model.language_model.lm_head.forward = plain
    assert reply.text == "yes no plus two" and session.messages[0]["content"][0]["transcript"] == "yes no"
    return session, reply


@pytest.mark.parametrize("take", [0, 3])
def test_interrupting_before_anything_was_played_keeps_an_empty_answer(take):
    text, _, session = played_only("tokens->text", 0.0, take, audio=False)
    assert text == "" and session.messages[1]["content"] == ""


def test_a_user_who_speaks_before_the_interruption_is_heard_after_what_was_played():
    session = Session(made("tokens->text"), **FREE)
    feed(session, noise(0.5, 16_000), 16_000, [0.4])
    full = collect(session.respond()).text
    wave = noise(0.9, 16_000, 4)
    session.feed_audio(wave[:7000], 16_000)
    assert session.interrupt() == full
    session._answer.text = full[:2]
    assert session.interrupt() == full[:2].strip()
    session.feed_audio(wave[7000:], 16_000)
    answer_both_ways(session, **FREE)


def test_calls_in_the_wrong_order_are_refused():
    session = Session(made("tokens->text"), **FREE)
    with pytest.raises(SessionError, match="nothing to answer"):
        session.respond()
    with pytest.raises(SessionError, match="no answer to interrupt"):
        session.interrupt()
    session.feed_text("hello")
    deltas = session.respond()
    next(deltas)
    for call in (
        lambda: session.feed_text("more"),
        lambda: session.feed_audio(noise(0.1, 16_000), 16_000),
        session.respond,
    ):
        with pytest.raises(SessionError, match="while an answer is being given"):
            call()
    deltas.close()  # dropping the iterator does not finish the answer
    with pytest.raises(SessionError, match="while an answer is being given"):
        session.feed_text("more")
    session.interrupt()
    session.feed_text("more")
    answer_both_ways(session, **FREE)


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda s: s.feed_audio(np.zeros((2, 3), np.float32), 16_000), AudioError, "finite float samples"),
        (lambda s: s.feed_audio(np.full(3, np.nan, np.float32), 16_000), AudioError, "finite float samples"),
        (lambda s: s.feed_audio(np.zeros(3, np.int16), 16_000), AudioError, "int16"),
        (lambda s: s.feed_audio(np.zeros(3, np.float32), 10), AudioError, "10 Hz"),
        (lambda s: [s.feed_audio(noise(0.1, r), r) for r in (16_000, 8000)], AudioError, "goes on at 8000 Hz"),
        (lambda s: s.feed_text(b"x"), ConfigError, "bytes"),
        (lambda s: (s.feed_text("x"), s.respond(audio=True)), ModelError, "answers in text only"),
        (lambda s: (s.feed_text("x"), list(s.respond()), s.interrupt(1.0)), ConfigError, "no audio yet"),
        (lambda s: (s.feed_text("x"), list(s.respond()), s.interrupt(-1.0)), ConfigError, "0 or more"),
    ],
)  # fmt: skip
def test_refusals_say_what_was_seen(call, error, part):
    with pytest.raises(error) as caught:
        call(Session(made("tokens->text"), max_new_tokens=4))
    assert part in str(caught.value)


def test_what_a_model_cannot_is_refused_at_once():
    with pytest.raises(ModelError, match="does not chat"):
        Session(tiny.text_to_tokens())
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        Session(made("tokens->text"), temprature=1)
    with pytest.raises(ConfigError, match="needs its processor"):
        Session(made("tokens->text").model)


def test_a_question_that_fails_is_dropped_and_the_conversation_goes_on():
    session = Session(made("tokens->text"), **FREE)
    session.feed_text("hello")
    answer_both_ways(session, **FREE)
    before = session.messages
    session.feed_text("x" * 5000)
    with pytest.raises(ModelError, match="the model reads 4095 at most"):
        list(session.respond())
    assert session.messages == before and not session.answering and len(session._kept.decoding) == 0
    feed(session, noise(0.4, 16_000), 16_000)
    answer_both_ways(session, **FREE)


def test_reset_and_interruption_free_the_cache():
    session = Session(made("tokens->text"), **FREE)
    feed(session, noise(0.5, 16_000), 16_000)
    deltas = session.respond()
    assert len(list(islice(deltas, 5))) == 5
    sequence = session._kept.decoding.sequence
    held, long = weakref.ref(sequence._buffer), sequence.length
    session.interrupt(0.0)
    held_now = weakref.ref(sequence._buffer)
    assert sequence.length < long and sequence._buffer.shape[-2] == room_for(sequence.length)
    del sequence, deltas
    session.reset()
    gc.collect()
    assert held() is None and held_now() is None and session.messages == []
    assert session.assistant.calls.open_sequences == 0
    session.feed_text("hello")
    answer_both_ways(session, **FREE)


@pytest.mark.parametrize("name", ["tokens->text", "by blocks", "transcript first", "tokens->tokens"])
def test_a_session_dropped_in_mid_answer_goes_at_once(name):
    session = Session(made(name), **FREE)
    feed(session, noise(0.5, 16_000), 16_000, [0.5])
    deltas = session.respond(audio=name == "tokens->tokens")
    next(deltas)
    held, buffer = weakref.ref(session), weakref.ref(session._kept.decoding.sequence)
    calls = session.assistant.calls
    gc.collect()
    gc.disable()  # nobody comes to collect
    try:
        del session, deltas
        assert held() is None and buffer() is None and calls.open_sequences == 0
    finally:
        gc.enable()


def test_messages_are_a_copy():
    session = Session(made("tokens->text"), **FREE)
    session.feed_text("hello")
    assert isinstance(next(session.respond()), Delta)
    session.interrupt()
    session.messages.clear()
    assert len(session.messages) == 2
