"""The assistant behind ``vivavoce.load``: chat, transcribe and say, whole or as it arrives."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.inference.batching.batcher import Batcher
from vivavoce.inference.batching.calls import Calls
from vivavoce.inference.collect import collect
from vivavoce.inference.finish import Tally
from vivavoce.inference.history import (
    Messages,
    as_messages,
    last_clips,
    prepare_history,
    typed_texts,
    unknown_words,
)
from vivavoce.inference.reading_aloud import ReadingAloud
from vivavoce.inference.reply import Delta, Reply, Transcript
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.inference.transcribing import Transcribing, is_unclear
from vivavoce.inference.turn import ReadPrompt, Turn
from vivavoce.models.config import EmbeddingsIn, NoAudio, TokensOut
from vivavoce.models.loading import list_models, load_speech_lm
from vivavoce.models.presets.preset import Sources
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

MakeTurn = Callable[[list[dict[str, Any]], SamplingOptions, Tally], Turn]


def load(
    name: str | Path = "nano",
    quantize: str | None = None,
    device: str | None = None,
    dtype: Any = None,
    sources: Sources | None = None,
    accept_other: bool = False,
) -> Assistant:
    """Load a model by name, folder or hub id as an assistant; arguments and errors as ``load_speech_lm``."""
    model, processor = load_speech_lm(name, quantize, device, dtype, sources, accept_other)
    return Assistant(model, processor, str(name))


class Assistant:
    """A speech LM with its processor, for conversations.

    Sampling options (``temperature``, ``top_p``, ``top_k``, ``min_p``, ``repetition_penalty``, ``seed``,
    ``max_new_tokens``, ``stop``, ``logprobs``, ``top_logprobs``) are given to the calls; what is not given comes
    from the model's config.

    Args:
        model: The speech LM.
        processor: Its processor.
        name: For messages.
        batcher: Runs the model in a thread of its own, so that many threads may use the assistant and its sessions at
            once and share forwards. None runs everything in the caller's thread, for one caller at a time.
    """

    def __init__(
        self,
        model: SpeechLM,
        processor: SpeechProcessor,
        name: str = "this model",
        batcher: Batcher | None = None,
    ) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.use(batcher)

    def use(self, batcher: Batcher | None) -> None:
        """Run the model in a batcher's thread from now on, or in the caller's; sessions go on as they began."""
        self.calls: Calls = batcher or Calls(self.model)
        self._transcribing = Transcribing(self.model, self.processor, self.name)
        self._aloud = ReadingAloud(self.model, self.processor, self.calls)

    # what it can do

    @property
    def hears(self) -> bool:
        """Whether audio may be in the messages."""
        return not isinstance(self.model.config.audio_in, NoAudio)

    @property
    def speaks(self) -> bool:
        """Whether ``audio=True`` and ``say`` work."""
        return isinstance(self.model.config.audio_out, TokensOut)

    @property
    def clips_first(self) -> bool:
        """Whether words about a clip belong after it, as the model was trained."""
        return bool(getattr(self.model.config.audio_in, "clip_after", ""))

    @property
    def chats(self) -> bool:
        """False for models that only read text aloud."""
        mouth = self.model.config.audio_out
        return not (isinstance(mouth, TokensOut) and mouth.prompt == "orpheus")

    @property
    def takes_tools(self) -> bool:
        """Whether the model's chat template describes tools to it."""
        return self.processor.takes_tools

    @property
    def voices(self) -> tuple[str, ...]:
        """Names for ``voice=``; empty if the model has one unnamed voice."""
        mouth = self.model.config.audio_out
        if not isinstance(mouth, TokensOut):
            return ()
        if mouth.alignment != "none":
            return tuple(getattr(getattr(self.model.voice, "config", None), "voices", ()))
        return mouth.speakers

    @property
    def sample_rate(self) -> int:
        """Rate of spoken answers, Hz."""
        self._check_speaks()
        return self.processor.codec_out.spec.sample_rate

    def sampling(self, options: Mapping[str, Any]) -> SamplingOptions:
        """Options of one answer: what is given, over what the model's config says.

        Raises:
            ConfigError: Unknown options or values out of range.
        """
        return SamplingOptions.merge(self.model.config.sampling, options)

    # calls

    def chat(
        self,
        messages: Messages,
        audio: bool = False,
        voice: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> Reply:
        """Answer a conversation.

        Args:
            messages: ``[{"role", "content"}]`` in the transformers / OpenAI shape, the last one from the
                user; or the text of one question.
            audio: Speak the answer too.
            voice: One of ``voices``; default the one for the question's language, else the first.
            tools: Functions the model may call, as OpenAI describes them, where ``takes_tools``; a call is in the text
                of the answer, as the model writes it.
            options: Sampling.

        Raises:
            ModelError: Something the model cannot do; the message says which can.
            ConfigError: Malformed messages or options.
            AudioError: A recording that cannot be used.
        """
        deltas = self.stream(messages, audio=audio, voice=voice, tools=tools, **options)
        return collect(deltas, self.sample_rate if audio else None)

    def stream(
        self,
        messages: Messages,
        audio: bool = False,
        voice: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> Iterator[Delta]:
        """Answer a conversation piece by piece; arguments and errors as ``chat``.

        The pieces joined equal what ``chat`` returns for the same options. Errors about arguments are raised
        here, before the first piece is asked for.
        """
        sampling = self.sampling(options)
        self.check_can_answer(audio, voice)
        return self.answer(
            as_messages(messages), audio, voice, sampling, make_turn=partial(self._turn, tools=tools)
        )

    def check_can_answer(self, audio: bool = False, voice: str | None = None) -> None:
        """Refuse what no answer can be: chats of a model that only reads aloud, speech of one that only writes.

        Raises:
            ModelError: The model cannot; the message says which can.
            ConfigError: Unknown voice.
        """
        if not self.chats:
            raise ModelError(
                f"{self.name} reads text aloud and does not chat; use say(text), or a model that chats: "
                f"{self._models(lambda m: m.chats)}."
            )
        if audio:
            self._check_speaks()
            self._check_voice(voice)

    def transcribe(self, source: Any, translate: bool = False, **options: Any) -> Transcript:
        """Write down what is said in a recording.

        Args:
            source: Path, bytes, ``(array, sampling_rate)``, or an audio part.
            translate: In English, whatever language is spoken; where ``translates``.
            options: Sampling.

        Raises:
            ModelError: The model does not hear, or was not made to transcribe.
            AudioError: The recording cannot be used.
        """
        self._check_hears()
        return self._transcribing.whole(source, translate, self.sampling(options), self.turn)

    def stream_transcribe(self, source: Any, translate: bool = False, **options: Any) -> Iterator[Delta]:
        """Write down what is said as the model reads it, as ``transcript`` of deltas; arguments and errors as
        ``transcribe``. Models that decide about a whole recording give it in one piece.
        """
        self._check_hears()
        return self._transcribing.stream(source, translate, self.sampling(options), self.turn)

    @property
    def translates(self) -> bool:
        """Whether ``transcribe(translate=True)`` works."""
        return bool(self._transcribing.translate_prompt)

    def say(self, text: str, voice: str | None = None, **options: Any) -> Reply:
        """Read a text aloud.

        Args:
            text: What to say.
            voice: One of ``voices``; default the first.
            options: Sampling.

        Raises:
            ModelError: The model does not speak.
            ConfigError: Nothing to say, or an unknown voice.
        """
        return collect(self.stream_say(text, voice, **options), self.sample_rate)

    def stream_say(self, text: str, voice: str | None = None, **options: Any) -> Iterator[Delta]:
        """Read a text aloud piece by piece; arguments and errors as ``say``."""
        sampling = self.sampling(options)
        self._check_speaks()
        self._check_voice(voice)
        self._aloud.check(text)
        return self._aloud.whole(text, voice, sampling, self.turn)

    # answers

    def answer(
        self,
        messages: list[dict[str, Any]],
        audio: bool,
        voice: str | None,
        sampling: SamplingOptions,
        transcribe: Callable[[Any], Transcript] | None = None,
        make_turn: MakeTurn | None = None,
        tally: Tally | None = None,
    ) -> Iterator[Delta]:
        """Answer checked messages piece by piece: what ``stream`` and sessions share.

        Args:
            messages: Checked, the last one from the user.
            audio: Speak the answer too.
            voice: One of ``voices``.
            sampling: Checked options.
            transcribe: Listens to earlier clips instead of ``transcribe``.
            make_turn: Reads prepared messages, for callers that have read most of them already.
            tally: Where tokens are counted, for callers that may break the answer off.
        """
        tally = tally or Tally()
        yield from self._answer(messages, audio, voice, sampling, transcribe, make_turn or self._turn, tally)
        yield Delta(logprobs=tally.take(), finish=tally.finish())

    def _answer(
        self,
        messages: list[dict[str, Any]],
        audio: bool,
        voice: str | None,
        sampling: SamplingOptions,
        transcribe: Callable[[Any], Transcript] | None,
        make_turn: MakeTurn,
        tally: Tally,
    ) -> Iterator[Delta]:
        messages = prepare_history(messages, self.model.config, transcribe or self.transcribe)
        if unknown_words(messages, self.processor):
            self.processor.prepare(messages)  # what the template cannot take is an error first
            yield from self._refuse(audio, voice, sampling, tally)
            return
        with closing(make_turn(messages, sampling, tally)) as turn:
            yield from self._answer_by(turn, messages[-1], audio, voice, sampling, tally)

    def _answer_by(
        self,
        turn: Turn,
        question: Mapping[str, Any],
        audio: bool,
        voice: str | None,
        sampling: SamplingOptions,
        tally: Tally,
    ) -> Iterator[Delta]:
        ears, clips = self.model.config.audio_in, last_clips([question])
        asked = " ".join(typed_texts(question))
        if clips and isinstance(ears, EmbeddingsIn) and ears.transcript_first:
            for piece in turn.transcript():
                asked += piece
                if piece and not is_unclear(piece, self.model.config):
                    yield Delta(transcript=piece)
            if not turn.understood(clips):
                yield from self._refuse(audio, voice, sampling, tally)
                return
            turn.begin_answer()
        if audio and not self._aloud.aligned:
            yield from turn.speech()
            return
        texts = (Delta(text=piece, logprobs=tally.take()) for piece in turn.text())
        if audio:
            voice = voice or self.processor.voice_for(asked)
            yield from self._aloud.along(texts, voice, sampling, tally)
        else:
            yield from texts

    def _refuse(
        self, audio: bool, voice: str | None, sampling: SamplingOptions, tally: Tally
    ) -> Iterator[Delta]:
        text = self.model.config.refusal_text
        yield Delta(text=text, understood=False)
        if audio:
            yield from self._aloud.part(text, voice, sampling, tally, self.turn)
        tally.reason = "refusal"

    def turn(
        self,
        prompt: dict[str, Any],
        sampling: SamplingOptions,
        tally: Tally | None = None,
        read: ReadPrompt | None = None,
    ) -> Turn:
        """One answer to a prompt.

        Args:
            prompt: From ``SpeechProcessor.prepare``.
            sampling: Checked options.
            tally: Where tokens are counted.
            read: Reads the prompt, for sessions, which have read most of it already.
        """
        return Turn(self.model, self.processor, sampling, prompt, read=read, tally=tally, calls=self.calls)

    # parts

    def _turn(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: SamplingOptions,
        tally: Tally | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Turn:
        return self.turn(self.processor.prepare(messages, tools=tools), sampling, tally)

    # checks

    def _check_hears(self) -> None:
        if not self.hears:
            able = self._models(lambda m: m.hears != "no")
            raise ModelError(f"{self.name} does not hear; models that do: {able}.")

    def _check_speaks(self) -> None:
        if not self.speaks:
            able = self._models(lambda m: m.speaks != "no")
            raise ModelError(f"{self.name} answers in text only; models that speak: {able}.")

    def _check_voice(self, voice: str | None) -> None:
        if voice is None or voice in self.voices or (voice == "default" and not self.voices):
            return
        near = difflib.get_close_matches(voice, self.voices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"unknown voice {voice!r}.{hint} {self.name} has: {', '.join(self.voices) or 'one voice'}."
        )

    @staticmethod
    def _models(able: Any) -> str:
        return ", ".join(m.name for m in list_models() if able(m)) or "none here"
