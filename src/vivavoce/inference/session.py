"""A conversation that goes on: audio and text in as they come, answers out as they are made, one cache throughout."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, cast
from weakref import ReferenceType, ref

import numpy as np
import torch

from vivavoce.base.errors import AudioError, ConfigError, ModelError, SessionError
from vivavoce.inference.assistant import Assistant
from vivavoce.inference.finish import Finish, Tally
from vivavoce.inference.generate import Decoding
from vivavoce.inference.heard_clips import HeardClips, audio_parts_of
from vivavoce.inference.history import last_clips, prepare_history
from vivavoce.inference.kept import Chunk, KeptPrompt
from vivavoce.inference.listening import Prefill, block_rule, listener, prefill_of
from vivavoce.inference.played import GivenOut
from vivavoce.inference.recording import IncomingRecording, tokens_before
from vivavoce.inference.reply import Delta, Transcript
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.inference.turn import Turn
from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import HeardAudio, SpeechLM

AT_ONCE = 16  # sound tokens that are read together while the user speaks


class Session:
    """A conversation with one model.

    An answer equals ``Assistant.chat(session.messages)`` for the same options, whatever was read early: at the end of
    a question the whole prompt is made as it is made there, and the cache counts only as far as it begins like it.

    Streaming: state is the key-value cache, the recordings of the conversation, and one codec or encoder input stream
    while a recording comes in. Not for use from several threads at once.

    Args:
        assistant: The assistant, or a model, which then needs its processor.
        processor: Of a model.
        messages: How the conversation begins, such as a system message; as ``Assistant.chat`` takes them.
        sampling: Options of all answers, see ``SamplingOptions``; a seed is taken anew for each answer.

    Raises:
        ModelError: The model does not chat.
        ConfigError: Unknown options or values out of range.

    Attributes:
        prefill: What of a recording is read while it comes in: "tokens" by the codec's streaming encoder, "blocks"
            of a block-causal encoder, "chunks" that fill one pass of the encoder, or "none". The conversation up to
            the recording is read early in any case.
        finish: How the last answer ended, with its token counts; None before. An answer that was interrupted says so
            here, as it has no last delta.
    """

    def __init__(
        self,
        assistant: Assistant | SpeechLM,
        processor: SpeechProcessor | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] = (),
        **sampling: Any,
    ) -> None:
        if isinstance(assistant, SpeechLM):
            if processor is None:
                raise ConfigError("a model needs its processor beside it: Session(model, processor).")
            assistant = Assistant(assistant, processor)
        self.assistant = assistant
        self.assistant.check_can_answer()
        self._model, self._processor = assistant.model, assistant.processor
        self._given_options = dict(sampling)
        self.assistant.sampling(sampling)  # refuses what cannot be
        self.prefill: Prefill = prefill_of(self._processor)
        self._given = [dict(message) for message in messages]
        self._running: ReferenceType[Generator[Delta, None, None]] | None = None
        self.reset()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, without a question that has not been answered; a copy."""
        return [dict(message) for message in self._messages]

    def reset(self) -> None:
        """Begin anew: forget the conversation but for the ``messages`` it was made with, and free the cache."""
        self._stop()
        self._messages = [dict(message) for message in self._given]
        self._parts: list[dict[str, Any]] = []
        self._clips = HeardClips(self._processor)
        self._listened: dict[int, tuple[Any, Transcript]] = {}
        self._kept: KeptPrompt = KeptPrompt(
            self._model,
            block_rule(self._processor) if self.prefill == "blocks" else None,
            self.assistant.calls,
        )
        self._recording: IncomingRecording | None = None
        self._answer: GivenOut | None = None
        self._tally = Tally()
        self.finish: Finish | None = None
        self._prompt_length = 0
        self.answering = False

    # the user's turn

    def feed_audio(self, chunk: np.ndarray, sample_rate: int) -> None:
        """Take a piece of what the user says; pieces that follow each other are one recording.

        Args:
            chunk: float [S], S >= 0, nominally within -1 and 1.
            sample_rate: Hz, the same for a whole recording.

        Raises:
            SessionError: An answer is being given; finish it or call ``interrupt``.
            ModelError: The model does not hear.
            AudioError: Not samples, NaN, or another rate than before.
        """
        self._check_listening("feed_audio")
        if not self.assistant.hears:
            raise ModelError(f"{self.assistant.name} does not hear; use feed_text.")
        chunk = np.asarray(chunk)
        if chunk.ndim != 1 or chunk.dtype.kind != "f" or not np.isfinite(chunk).all():
            raise AudioError(
                f"a chunk has shape {chunk.shape}, {chunk.dtype}; wanted finite float samples [S]."
            )
        if not len(chunk):
            return
        if self._recording is None:
            ears = listener(self._processor, self.prefill, int(sample_rate))
            self._recording = IncomingRecording(ears, int(sample_rate), *self._prompt_before_audio())
        recording = self._recording
        if recording.sample_rate != sample_rate:
            raise AudioError(
                f"this recording began at {recording.sample_rate} Hz and goes on at {sample_rate} Hz; resample the "
                "chunks to one rate."
            )
        self.assistant.calls.do(lambda: recording.push(chunk.astype(np.float32)))
        self._read_early(recording)

    def feed_text(self, text: str) -> None:
        """Take text of the user; pieces that follow each other are one text, and end a recording.

        Raises:
            SessionError: An answer is being given.
            ConfigError: Not a text.
        """
        self._check_listening("feed_text")
        if not isinstance(text, str):
            raise ConfigError(f"feed_text got {type(text).__name__}; wanted a str.")
        self._end_recording()
        if self._parts and self._parts[-1]["type"] == "text":
            self._parts[-1]["text"] += text
        elif text:
            self._parts.append({"type": "text", "text": text})

    def forget_input(self) -> None:
        """Drop what was fed since the last answer.

        Raises:
            SessionError: An answer is being given.
        """
        self._check_listening("forget_input")
        self._recording, self._parts = None, []

    def replace_history(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Put another history in place of this one; what was fed since stays fed.

        The cache is kept as far as both begin alike, recordings are known by the object that holds their samples.

        Args:
            messages: As ``Assistant.chat`` takes them; may end with the user's.

        Raises:
            SessionError: An answer is being given.
        """
        self._check_listening("replace_history")
        self._messages, self._answer = [dict(message) for message in messages], None
        parts = audio_parts_of(messages)
        self._clips.keep(parts)
        known = {id(part.get("audio", part)) for part in parts}
        self._listened = {key: heard for key, heard in self._listened.items() if key in known}
        self._begin_recording_again()

    # the model's turn

    def respond(self, audio: bool = False, voice: str | None = None, **options: Any) -> Iterator[Delta]:
        """End the user's turn and answer it piece by piece.

        The answer must be taken to its end, or ended by ``interrupt``, before anything is fed again. If it fails, the
        question is dropped and the conversation is as before it.

        Args:
            audio: Speak the answer too.
            voice: One of the assistant's voices.
            options: Sampling of this answer, over the session's.

        Raises:
            SessionError: Nothing was fed, or an answer is being given.
            ModelError, ConfigError: As ``Assistant.stream``.
        """
        self._check_listening("respond")
        self.assistant.check_can_answer(audio, voice)
        sampling = self.assistant.sampling({**self._given_options, **options})
        self._end_recording()
        if not self._parts:
            raise SessionError("there is nothing to answer; feed audio or text first.")
        only_text = all(part["type"] == "text" for part in self._parts)
        content: Any = "".join(part["text"] for part in self._parts) if only_text else self._parts
        question = {"role": "user", "content": content}
        self._parts, self._answer, self.answering, self._prompt_length = [], GivenOut(), True, 0
        self._tally = Tally()
        running = self._respond(question, self._answer, audio, voice, sampling)
        self._running = ref(
            running
        )  # who asked holds it, and it the session: dropped together, both go at once
        self._messages.append(question)
        return running

    def _respond(
        self,
        question: dict[str, Any],
        given: GivenOut,
        audio: bool,
        voice: str | None,
        sampling: SamplingOptions,
    ) -> Generator[Delta, None, None]:
        messages = self.messages
        try:
            for delta in self.assistant.answer(
                messages, audio, voice, sampling, self._transcribe, self._turn, self._tally
            ):
                given.add(delta)
                if delta.finish is not None:
                    self.finish = delta.finish
                    self._end_answer(question, given, given.text.strip())
                yield delta
        except GeneratorExit:
            raise
        except BaseException:
            self._messages.pop()
            self._answer, self.answering = None, False
            self._kept.clear()
            raise

    def interrupt(self, played_s: float | None = None) -> str:
        """End the answer where the user broke in: history and cache keep only what was played of it.

        It may come while an answer is being made, or after it, while it is still being played.

        Args:
            played_s: Seconds of its speech that were played (how they become text: see ``GivenOut``). None keeps all
                that was given out.

        Returns:
            The text that stays in the history, "" if nothing was played.

        Raises:
            SessionError: There is no answer.
            ConfigError: Seconds that cannot be.
        """
        given = self._answer
        if given is None:
            raise SessionError("there is no answer to interrupt; call respond first.")
        text = given.played(played_s)
        if self.answering:
            self._stop()
            self._end_answer(self._messages[-1], given, text)
        else:
            self._messages[-1]["content"] = text
        self.finish = self._tally.finish("interrupted")
        self._trim()
        self._begin_recording_again()
        return text

    def _begin_recording_again(self) -> None:
        """What is before a recording that comes in has changed."""
        if self._recording is not None:
            self._recording.begin_again(*self._prompt_before_audio())

    def _end_answer(self, question: dict[str, Any], given: GivenOut, text: str) -> None:
        self.answering = False
        clips = audio_parts_of([question])
        whole = bool(given.text) and given.understood  # a transcript is whole once the answer has begun
        if len(clips) == 1 and given.transcript and whole:
            cast("dict[str, Any]", clips[0])["transcript"] = given.transcript.strip()
        self._messages.append({"role": "assistant", "content": text})

    def _stop(self) -> None:
        running = self._running() if self._running is not None else None
        if running is not None:
            running.close()
        self._running = None

    def _trim(self) -> None:
        """Cut the cache to the conversation as it is now."""
        ears = self._model.config.audio_in
        unheard = [part for part in audio_parts_of(self._messages) if not part.get("transcript")]
        if isinstance(ears, EmbeddingsIn) and ears.transcript_first and unheard:
            self._kept.decoding.crop(
                self._prompt_length
            )  # what was said is not known, only that it was heard
            return
        ids, chunks = self._prompt(
            prepare_history(self._messages, self._model.config, self._transcribe), end=False
        )
        self._kept.trim(ids, chunks)

    # prompts

    def _prompt(
        self, messages: Sequence[Mapping[str, Any]], end: bool = True
    ) -> tuple[list[int], list[Chunk]]:
        """Prepared messages as ``Assistant.chat`` renders them, and their audio."""
        entries, chunks = self._clips.entries(audio_parts_of(messages))
        return self._processor.prepare(messages, add_generation_prompt=end, entries=entries)[
            "input_ids"
        ], chunks

    def _turn(self, messages: list[dict[str, Any]], sampling: SamplingOptions, tally: Tally) -> Turn:
        ids, chunks = self._prompt(messages)
        self._prompt_length = len(ids)
        clips = last_clips(messages)
        last = len(chunks) - len(self._clips.entries(audio_parts_of(messages[:-1]))[1]) if clips else 0

        def read(gated: bool) -> tuple[Decoding, torch.Tensor, HeardAudio | None]:
            logits, heard = self._kept.read(ids, chunks, hear_last=last if gated else 0)
            self._kept.end_recording()
            return self._kept.decoding, logits, heard

        return self.assistant.turn({"input_ids": ids}, sampling, tally, read)

    def _prompt_before_audio(self) -> tuple[list[int], list[Chunk]]:
        """The tokens before a recording that begins now, as far as they are certain, and the audio among them."""
        begun = {
            "type": "audio",
            "audio": np.zeros(1, np.float32),
            "sampling_rate": self._processor.sample_rate,
        }
        question = {"role": "user", "content": [*self._parts, begun]}
        messages = prepare_history([*self._messages, question], self._model.config, self._transcribe)
        entries, chunks = self._clips.entries(audio_parts_of(messages)[:-1])
        return tokens_before(self._processor, messages, entries, chunks), chunks

    def _read_early(self, recording: IncomingRecording) -> None:
        """Put what is final of a recording into the cache."""
        ids, chunks = recording.prompt(self._processor.audio_token_id)
        longest = getattr(self._model.config.text_config, "max_position_embeddings", None)
        if longest is not None and len(ids) >= longest:
            return  # too long for an answer, which will say so
        least = AT_ONCE if recording.num_read and self.prefill == "tokens" else 1
        if len(ids) - recording.num_read >= least:
            recording.num_read = len(ids)
            self._kept.read(ids, chunks)

    def _end_recording(self) -> None:
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        part = recording.part()
        ids = self.assistant.calls.do(recording.ears.finish)
        if ids is not None:
            self._clips.remember(part, ids)
        self._parts.append(part)

    def _transcribe(self, part: Any) -> Transcript:
        """Listen to an earlier recording whose transcript nobody kept, once."""
        source = part.get("audio", part)
        if id(source) not in self._listened:
            self._listened[id(source)] = source, self.assistant.transcribe(part)
        return self._listened[id(source)][1]

    def _check_listening(self, call: str) -> None:
        if self.answering:
            raise SessionError(
                f"{call} came while an answer is being given; take the iterator of respond to its end, or call "
                "interrupt(played_s=...) first."
            )
