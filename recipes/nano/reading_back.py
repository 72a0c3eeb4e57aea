"""How well others understand the voice: word error by an independent recogniser, the originals beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from figures import Figure, share, word_error
from judge import Judge, kind_of
from outside_words import WORDS, words_read_right
from speech_data import RATE
from trials import Speech, spoken_answers

from vivavoce.audio.resample import resample
from vivavoce.audio.synthesis import synthesize
from vivavoce.inference.reply import Reply

TEST = "speaking"
DEFAULT = "default"
TEACHERS = {DEFAULT: "flite:slt", "awb": "flite:awb"}
"""Whom each voice of the bundle learned from."""
Sound = tuple[np.ndarray, int]


def try_speaking(
    model: Any, speech: Speech, limit: int | None, miss: Callable[[str, str, str, str], None]
) -> list[Figure]:
    """Sentences, answers and words outside the lexicon by each voice, beside whom it learned from.

    Args:
        model: What ``vivavoce.load`` returned.
        speech: The test texts with flite's audio.
        limit: At most this many sentences and as many answers.
        miss: Called with test, group, wanted and heard text for what was misread.
    """
    judge, timed, figures = Judge(), [], []

    def said(text: str, voice: str | None = None) -> Sound:
        reply = model.say(text, voice=voice)
        timed.append(times_are_sane(reply, text))
        return reply.audio, reply.sample_rate

    def read(name: str, sounds: Iterable[tuple[str, Sound]], aim: str = "") -> None:
        pairs = []
        for text, (wave, rate) in sounds:
            heard = judge.read(wave, rate, kind_of(text) or "")
            pairs.append((text, heard))
            if heard != text:
                miss(TEST, name, text, heard)
        figures.append(word_error(TEST, name, pairs, aim))

    rows = speech.spoken(limit)
    original = [(row["text"], speech.shards.samples(row)) for row in rows]
    read("word error, sentences by the voice", ((text, said(text)) for text, _ in original), "<= 0.08")
    read("word error, sentences by flite (floor)", ((text, (wave, RATE)) for text, wave in original))
    codec = model.processor.codec_out
    read("word error, flite through the codec", ((text, through(codec, wave)) for text, wave in original))
    answers = spoken_answers(limit)
    read("word error, answers by the voice", ((text, said(text)) for text in answers), "<= 0.08")
    if shutil.which("flite"):
        read(
            "word error, answers by flite (floor)",
            ((text, synthesize(text, "flite:slt")) for text in answers),
        )
    for voice, teacher in TEACHERS.items():
        if voice not in model.voices or not shutil.which("flite"):
            continue
        if voice != DEFAULT:
            texts = [text for text, _ in original]
            read(f"word error, sentences by voice {voice}", ((t, said(t, voice)) for t in texts))
            sounds = [(t, synthesize(t, teacher)) for t in texts]
            read(f"word error, sentences by {teacher} (floor)", sounds)
            coded = ((t, through(codec, resample(*sound, RATE))) for t, sound in sounds)
            read(f"word error, {teacher} through the codec", coded)
        words = list(WORDS)[:limit]
        for name, say, aim in (
            (f"voice {voice}", partial(said, voice=voice), ">= 0.8"),
            (teacher, partial(synthesize, voice=teacher), ""),
        ):
            right = [word == heard for word, heard in words_read_right(say, words)]
            figures.append(share(TEST, f"words outside the lexicon by {name}", right, aim))
    return [*figures, share(TEST, "word times in order and within the audio", timed)]


def through(codec: Any, waveform: np.ndarray) -> Sound:
    """A waveform at ``RATE`` after encoding and decoding."""
    rate = codec.spec.sample_rate
    wave = torch.from_numpy(resample(waveform, RATE, rate))[None, None]
    return codec.decode(codec.encode(wave))[0, 0].numpy(), rate


def times_are_sane(reply: Reply, text: str) -> bool:
    """A time for every word, in order, without overlap, none after the audio's end."""
    if reply.audio is None or not reply.sample_rate or len(reply.words) != len(text.split()):
        return False
    end_s, clock = len(reply.audio) / reply.sample_rate, 0.0
    for _, start, end in reply.words:
        if not clock - 1e-6 <= start < end <= end_s + 1e-3:
            return False
        clock = end
    return True
