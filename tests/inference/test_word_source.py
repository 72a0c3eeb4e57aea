"""Words for a voice come from text deltas, lazily and independent of how the text was cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vivavoce.inference.reply import Delta
from vivavoce.inference.word_source import WordSource, words_of

TEXT = "Yes, it is nine.  The answer is forty two!\nGood night"


@given(st.lists(st.integers(1, len(TEXT) - 1), max_size=12))
def test_words_do_not_depend_on_the_cuts(cuts):
    edges = [0, *sorted(set(cuts)), len(TEXT)]
    deltas = [Delta(text=TEXT[a:b]) for a, b in pairwise(edges)]
    source = WordSource(deltas)
    early = list(source.fill())
    words = list(source)
    late = list(source.take_pending())
    assert words == list(words_of(TEXT))
    assert [*early, *late] == deltas


def test_text_is_pulled_only_when_words_are_asked_for():
    pulled = []

    def deltas():
        for word in TEXT.split():
            pulled.append(word)
            yield Delta(text=word + " ")

    source = WordSource(deltas())
    assert pulled == []
    list(source.fill())
    assert len(pulled) <= 3
    words = iter(source)
    for _ in range(4):
        next(words)
    assert len(pulled) <= 6


def test_no_words():
    assert list(WordSource([])) == []
    assert list(WordSource([Delta(text=" ... ")])) == []
