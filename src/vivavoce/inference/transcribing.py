"""Recordings to text: the prompt that a model transcribes by, and the transcript piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from vivavoce.base.errors import ModelError
from vivavoce.inference.collect import collect
from vivavoce.inference.finish import Tally
from vivavoce.inference.reply import Delta, Transcript
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.inference.turn import MakeTurn
from vivavoce.models.audio_parts import read_part
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig, TokensIn
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM


def is_unclear(text: str, config: SpeechLMConfig) -> bool:
    """Whether a piece of a transcript is the model's mark for what it did not understand."""
    ears = config.audio_in
    return isinstance(ears, EmbeddingsIn) and text.strip() == ears.unclear_token


class Transcribing:
    """Writes down recordings with a model that hears.

    Args:
        model: The speech LM.
        processor: Its processor.
        name: For messages.
    """

    def __init__(self, model: SpeechLM, processor: SpeechProcessor, name: str) -> None:
        self._model, self._processor, self._name = model, processor, name

    @property
    def translate_prompt(self) -> str:
        """What asks for a translation to English; "" if the model was not made to translate."""
        ears = self._model.config.audio_in
        prompt = ears.prompts.get("translate", "") if isinstance(ears, EmbeddingsIn) else ""
        return prompt.format("English") if "{}" in prompt else ""

    def whole(
        self, source: Any, translate: bool, sampling: SamplingOptions, make_turn: MakeTurn
    ) -> Transcript:
        """Write down a recording; as ``Assistant.transcribe``."""
        began, rate = time.perf_counter(), self._processor.sample_rate
        wave = self._read(source)
        seconds = len(wave) / rate
        reply = collect(self.stream((wave, rate), translate, sampling, make_turn))
        total = time.perf_counter() - began
        timings = {"total_s": total, "rtf": total / seconds}
        return Transcript(reply.transcript, reply.understood, seconds, timings, reply.finish)

    def stream(
        self, source: Any, translate: bool, sampling: SamplingOptions, make_turn: MakeTurn
    ) -> Iterator[Delta]:
        """Write down a recording piece by piece; as ``Assistant.stream_transcribe``.

        Raises:
            ModelError: The model was not made to transcribe, or to translate.
            AudioError: The recording cannot be used.
        """
        ears = self._model.config.audio_in
        assert isinstance(ears, TokensIn | EmbeddingsIn)  # the assistant has checked
        if translate and not self.translate_prompt:
            raise ModelError(f"{self._name} has no prompt for translating; chat with it about the recording.")
        part = {"type": "audio", "audio": self._read(source), "sampling_rate": self._processor.sample_rate}
        if isinstance(ears, EmbeddingsIn) and ears.transcript_first:
            return self._deltas([part], None, sampling, make_turn)
        prompt = self.translate_prompt if translate else ears.transcribe_prompt
        if not prompt:
            raise ModelError(
                f"{self._name} has no prompt for transcribing; chat with it about the recording."
            )
        asked: list[dict[str, Any]] = [{"type": "text", "text": prompt}, part]
        if isinstance(ears, EmbeddingsIn) and ears.clip_after:
            asked.reverse()  # such models were asked after the clip
        return self._deltas(asked, prompt, sampling, make_turn)

    def _deltas(
        self,
        content: list[dict[str, Any]],
        prompt: str | None,
        sampling: SamplingOptions,
        make_turn: MakeTurn,
    ) -> Iterator[Delta]:
        tally, text = Tally(), ""
        asked = self._processor.prepare([{"role": "user", "content": content}])
        with closing(make_turn(asked, sampling, tally)) as turn:
            for piece in turn.transcript() if prompt is None else turn.text():
                if piece and not is_unclear(piece, self._model.config):
                    text += piece
                    yield Delta(transcript=piece, logprobs=tally.take())
            understood = turn.understood() if prompt is None else bool(text.strip())
        if prompt is None and not understood:
            tally.reason = "refusal"
        yield Delta(understood=understood, logprobs=tally.take(), finish=tally.finish())

    def _read(self, source: Any) -> np.ndarray:
        part = (
            source if isinstance(source, Mapping) and "type" in source else {"type": "audio", "audio": source}
        )
        resampler = "sinc" if isinstance(self._model.config.audio_in, TokensIn) else "soxr"
        return read_part(part, self._processor.sample_rate, resampler)  # type: ignore[arg-type]
