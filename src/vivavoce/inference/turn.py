"""One answer in the making: what was heard, the cache, and the text or audio tokens that come out.

Letters: V vocabulary.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from vivavoce.base.errors import ModelError
from vivavoce.inference.audio_stream import AudioTokenStream
from vivavoce.inference.batching.calls import Calls
from vivavoce.inference.finish import Tally
from vivavoce.inference.generate import Decoding, TokenRun
from vivavoce.inference.joint import Reading, read_jointly
from vivavoce.inference.legal_tokens import LegalTokens
from vivavoce.inference.reply import Delta
from vivavoce.inference.sampling import Sampler, SamplingOptions
from vivavoce.inference.text_stream import TextStream
from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.conversation import answer_ends, room_for_answer
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import HeardAudio, SpeechLM
from vivavoce.tokens.constraints import AudioLimits

# (whether the encoder's states are needed) -> the sequence, its last logits, and what was heard of the last clips
ReadPrompt = Callable[[bool], tuple[Decoding, Tensor, HeardAudio | None]]


class Turn:
    """Reads a prompt and writes one answer.

    Args:
        model: The speech LM.
        processor: Its processor.
        options: Sampling.
        prompt: From ``SpeechProcessor.prepare``: ``input_ids`` and perhaps ``input_features``,
            ``feature_lengths``.
        read: Reads the prompt instead, for sessions, which have read most of it already.
        tally: Where tokens are counted; default a new one.
        calls: Runs the model; default at once.

    Raises:
        ModelError: The prompt is longer than the model can read.

    Attributes:
        transcript_ids: What ``transcript`` wrote.
        tally: The count of tokens, and why the answer ended.
    """

    def __init__(
        self,
        model: SpeechLM,
        processor: SpeechProcessor,
        options: SamplingOptions,
        prompt: dict[str, Any],
        read: ReadPrompt | None = None,
        tally: Tally | None = None,
        calls: Calls | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        ids: list[int] = prompt["input_ids"]
        self._prompt_ids = ids
        left = room_for_answer(model.config, len(ids))
        room = options.max_new_tokens if left is None else min(options.max_new_tokens, left)
        self.options = dataclasses.replace(options, max_new_tokens=room)
        self.stop_ids = answer_ends(model, processor)
        self.transcript_ids: list[int] = []
        self._ended_by: int | None = None
        self._reading: Reading | None = None
        self._left = room
        self.tally = tally or Tally()
        self.tally.read(processor, ids)
        self._sampler = Sampler(options)
        self._heard: HeardAudio | None = None
        ears = model.config.audio_in
        gated = isinstance(ears, EmbeddingsIn) and ears.gate is not None  # gates read the encoder's states
        self._calls, self._own = calls or Calls(model), read is None
        if read is not None:
            self._decoding, self._logits, self._heard = read(gated)
            return
        if "input_features" in prompt:
            self._heard = self._calls.hear(prompt["input_features"], prompt["feature_lengths"], gated)
        self._decoding = Decoding(model, self._calls)
        self._logits = self._decoding.feed(ids, self._heard)

    def close(self) -> None:
        """Give back the cache, if it is the turn's own."""
        if self._own:
            self._decoding.close()

    # transcript first

    def transcript(self) -> Iterator[str]:
        """Write what was heard; text deltas. With gate "joint" it comes in one piece."""
        answer = self._answer_id
        if self._ears.gate == "joint":
            yield self._joint_transcript()
            return
        run = self._run([answer, *self.stop_ids], self._legal(may_speak=False))
        text = TextStream(self.processor.tokenizer)
        for token in run:
            self.transcript_ids.append(token)
            self.tally.text_tokens += 1
            yield text.push(token)
        yield text.flush()
        self._ended_by = run.stopped_by
        self._left -= run.num_tokens

    def _joint_transcript(self) -> str:
        """Let language model and CTC head agree on the last clip's transcript, and read it."""
        ears, tokenizer = self._ears, self.processor.tokenizer
        assert self._heard is not None
        unclear = tokenizer.convert_tokens_to_ids(ears.unclear_token)
        if int(self._logits.argmax()) == unclear:
            return ""
        self._reading = read_jointly(
            self._decoding,
            self._logits,
            self._heard,
            clip=len(self._heard.frames) - 1,
            end_id=self._answer_id,
            forbidden={*tokenizer.all_special_ids, *self.stop_ids} - {self._answer_id},
            beams=ears.beams,
            longest=max(1, self._left - 1),
        )
        if self._reading is None:
            return ""
        self.transcript_ids = list(self._reading.ids)
        self.tally.text_tokens += len(self.transcript_ids)
        self._logits = self._decoding.feed(self.transcript_ids)
        self._left -= len(self.transcript_ids)
        return str(tokenizer.decode(self.transcript_ids))

    def understood(self, num_clips: int = 1) -> bool:
        """Whether the transcript may be trusted: it is complete, not "unclear", and the gate agrees.

        Args:
            num_clips: Clips of the last turn, which the transcript is of.
        """
        ears = self._ears
        if ears.gate == "joint":
            if self._reading is None:
                return False
            language = self.processor.voice_for(self.processor.tokenizer.decode(self.transcript_ids))
            return self._reading.floor >= ears.gate_floors.get(language or "", ears.gate_floor)
        unclear = self.processor.tokenizer.convert_tokens_to_ids(ears.unclear_token)
        if not self.transcript_ids or unclear in self.transcript_ids or self._ended_by != self._answer_id:
            return False
        if ears.gate is None:
            return True
        assert self._heard is not None
        encoder, states, frames = self.model.audio_encoder, self._heard.states, self._heard.frames
        read = self._calls.do(lambda: encoder.greedy_tokens(states, frames))
        second: list[int] = [i for clip in read[-num_clips:] for i in clip]
        return second == self.transcript_ids

    def begin_answer(self) -> None:
        """Go on from the transcript to the answer, as if it had been typed if the model answers from transcripts."""
        ids = [self._answer_id]
        if self._ears.answer_from == "transcript":
            audio = self.processor.audio_token_id
            typed = [i for i in self._prompt_ids if i != audio] + self.transcript_ids
            alike = itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(self._decoding.ids, typed, strict=False)
            )
            same = self._decoding.crop(sum(1 for _ in alike))
            ids = [*typed[same:], *ids]
        self._logits = self._decoding.feed(ids)

    @property
    def _ears(self) -> EmbeddingsIn:
        ears = self.model.config.audio_in
        assert isinstance(ears, EmbeddingsIn) and ears.transcript_first
        return ears

    @property
    def _answer_id(self) -> int:
        token = self._ears.answer_token
        found = self.processor.tokenizer.get_vocab().get(token)
        if found is None:
            raise ModelError(f"the tokenizer lacks {token!r}, which separates transcript and answer.")
        return int(found)

    # answers

    def text(self) -> Iterator[str]:
        """Write the answer in text; text deltas up to a stop token or string."""
        text = TextStream(self.processor.tokenizer, self.options.stop)
        run = self._run(self.stop_ids, self._legal(may_speak=False))
        for token in run:
            self._count(run)
            if delta := text.push(token):
                yield delta
            if text.stopped:
                return
        delta = text.flush()
        if run.stopped_by is None and not text.stopped:
            self.tally.reason = "length"
        if delta:
            yield delta

    def speech(self, must_speak: bool = True) -> Iterator[Delta]:
        """Write the answer in text and codec tokens as the model likes; audio is decoded as it arrives.

        Args:
            must_speak: Begin audio after the text if the model did not.
        """
        vocabulary, codec = self.processor.vocabulary_out, self.processor.codec_out
        assert vocabulary is not None
        text = TextStream(self.processor.tokenizer, self.options.stop)
        legal, spoken = self._legal(may_speak=True), False
        run = self._run(self.stop_ids, legal)
        audio: AudioTokenStream | None = None
        for token in run:
            if token == vocabulary.start_id:
                self.tally.text_tokens += 1
                audio, spoken = AudioTokenStream(vocabulary, codec, self._calls.do), True
            elif token == vocabulary.end_id and audio is not None:
                self.tally.text_tokens += 1
                yield from self._audio(audio.flush())
                audio = None
            elif audio is not None:
                self.tally.audio_tokens += 1
                yield from self._audio(audio.push(token))
            else:
                self._count(run)
                if delta := text.push(token):
                    yield Delta(text=delta, logprobs=self.tally.take())
            if text.stopped:
                break
        if delta := text.flush():
            yield Delta(text=delta, logprobs=self.tally.take())
        if legal.cut or (run.stopped_by is None and not text.stopped):
            self.tally.reason = "length"
        must_speak &= not text.stopped
        if audio is not None:  # the limit came first
            yield from self._audio(audio.flush())
        self._left -= run.num_tokens
        if must_speak and not spoken and self._left <= 0:
            self.tally.reason = "length"
        elif must_speak and not spoken:
            self._logits = self._decoding.feed([vocabulary.start_id])
            yield from self.audio_only()

    def audio_only(self) -> Iterator[Delta]:
        """Write codec tokens up to the end of audio; the prompt ended with the start of audio."""
        vocabulary, codec = self.processor.vocabulary_out, self.processor.codec_out
        assert vocabulary is not None
        audio, legal = (
            AudioTokenStream(vocabulary, codec, self._calls.do),
            self._legal(may_speak=True, inside=True),
        )
        run = self._run([vocabulary.end_id], legal)
        for token in run:
            self.tally.audio_tokens += 1
            yield from self._audio(audio.push(token))
        if run.stopped_by is None or legal.must_end:
            self.tally.reason = "length"
        yield from self._audio(audio.flush())

    def _audio(self, samples: Any) -> Iterator[Delta]:
        if len(samples):
            yield Delta(audio=samples, sample_rate=self.processor.codec_out.spec.sample_rate)

    def _count(self, run: TokenRun) -> None:
        """Take note of a token of the answer's text."""
        self.tally.text_tokens += 1
        if run.logprob is not None:
            self.tally.logprobs.append(run.logprob)

    def _run(self, stop_ids: Sequence[int] | frozenset[int], legal: LegalTokens) -> TokenRun:
        return TokenRun(self._decoding, self._logits, self._sampler, stop_ids, max(self._left, 0), legal)

    def _legal(self, may_speak: bool, inside: bool = False) -> LegalTokens:
        processor = self.processor
        vocabulary = processor.vocabulary_out or processor.vocabulary_in
        length = len(self._decoding)
        limits = AudioLimits(allow_start=False)
        if may_speak:
            multiple = processor.codec_out.spec.pad_to_frames
            limits = AudioLimits(frame_multiple=multiple, max_length=length + max(self._left, 0))
        placeholder = processor.audio_token_id
        return LegalTokens(
            self._logits.shape[-1],
            vocabulary,
            limits,
            forbidden=() if placeholder is None else (placeholder,),
            inside=inside,
            length=length,
        )


# (prompt, checked options, where tokens are counted) -> one answer to it
MakeTurn = Callable[[dict[str, Any], SamplingOptions, Tally], Turn]
