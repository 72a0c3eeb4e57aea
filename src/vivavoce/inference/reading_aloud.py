"""Texts to speech: whole texts, and the text of an answer while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from vivavoce.base.errors import ConfigError
from vivavoce.inference.aligned import AlignedSpeaker
from vivavoce.inference.batching.calls import Calls
from vivavoce.inference.finish import Tally
from vivavoce.inference.reply import Delta
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.inference.turn import MakeTurn
from vivavoce.inference.word_source import WordSource, words_of
from vivavoce.models.config import TokensOut
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.tokens.chat import orpheus_prompt, render_chat


class ReadingAloud:
    """Reads texts aloud with a model that speaks.

    Args:
        model: The speech LM.
        processor: Its processor.
        calls: Runs the model.
    """

    def __init__(self, model: SpeechLM, processor: SpeechProcessor, calls: Calls) -> None:
        self._model, self._processor, self._calls = model, processor, calls
        self._made: AlignedSpeaker | None = None

    @property
    def aligned(self) -> bool:
        """Whether a voice of its own speaks word by word, beside the model's text."""
        mouth = self._model.config.audio_out
        return isinstance(mouth, TokensOut) and mouth.alignment != "none"

    def check(self, text: Any) -> None:
        """Refuse a text with nothing to say.

        Raises:
            ConfigError: No text, or one without words where words are spoken.
        """
        if not isinstance(text, str) or not text.strip():
            raise ConfigError("nothing to say: the text is empty.")
        if self.aligned and not any(True for _ in words_of(text)):
            raise ConfigError(f"nothing to say: {text!r} has no words.")

    def whole(
        self, text: str, voice: str | None, sampling: SamplingOptions, make_turn: MakeTurn
    ) -> Iterator[Delta]:
        """Read a text aloud, as an answer of its own."""
        tally = Tally()
        if self.aligned:  # its voice reads words and phones in a context of its own
            tally.read(
                self._processor, self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            )
        yield from self.part(text, voice, sampling, tally, make_turn)
        yield Delta(finish=tally.finish())

    def part(
        self, text: str, voice: str | None, sampling: SamplingOptions, tally: Tally, make_turn: MakeTurn
    ) -> Iterator[Delta]:
        """Read a text aloud, as a part of an answer that counts its tokens."""
        if self.aligned:
            for spoken in self._speaker().stream(words_of(text), voice=voice, seed=sampling.seed):
                yield self._delta(spoken, tally)
            return
        prompt = {"input_ids": self._prompt(text, voice)}
        with closing(make_turn(prompt, sampling, tally)) as turn:
            yield from turn.audio_only()

    def along(
        self, texts: Iterator[Delta], voice: str | None, sampling: SamplingOptions, tally: Tally
    ) -> Iterator[Delta]:
        """Text deltas and, by the aligned voice, their audio, each as early as it can be."""
        words = WordSource(texts)
        yield from words.fill()
        for spoken in self._speaker().stream(words, voice=voice, seed=sampling.seed):
            yield from words.take_pending()
            yield self._delta(spoken, tally)
        yield from words.take_pending()

    def _prompt(self, text: str, voice: str | None) -> list[int]:
        tokenizer, mouth = self._processor.tokenizer, self._model.config.audio_out
        vocabulary = self._processor.vocabulary_out
        assert isinstance(mouth, TokensOut) and vocabulary is not None
        if mouth.prompt == "orpheus":
            name = voice or next(iter(mouth.speakers), None)
            return orpheus_prompt(tokenizer, vocabulary, text, voice=name)
        begun = render_chat(
            tokenizer, [{"role": "assistant", "content": text}], vocabulary=vocabulary, loss_on="nothing",
            continue_last=True, template=self._processor.template,
        )  # fmt: skip
        return [*begun.input_ids, vocabulary.start_id]

    def _speaker(self) -> AlignedSpeaker:
        if self._made is None:
            tokenizer, codec = self._processor.tokenizer, self._processor.codec_out
            lexicons = self._processor.lexicons
            self._made = AlignedSpeaker(self._model, tokenizer, codec, calls=self._calls, lexicons=lexicons)
        return self._made

    def _delta(self, spoken: Any, tally: Tally) -> Delta:
        tally.audio_tokens += spoken.num_codes
        word = (spoken.word, spoken.start_s, spoken.end_s) if spoken.word else None
        return Delta(
            audio=spoken.audio if len(spoken.audio) else None,
            word=word,
            sample_rate=self._processor.codec_out.spec.sample_rate,
        )
