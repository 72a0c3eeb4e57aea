"""What of an answer has been heard: deltas as they are given out, and the text behind what was played of them."""

from __future__ import annotations

import re

from vivavoce.base.errors import ConfigError
from vivavoce.inference.aligned import PAUSE
from vivavoce.inference.reply import Delta
from vivavoce.inference.word_source import words_of

_ROUNDING_S = 1e-6


class GivenOut:
    """Collects the deltas of one answer.

    How much text was played, when so many seconds of its speech were:

    - by word times, where the voice gives them: all words that ended by then, in whole words of the text;
    - else by the share of audio: speech that follows a stretch of text is taken to say that text evenly, and a
      word counts once its last letter is reached. While an answer is still being made, the share is of the audio
      made so far, so more counts as played than was.

    Attributes:
        text: Given out so far.
        transcript: Of the question, given out so far.
        understood: False once a delta said so.
        num_samples: Of speech.
    """

    def __init__(self) -> None:
        self.text = self.transcript = ""
        self.understood = True
        self.num_samples = 0
        self._rate: int | None = None
        self._word_ends_s: list[float] = []
        self._spans: list[tuple[int, int]] = []  # (characters, samples) at the end of each stretch of audio
        self._in_audio = False

    @property
    def num_ms(self) -> int:
        """Whole milliseconds of speech."""
        return 0 if self._rate is None else 1000 * self.num_samples // self._rate

    def add(self, delta: Delta) -> None:
        """Take note of a delta."""
        if delta.text:
            self.text += delta.text
            self._in_audio = False
        self.transcript += delta.transcript
        self.understood &= delta.understood
        if delta.word is not None:
            self._word_ends_s.append(delta.word[2])
        if delta.audio is not None and len(delta.audio):
            self.num_samples, self._rate = self.num_samples + len(delta.audio), delta.sample_rate
            if self._in_audio:
                self._spans.pop()
            self._spans.append((len(self.text), self.num_samples))
            self._in_audio = True

    def played(self, played_s: float | None) -> str:
        """The text that was played.

        Args:
            played_s: Seconds of speech that were played; None for all that was given out.

        Raises:
            ConfigError: Seconds of an answer without speech, or below 0.
        """
        if played_s is None:
            return self.text.strip()
        if not played_s >= 0:
            raise ConfigError(
                f"played_s is {played_s}; wanted the seconds of the answer that were played, 0 or more."
            )
        if self._rate is None:
            if self.text and played_s > 0:
                raise ConfigError(
                    f"played_s is {played_s:g}, but this answer has no audio yet; say 0, or None to keep its text."
                )
            return ""
        if self._word_ends_s:
            num_words = sum(end <= played_s + _ROUNDING_S for end in self._word_ends_s)
            return self._first_words(num_words)
        return self._share(played_s * self._rate)

    def _first_words(self, count: int) -> str:
        """The longest beginning, in whole words of the text, that is spoken with ``count`` words."""
        if count >= len([word for word in words_of(self.text) if word != PAUSE]):
            return self.text.strip()
        best = ""
        for end in self._word_ends():
            if sum(word != PAUSE for word in words_of(self.text[:end])) > count:
                break
            best = self.text[:end]
        return best.strip() if count else ""

    def _share(self, samples: float) -> str:
        reached, characters_before, samples_before = 0.0, 0, 0
        for characters, end in self._spans:
            if samples < end:
                part = (samples - samples_before) / (end - samples_before)
                reached = characters_before + part * (characters - characters_before)
                break
            reached, characters_before, samples_before = characters, characters, end
        last = max((end for end in self._word_ends() if end <= reached + _ROUNDING_S), default=0)
        return self.text[:last].strip()

    def _word_ends(self) -> list[int]:
        return [match.end() for match in re.finditer(r"\S+", self.text)]
