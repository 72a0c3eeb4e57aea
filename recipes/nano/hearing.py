"""Batches that teach hearing: what was said before, and speech -> transcript (reading.py teaches the answer to it).

Every step has its own random generators, made from the seed and the step, so a resumed run sees exactly what an
uninterrupted one would have.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from domain import DIGITS, all_items, held_out_facts, held_out_questions
from reading import Conversations
from speech_data import RATE, SPEAKERS, SpeechShards
from torch import Tensor

from vivavoce.audio.augment import (
    AugmentOptions,
    ambient_noise,
    augment,
    babble,
    mask_spectrogram,
    rms,
)
from vivavoce.audio.features import LogMel
from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import resample
from vivavoce.audio.speakers import bend_mel, bend_time, between, tilt_mel
from vivavoce.base.errors import DataError
from vivavoce.data.transcribed import find_recordings
from vivavoce.tokens.phones import Lexicon, phone_ids, spoken_form, words_to_phones

HEAR_RATE = 16_000
SILENCE_S = 0.1
"""Put around every clip, by the product too (``audio_in.silence_s``); see ears.md."""
WIDTH_STEP = 40
OWN = "own"
TELEPHONE = AugmentOptions(
    speed=(0.9, 1.12), snr_db=(0.0, 45.0), low_pass_p=0.8, low_pass_hz=(3200.0, 5000.0), pad_s=(0.0, 0.3),
    noise_in_band=True, noise_p=0.85,
)  # fmt: skip
"""Real digits were recorded at 8 kHz: synthetic ones must sound so too, or the two are told apart by their band."""
REDRAWN_ACCENTS = 0.6
"""Share of accented synthetic digits that are drawn once more; see ears.md."""


@dataclass(frozen=True)
class Variety:
    """Shares of clips that are made to sound like other speakers (vivavoce.audio.speakers); see ears.md."""

    mix_p: float = 0.4
    bend_p: float = 0.8
    bend: tuple[float, float] = (0.09, 2.0)
    time_p: float = 0.5
    tilt_p: float = 0.5


def cut_ends(wave: np.ndarray, rng: random.Random, chance: float = 0.4) -> np.ndarray:
    """Now and then take up to 50 ms off an end, never more than 12 %: recordings are cut at faint sounds too soon."""
    most = min(0.05 * HEAR_RATE, 0.12 * len(wave))
    first, last = (int(rng.uniform(0, most)) if rng.random() < chance else 0 for _ in range(2))
    return wave[first : len(wave) - last]


def read_recordings(place: Path, words: set[str]) -> list[tuple[np.ndarray, str]]:
    """Somebody's recordings: (waveform 16 kHz, transcript in spoken words).

    Args:
        place: As ``find_recordings`` takes it.
        words: All that the ears can write.

    Raises:
        DataError: There is none, or a transcript has other words, or none.
    """
    rows = []
    for recording in find_recordings(place):
        said = spoken_form(recording.transcript)
        if unknown := [word for word in said if word not in words]:
            raise DataError(
                f"{recording.name}: {unknown[0]!r} is no word that the ears can write; leave the recording out."
            )
        if not said:
            raise DataError(
                f"{recording.name}: the transcript is empty; write what is said, or leave it out."
            )
        wave, _ = read_audio(recording.audio, HEAR_RATE, recording.start_s, recording.end_s)
        rows.append((wave, " ".join(said)))
    return rows


@dataclass
class HearingBatch:
    """Padded log-mel features, lengths, CTC targets, and token rows that follow the audio."""

    features: Tensor  # [B, M, T]
    lengths: Tensor  # [B]
    transcripts: list[list[int]]  # CTC targets, empty for what must be refused
    phones: list[list[int]] | None  # their phones' ids + 1; None where nobody learns them
    before: list[list[int]]  # tokens before the audio, ends with <|user|>
    after: list[
        list[int]
    ]  # <|heard|> words <|assistant|> or <|heard|> <|unclear|> <|end|>, trained from the second


class HearingData:
    """Draws utterances of every kind and turns them into training rows.

    Args:
        speech: Folder of make_speech.py.
        digits: Folder of the Free Spoken Digit Dataset, or None to train on synthetic speech only.
        tokenizer: The bundle's tokenizer.
        speakers: Real speakers to use.
        people_share: Share of rows that are real digits.
        more_digits: Folder of make_digits.py, or None for what ``speech`` has.
        digit_share: Share of rows that are synthetic digits of ``more_digits``.
        more_speech: Further folders of make_speech.py (``--plan more``, ``wide``). Their follow-ups stand
            on a conversation drawn before them.
        lexicon: Gives the phones of transcripts, for ears that read them.
        follow_share: Share of follow-ups among rows that are neither digits nor noise, beside those drawn anyway.
        own: Somebody's recordings (``read_recordings``), who is one more real speaker: all ten digits give strings
            and sums too, the rest is learned as it is.
    """

    def __init__(
        self,
        speech: Path,
        digits: Path | None,
        tokenizer,
        speakers: tuple[str, ...] = SPEAKERS,
        people_share: float = 0.2,
        more_digits: Path | None = None,
        digit_share: float = 0.2,
        more_speech: Sequence[Path] = (),
        lexicon: Lexicon | None = None,
        follow_share: float = 0.0,
        own: Path | None = None,
    ) -> None:
        self.tokenizer, self.mel, self.people_share, self.variety = (
            tokenizer,
            LogMel(),
            people_share,
            Variety(),
        )
        self.lexicon, self.follow_share = lexicon, follow_share
        self.shards = SpeechShards(speech, {"train", "unknown"}, more_speech)
        kinds: dict[str, list[dict]] = {"domain": [], "digit": [], "unknown": []}
        for row in self.shards.rows:
            kinds[
                "unknown" if row["split"] == "unknown" else "digit" if row["kind"] == "digit" else "domain"
            ].append(row)
        self.kinds = kinds
        self.digit_share = digit_share if more_digits is not None else 0.0
        self.digit_shards = SpeechShards(more_digits) if more_digits is not None else None
        self.digit_rows: dict[str, list[dict]] = {"digit": [], "string": []}
        self.carriers: dict[str, list[dict]] = {}
        for row in self.digit_shards.rows if self.digit_shards is not None else ():
            (self.carriers if row["kind"] == "carrier" else self.digit_rows).setdefault(
                row["text"] if row["kind"] == "carrier" else row["kind"], []
            ).append(row)
        counts = Counter(word for row in kinds["domain"] for word in row["text"].split())
        # a clip with a rare word comes up more often, up to about four times
        rarity = (min(counts[word] for word in row["text"].split()) ** -0.25 for row in kinds["domain"])
        self.domain_weights = list(accumulate(rarity))
        self.follow_rows = [row for row in kinds["domain"] if row["kind"] == "follow"]
        self.people: dict[tuple[str, int], list[np.ndarray]] = {}
        if digits is not None:
            for path in sorted(digits.glob("*.wav")):
                digit, speaker, _ = path.stem.split("_")
                if speaker in speakers:
                    wave, _ = read_audio(path, sample_rate=HEAR_RATE)
                    self.people.setdefault((speaker, int(digit)), []).append(wave)
        self.speakers = speakers if self.people else ()
        self.own: list[tuple[np.ndarray, str]] = []
        if own is not None:
            self.own = read_recordings(own, set(tokenizer.get_vocab()))
            if {text for _, text in self.own} >= set(DIGITS):
                for wave, text in self.own:
                    if text in DIGITS:
                        self.people.setdefault((OWN, DIGITS.index(text)), []).append(wave)
                self.own = [row for row in self.own if row[1] not in DIGITS]
            self.speakers += (OWN,)
        items = all_items()
        unseen = held_out_facts(items)
        unheard = held_out_questions(items)
        self.sums = [
            i.question
            for i in items
            if i.kind == "arithmetic" and i.fact not in unseen and i.question not in unheard
            if sum(word in DIGITS for word in i.question.split()) == 2
        ]
        self.reading = Conversations(tokenizer)
        get = tokenizer.convert_tokens_to_ids
        self.user, self.heard = get("<|user|>"), get("<|heard|>")
        self.assistant, self.end, self.unclear = get("<|assistant|>"), get("<|end|>"), get("<|unclear|>")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(text.split())

    def _wave(self, row: dict) -> np.ndarray:
        return resample(self.shards.samples(row), RATE, HEAR_RATE)

    def _voices(self, rng: random.Random, count: int) -> list[np.ndarray]:
        return [self._wave(rng.choice(self.kinds["domain"])) for _ in range(count)]

    def _person(self, rng: random.Random) -> tuple[np.ndarray, str]:
        """One of somebody's recordings; or real digits of one speaker: one, a string, or a sum in synthetic words."""
        speaker, kind = rng.choice(self.speakers), rng.random()
        if speaker == OWN and self.own and ((OWN, 0) not in self.people or rng.random() < 0.5):
            return rng.choice(self.own)
        if kind < 0.15 and self.carriers:
            text = rng.choice(self.sums)
        else:
            text = " ".join(rng.choice(DIGITS) for _ in range(1 if kind < 0.65 else rng.randint(2, 5)))
        parts: list[np.ndarray] = []
        tract = rng.uniform(0.9, 1.1)  # the carrier's voice, one within a clip
        for piece in re.split(r" ?\b(what is|how much is|plus|minus|times|\w+)\b ?", text)[1::2]:
            if piece in DIGITS:
                wave = cut_ends(rng.choice(self.people[speaker, DIGITS.index(piece)]), rng)
                parts.append(wave * (0.1 / rms(wave)))
            else:
                wave = self._digit_wave(rng.choice(self.carriers[piece]))
                wave = resample(wave, HEAR_RATE, int(HEAR_RATE * tract) // 100 * 100)
                parts.append(wave * (0.1 / rms(wave)))
            parts.append(np.zeros(int(rng.uniform(0.02, 0.3) * HEAR_RATE), np.float32))
        return np.concatenate(parts[:-1]).astype(np.float32), text

    def _digit_wave(self, row: dict) -> np.ndarray:
        assert self.digit_shards is not None
        return resample(self.digit_shards.samples(row), RATE, HEAR_RATE)

    def _refused(self, rng: random.Random, noise: np.random.Generator) -> np.ndarray:
        """Something that must not be understood: silence, noise, many voices, reversed or chopped speech."""
        samples, u = int(rng.uniform(0.3, 2.5) * HEAR_RATE), rng.random()
        if u < 0.12:
            return (noise.standard_normal(samples) * rng.choice([0.0, 1e-5, 1e-4])).astype(np.float32)
        if u < 0.5:
            return ambient_noise(samples, HEAR_RATE, noise) * float(10 ** rng.uniform(-3, -0.7))
        if u < 0.72:
            mixed = babble(samples, self._voices(rng, rng.randint(3, 8)), noise)
            return mixed * float(10 ** rng.uniform(-2.5, -0.8))
        wave = self._person(rng)[0] if self.people and rng.random() < 0.4 else self._voices(rng, 1)[0]
        if u < 0.9:
            return augment(np.ascontiguousarray(wave[::-1]), HEAR_RATE, noise)
        size = max(800, len(wave) // 12)  # shuffled pieces: speech-like sound in no order
        pieces = [wave[i : i + size] for i in range(0, len(wave), size)]
        rng.shuffle(pieces)
        return augment(np.concatenate(pieces), HEAR_RATE, noise)

    def draw(self, rng: random.Random, strength: float) -> tuple[np.ndarray, str]:
        """(waveform 16 kHz, transcript); an empty transcript means "refuse"."""
        noise = np.random.default_rng(rng.getrandbits(32))
        if rng.random() < 0.4:
            strength *= 0.25  # a good share stays nearly clean: that is where words are learned
        u = rng.random()
        if u < 0.07:
            return self._refused(rng, noise), ""
        voices = self._voices(rng, 3) if rng.random() < 0.12 * strength else []
        if self.people and rng.random() < self.people_share:
            wave, text = self._person(rng)
            wave = augment(
                wave, HEAR_RATE, noise, strength=max(strength, 0.5), voices=voices, options=TELEPHONE
            )
            return wave, text
        if rng.random() < self.digit_share:
            rows = self.digit_rows["digit" if rng.random() < 0.85 else "string"]
            row = rng.choice(rows)
            if rng.random() < REDRAWN_ACCENTS and row["said"].rstrip(".!?,") != row["text"]:
                row = rng.choice(rows)
            strength = max(strength, 0.5)
            wave = cut_ends(self._digit_wave(row), rng)
            wave = augment(wave, HEAR_RATE, noise, strength=strength, voices=voices, options=TELEPHONE)
            return wave, row["text"]
        if self.follow_rows and rng.random() < self.follow_share:
            row = rng.choice(self.follow_rows)
        elif u > 0.88:
            row = rng.choice(self.kinds["unknown" if u > 0.92 else "digit"])
        else:
            row = rng.choices(self.kinds["domain"], cum_weights=self.domain_weights)[0]
        wave = augment(self._wave(row), HEAR_RATE, noise, strength=strength, voices=voices)
        return wave, "" if row["split"] == "unknown" else row["text"]

    def batch(self, rng: random.Random, size: int, strength: float) -> list[HearingBatch]:
        """Batches of ``size`` / 2, / 4 and / 4 rows, short and long clips apart, so that padding stays small."""
        drawn = sorted((self.draw(rng, strength) for _ in range(size)), key=lambda row: len(row[0]))
        cuts = [0, size // 2, size * 3 // 4, size]
        return [self._collate(drawn[a:b], rng, strength) for a, b in pairwise(cuts) if a < b]

    def _features(self, wave: np.ndarray) -> np.ndarray:
        """Log-mel [M, T] of a clip, with the silence around it that the product gives it too."""
        around = round(SILENCE_S * HEAR_RATE)
        samples = torch.from_numpy(np.pad(wave, (around, around)))
        features: np.ndarray = self.mel(samples[None])[0][0].numpy()
        return features

    def _vary(
        self, clips: list[np.ndarray], texts: list[str], rng: random.Random, strength: float
    ) -> list[np.ndarray]:
        """Each clip by another speaker: mixed with one of the same digit, formants and times moved, parts hidden."""
        same: dict[str, list[int]] = {}
        for i, text in enumerate(texts):
            same.setdefault(text, []).append(i)
        out = []
        for i, (clip, text) in enumerate(zip(clips, texts, strict=True)):
            noise = np.random.default_rng(rng.getrandbits(32))
            others = [k for k in same[text] if k != i and text in DIGITS]
            if others and rng.random() < self.variety.mix_p * strength:
                clip = between(clip, clips[rng.choice(others)], rng.uniform(0.2, 0.8))
            if rng.random() < self.variety.bend_p * strength:
                clip = bend_mel(clip, noise, *self.variety.bend)
            if rng.random() < self.variety.time_p * strength:
                clip = bend_time(clip, noise)
            if rng.random() < self.variety.tilt_p * strength:
                clip = tilt_mel(clip, noise)
            if rng.random() < 0.5 * strength:
                clip = mask_spectrogram(clip, noise)
            out.append(clip)
        return out

    def _collate(
        self, drawn: list[tuple[np.ndarray, str]], rng: random.Random, strength: float
    ) -> HearingBatch:
        texts = [text for _, text in drawn]
        clips = self._vary([self._features(wave) for wave, _ in drawn], texts, rng, strength)
        lengths = torch.tensor([clip.shape[1] for clip in clips])
        # few different widths: the kernels of a width are made once
        width = -(-int(lengths.max()) // WIDTH_STEP) * WIDTH_STEP
        features = torch.zeros(len(clips), self.mel.num_mels, width)
        for i, clip in enumerate(clips):
            features[i, :, : clip.shape[1]] = torch.from_numpy(clip)
        transcripts, before, after = [], [], []
        for text in texts:
            words = self.ids(text)
            transcripts.append(words)
            before.append([*self.reading.history(rng, text), self.user])
            after.append(
                [self.heard, *words, self.assistant] if words else [self.heard, self.unclear, self.end]
            )
        phones = None
        if self.lexicon is not None:
            spelled = [words_to_phones(text.split(), self.lexicon) for text in texts]
            phones = [[1 + i for word in words for i in phone_ids(word)] for words in spelled]
        return HearingBatch(features, lengths, transcripts, phones, before, after)
