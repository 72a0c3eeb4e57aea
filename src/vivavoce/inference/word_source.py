"""Text as it is written to words as they are spoken, for voices that speak word by word."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from vivavoce.inference.aligned import PAUSE
from vivavoce.inference.reply import Delta
from vivavoce.tokens.phones import SpokenStream, SpokenWord, spoken_words

LOOKAHEAD_WORDS = 2  # an aligned voice wants a word and its successor


def words_of(text: str) -> Iterator[str]:
    """Spoken words of a text, with PAUSE where punctuation breaks it."""
    yield from _with_pauses(spoken_words(text))


def _with_pauses(items: Iterable[SpokenWord]) -> Iterator[str]:
    for item in items:
        yield item.word
        if item.mark:
            yield PAUSE


class WordSource:
    """Pulls text deltas only as words are asked for.

    A word is complete when the one after it is, as what it is can hang on its neighbours. Deltas that were pulled
    wait in ``pending`` until they are taken, so text and audio can be given out in the order in which they came.

    Args:
        deltas: Text deltas of an answer.
    """

    def __init__(self, deltas: Iterable[Delta]) -> None:
        self.pending: deque[Delta] = deque()
        self._deltas, self._words = iter(deltas), deque[str]()
        self._stream, self._ended = SpokenStream(), False

    def _pull(self) -> None:
        delta = next(self._deltas, None)
        if delta is None:
            self._ended = True
            self._words.extend(_with_pauses(self._stream.flush()))
            return
        self.pending.append(delta)
        self._words.extend(_with_pauses(self._stream.push(delta.text)))

    def take_pending(self) -> Iterator[Delta]:
        """Deltas pulled since the last call."""
        while self.pending:
            yield self.pending.popleft()

    def fill(self) -> Iterator[Delta]:
        """Pull until speech can begin, giving out the text at once."""
        while not self._ended and sum(word != PAUSE for word in self._words) < LOOKAHEAD_WORDS:
            self._pull()
            yield from self.take_pending()

    def __iter__(self) -> Iterator[str]:
        while True:
            while not self._words and not self._ended:
                self._pull()
            if not self._words:
                return
            yield self._words.popleft()
