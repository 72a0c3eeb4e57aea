"""Streamed text joined is the decoded whole, cut at the first stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.tiny import WORDS, byte_tokenizer, word_tokenizer

from vivavoce.inference.text_stream import TextStream

BYTES, CLOSED = byte_tokenizer(), word_tokenizer()


def streamed(tokenizer, ids, stop=()):
    stream = TextStream(tokenizer, stop)
    pieces = [stream.push(i) for i in ids]
    return [*pieces, stream.flush()], stream


@given(st.text(max_size=40))
def test_any_text_survives_byte_by_byte_and_no_character_is_halved(text):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    pieces, _ = streamed(BYTES, ids)
    assert "".join(pieces) == text
    assert not any("\ufffd" in p for p in pieces) or "\ufffd" in text


@given(st.lists(st.integers(0, 259), max_size=40))
def test_any_ids_give_the_decoded_whole(ids):
    pieces, _ = streamed(BYTES, ids)
    assert "".join(pieces) == BYTES.decode(ids, skip_special_tokens=True)


@given(st.lists(st.sampled_from([*WORDS, "<|end|>"]), max_size=12))
def test_words_of_a_closed_vocabulary(words):
    ids = [CLOSED.convert_tokens_to_ids(w) for w in words]
    pieces, _ = streamed(CLOSED, ids)
    assert "".join(pieces) == CLOSED.decode(ids, skip_special_tokens=True)


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=2))
def test_stop_strings_end_the_text_and_never_show(text, stops):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    pieces, stream = streamed(BYTES, ids, stops)
    places = [at for at in map(text.find, stops) if at >= 0]
    assert stream.stopped == bool(places)
    if not places:
        assert "".join(pieces) == text
        return
    _, first = min((text.find(s) + len(s), text.find(s)) for s in stops if s in text)  # complete first
    assert "".join(pieces) == text[:first]


def test_text_comes_as_early_as_it_can():
    ids = BYTES("héllo END", add_special_tokens=False)["input_ids"]
    stream = TextStream(BYTES, ["END!"])
    assert [stream.push(i) for i in ids] == ["h", "", "é", "l", "l", "o", " ", "", "", ""]
    assert stream.flush() == "END"


@pytest.mark.parametrize("stop", [(), ("zz",)])
def test_nothing_follows_the_end(stop):
    stream = TextStream(BYTES, stop)
    assert stream.flush() == ""
