"""Speaking by the aligned voice: words in, audio and word times out, one word of look-ahead.

Words are pulled only when needed, so speech starts while the text is still being written. Every phrase starts a fresh
context (``<|speak|>``), as in training; the codec's stream runs through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vivavoce.base.errors import ModelError, SessionError
from vivavoce.codecs.contract import Codec, Codes, StreamDecoder
from vivavoce.inference.batching.calls import Calls, FrameDraw
from vivavoce.inference.batching.rows import Row
from vivavoce.models.voice.aligned import AlignedVoice, PhoneTimes
from vivavoce.models.voice.duration import WordWindow
from vivavoce.models.voice.word_alignment import WordAlignment
from vivavoce.tokens.phones import ALL_PHONES, Lexicon, default_lexicon, phone_ids

PAUSE = "|"
"""Given among the words: end the phrase here."""

LONGEST_PHRASE_WORDS = 12


@dataclass(frozen=True)
class SpokenDelta:
    """Audio that is now final, and the word that was just spoken.

    Attributes:
        audio: float32 [S] at the codec's rate; it lags the word by the codec's look-ahead.
        word: The word, or "" for the rest after the last one.
        start_s: Where the word starts in the whole audio, seconds.
        end_s: Where it ends.
        num_codes: Codec tokens that were drawn for it.
    """

    audio: np.ndarray
    word: str
    start_s: float
    end_s: float
    num_codes: int = 0


def phrases(words: Iterable[str]) -> Iterator[Iterator[tuple[str, str | None]]]:
    """Split a lazy stream at PAUSE (or after 12 words) into phrases of (word, next word or None)."""
    source = iter(words)
    for first in source:
        if first != PAUSE:
            yield _phrase(first, source)


def _phrase(word: str, source: Iterator[str]) -> Iterator[tuple[str, str | None]]:
    for count in range(1, LONGEST_PHRASE_WORDS + 1):
        following = next(source, PAUSE) if count < LONGEST_PHRASE_WORDS else PAUSE
        yield word, None if following == PAUSE else following
        if following == PAUSE:
            return
        word = following


class AlignedSpeaker:
    """Drives a model's aligned voice.

    Args:
        model: A SpeechLM with a ``voice``.
        tokenizer: Has ``<|speak|>``, ``<|word|>``, ``<|frames|>`` and a token ``<|ph_x|>`` per phone.
        codec: Decodes the frames; its geometry must be the voice's.
        lexicon: Pronunciations; the shipped one by default.
        calls: Runs the model; default at once.
        lexicons: Of voices that pronounce otherwise, as those of another language.

    Raises:
        ModelError: The model has no aligned voice, the tokenizer lacks a token, or the codec does not fit.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        codec: Codec,
        lexicon: Lexicon | None = None,
        calls: Calls | None = None,
        lexicons: Mapping[str, Lexicon] | None = None,
    ) -> None:
        voice = getattr(model, "voice", None)
        if not isinstance(voice, AlignedVoice):
            raise ModelError(
                "this model has no aligned voice; its audio_out.alignment must be 'word' or 'phone'."
            )
        if codec.spec.codes_per_frame != len(voice.config.slot_levels):
            raise ModelError(
                f"the voice draws {len(voice.config.slot_levels)} codes a frame, codec {codec.spec.name} takes "
                f"{codec.spec.codes_per_frame}; use the codec the voice was trained with."
            )
        self.model, self.codec = model, codec
        self.lexicon, self.lexicons = lexicon or default_lexicon(), dict(lexicons or {})
        self.voice: AlignedVoice = voice
        self.calls = calls or Calls(model)
        known = tokenizer.get_vocab()
        phones = ALL_PHONES[: voice.config.num_phones]
        wanted = ["<|speak|>", "<|word|>", "<|frames|>", *(f"<|ph_{p}|>" for p in phones)]
        if missing := [t for t in wanted if t not in known]:
            raise ModelError(
                f"the tokenizer lacks {len(missing)} tokens of the aligned voice, first {missing[0]!r}."
            )
        self.speak, self.word, self.frames, *self.phone_tokens = (known[t] for t in wanted)

    def stream(
        self,
        words: Iterable[str],
        *,
        voice: str | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Iterator[SpokenDelta]:
        """Speak words as they come.

        Args:
            words: Spoken-form words (see ``tokens.phones.spoken_form``); PAUSE ends a phrase.
            voice: One of ``voice.config.voices``; default the first.
            temperature: 0 takes the likeliest code everywhere.
            seed: For temperature > 0.

        Yields:
            One delta per word, then one with the rest of the audio.

        Raises:
            SessionError: Unknown voice name.
        """
        speaker = self._index(voice)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        decoder, total = self.codec.stream_decoder(), 0
        frame_s = self.voice.config.frame_s
        for phrase in phrases(words):
            for said in self._speak_phrase(phrase, speaker, temperature, generator):
                start, total = total, total + len(said.codes)
                audio = self._decode(decoder, said.codes)
                yield SpokenDelta(audio, said.word, start * frame_s, total * frame_s, said.codes.numel())
        if total:
            rest = self.calls.do(decoder.flush)[0, 0].float().cpu().numpy()
            yield SpokenDelta(rest, "", total * frame_s, total * frame_s)

    def phrase(self, words: Sequence[str], *, voice: str | None = None) -> tuple[WordAlignment, Tensor]:
        """Draw the likeliest codes of one phrase, with the phones and times by which they were drawn.

        What a voice says so is what it already knows; new voices are taught beside it, so that it is not forgotten.

        Args:
            words: Spoken-form words, at most 12.
            voice: One of ``voice.config.voices``; default the first.

        Returns:
            The phones of the words, and codes int64 [N, K].

        Raises:
            SessionError: Unknown voice name, no words or too many.
            ModelError: The voice is not told phones.
        """
        if not 0 < len(words) <= LONGEST_PHRASE_WORDS:
            raise SessionError(f"a phrase of {len(words)} words; wanted 1 to {LONGEST_PHRASE_WORDS}.")
        if self.voice.config.alignment != "phone":
            raise ModelError("this voice ends its words itself; its phones have no times.")
        phones: list[int] = []
        ends: list[float] = []
        word_of, borders = [], [0]
        codes: list[Tensor] = []
        for index, said in enumerate(self._speak_phrase(next(phrases(words)), self._index(voice), 0.0, None)):
            phones += said.phones
            ends += said.ends_s
            word_of += [index] * len(said.phones)
            borders.append(borders[-1] + len(said.codes))
            codes.append(said.codes)
        return WordAlignment(phones, ends, word_of, borders[1:]), torch.cat(codes)

    def _index(self, voice: str | None) -> int:
        """Row of a voice in the table."""
        names = self.voice.config.voices
        if voice is not None and voice not in names:
            raise SessionError(f"voice {voice!r} is unknown; this model has: {', '.join(names)}.")
        return names.index(voice) if voice else 0

    def _decode(self, decoder: StreamDecoder, frames: Tensor) -> np.ndarray:
        """Codes [N, K] in slot order -> audio that is now final."""
        slots = self.voice.config.slot_levels
        levels = [
            frames[:, [i for i, s in enumerate(slots) if s == k]].reshape(1, -1)
            for k in range(max(slots) + 1)
        ]
        codes = Codes(levels, [len(frames) * self.codec.spec.frame_samples])
        audio = self.calls.do(lambda: decoder.push(codes))
        return audio[0, 0].float().cpu().numpy()

    @torch.inference_mode()
    def _speak_phrase(
        self, phrase: Iterator[tuple[str, str | None]], speaker: int, temperature: float, generator: Any
    ) -> Iterator[_Said]:
        """Each word of one phrase."""
        voice, context = self.voice, _Context(self, speaker)
        lexicon = self.lexicons.get(voice.config.voices[speaker], self.lexicon)
        pau = phone_ids(["pau"])
        previous: list[int] = []
        start_s, begin = 0.0, 0
        try:
            for index, (word, following) in enumerate(phrase):
                lexical = phone_ids(lexicon.phones(word))
                ahead = phone_ids(lexicon.phones(following)) if following else []
                text = [self.word, *(self.phone_tokens[p] for p in lexical)]
                if voice.config.alignment == "word":
                    text += [self.word, *(self.phone_tokens[p] for p in ahead)]
                    yield _Said(word, context.until_end([*text, self.frames], temperature, generator))
                    continue
                own = (pau if index == 0 else []) + lexical + ([] if following else pau)
                around = _Around(previous, own, ahead, following is None)
                told, ends = self.calls.do(partial(self._condition, around, start_s, begin, speaker))
                codes = context.conditioned([*text, self.frames], told, temperature, generator)
                yield _Said(word, codes, own, ends)
                previous, start_s, begin = own, ends[-1], begin + len(codes)
        finally:
            context.sequence.close()

    def _condition(
        self, around: _Around, start_s: float, begin: int, speaker: int
    ) -> tuple[Tensor, list[float]]:
        """What each frame of a word is told [N, D], and where its phones end in seconds."""
        voice, ends, at = self.voice, [], start_s
        window = WordWindow.of(around.previous, around.own, around.ahead)
        for seconds in voice.durations.seconds(window, speaker):
            at += seconds
            ends.append(at)
        frames = at / voice.config.frame_s
        border = max(math.ceil(frames) if around.last else round(frames), begin + 1)
        before, after = around.previous[-1:], around.ahead[:1]
        times = PhoneTimes(around.own, ends, start_s, *(x[0] if x else None for x in (before, after)))
        told = voice.embed_condition(*voice.phone_frames(times, begin, border - begin))
        return told, ends


@dataclass(frozen=True)
class _Said:
    """A word's codes [N, K], and its phones and where they end, if it was told any."""

    word: str
    codes: Tensor
    phones: Sequence[int] = ()
    ends_s: Sequence[float] = ()


@dataclass(frozen=True)
class _Around:
    """Phones of a word, of its neighbours, and whether it ends the phrase."""

    previous: list[int]
    own: list[int]
    ahead: list[int]
    last: bool


class _Context:
    """The backbone's cache for one phrase, and what is still to be fed to it."""

    def __init__(self, owner: AlignedSpeaker, speaker: int) -> None:
        self.voice, self.calls = owner.voice, owner.calls
        self.embed_tokens, self.sequence = owner.model.get_input_embeddings(), owner.calls.open()
        self.speaker = self.voice.voice_embedding.weight[speaker]
        self.text_place = self.voice.place_embedding.weight[-1]
        self.pending = self._text([owner.speak]) + self.speaker

    def _text(self, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor(list(ids), device=self.text_place.device)
        return self.embed_tokens(tokens) + self.text_place

    def _run(self) -> Tensor:
        """Feed what is pending; returns the last hidden state [1, D]."""
        return self.calls.feed([Row(self.sequence, embeddings=self.pending, logits=False)])[0]

    def _frame(self, codes: Tensor, place: int) -> Tensor:
        row = min(place, self.voice.config.max_word_frames - 1)
        return self.voice.embed_frames(codes) + self.voice.place_embedding.weight[row]

    def _draw(self, hidden: Tensor, temperature: float, generator: Any) -> Tensor:
        return self.calls.draw_frame(FrameDraw(self.voice, hidden, temperature, generator))

    def conditioned(self, text: Sequence[int], told: Tensor, temperature: float, generator: Any) -> Tensor:
        """Frames of one word whose number and conditions [N, D] are known; codes [N, K]."""
        told, drawn = told + self.speaker, []
        self.pending = torch.cat([self.pending, self._text(text)])
        for place, condition in enumerate(told):
            self.pending[-1] += condition
            hidden = self._run() + self.voice.condition_to_depth(condition[None])
            drawn.append(self._draw(hidden, temperature, generator))
            self.pending = self._frame(drawn[-1], place)
        return torch.cat(drawn)

    def until_end(self, text: Sequence[int], temperature: float, generator: Any) -> Tensor:
        """Frames of one word until the model ends it; codes [N, K], N in [1, max_word_frames]."""
        drawn: list[Tensor] = []
        self.pending = torch.cat([self.pending, self._text(text)])
        while len(drawn) < self.voice.config.max_word_frames:
            hidden = self._run()
            self.pending = hidden.new_zeros(0, hidden.shape[-1])
            if drawn and float(self.voice.end_head(hidden)) > 0:
                break
            drawn.append(self._draw(hidden, temperature, generator))
            self.pending = self._frame(drawn[-1], len(drawn) - 1)
        return torch.cat(drawn)


def concatenate(deltas: Iterable[SpokenDelta]) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """All audio float32 [S], and (word, start_s, end_s) of each word."""
    kept = list(chain(deltas))
    audio = np.concatenate([d.audio for d in kept]) if kept else np.zeros(0, np.float32)
    return audio, [(d.word, d.start_s, d.end_s) for d in kept if d.word]
