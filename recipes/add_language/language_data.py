"""What a new language is learned from: its recordings, its typed questions, its speaker; and the old language's."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch
from domain import ONES
from hearing import HearingData
from language import Language
from prepare_voice import read_times
from reading import Conversations
from speaking import SpeakingData
from speech_data import RATE, SpeechShards
from torch import Tensor

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.loading import load_codec
from vivavoce.models.voice.aligned import AlignedVoiceConfig
from vivavoce.models.voice.teaching import Teacher, Utterance, slot_frames
from vivavoce.models.voice.word_alignment import align_words
from vivavoce.tokens.phones import ADDED_PHONES, ALL_PHONES, Lexicon, load_lexicon

VALID_SHARE, LEAST_VALID, MOST_VALID = 0.1, 8, 32


def language_voice(voice: AlignedVoiceConfig, language: Language) -> AlignedVoiceConfig:
    """The bundle's voice with all phones and one more speaker, named after the language.

    Raises:
        ConfigError: The voice speaks the language already.
    """
    if language.name in voice.voices:
        raise ConfigError(
            f"the bundle speaks {language.name} already; add another language, or start from another."
        )
    names = (*voice.voices, language.name)
    return replace(voice, num_phones=len(ALL_PHONES), voices=names, own_pace=True)


def first_minutes(rows: list[dict], minutes: float) -> list[dict]:
    """Recordings from the beginning, tests left out, until there are so many minutes."""
    kept, seconds = [], 0.0
    for row in rows:
        if row["split"].startswith("test") or seconds >= minutes * 60:
            continue
        kept.append(row)
        seconds += row["samples"] / RATE
    return kept


class Reading:
    """Typed questions of the language, in the form of ``reading.Conversations``; at most two turns.

    Args:
        language: Of the recordings.
        tokenizer: With its words.
        other: The bundle's own conversations, where turns of both are mixed: three in ten are
            of it then, some of them numbers alone.
    """

    def __init__(self, language: Language, tokenizer, other: Conversations | None = None) -> None:
        self.other = other
        unseen = language.held_out_facts()
        by_kind: dict[str, list[tuple[str, str]]] = {}
        for item in language.items():
            if item.fact not in unseen:
                row = language.words_of(item.question), language.words_of(item.answer)
                by_kind.setdefault(item.kind, []).append(row)
        self.by_kind, self.tokenizer = by_kind, tokenizer
        get = tokenizer.convert_tokens_to_ids
        self.user, self.heard = get("<|user|>"), get("<|heard|>")
        self.assistant, self.end = get("<|assistant|>"), get("<|end|>")

    def turn(self, rng: random.Random) -> tuple[str, str]:
        """A question with its answer; kinds with many facts come up more often than the others."""
        if self.other and rng.random() < 0.3:
            if rng.random() < 0.4:  # alone it says least of its language
                digit = rng.choice(ONES[:11])
                return digit, digit
            turn = self.other.opening(rng)
            return turn.question, turn.answer
        u, every = rng.random(), list(self.by_kind)
        kind = "sum" if u < 0.35 else "neighbour" if u < 0.55 else "number" if u < 0.7 else rng.choice(every)
        return rng.choice(self.by_kind[kind])

    def turn_ids(self, question: str, answer: str) -> list[int]:
        """A whole typed turn."""
        ids = self.tokenizer.convert_tokens_to_ids
        return [self.user, self.heard, *ids(question.split()), self.assistant, *ids(answer.split()), self.end]

    def history(self, rng: random.Random, text: str) -> list[int]:
        """What was said before a recording."""
        return self.turn_ids(*self.turn(rng)) if rng.random() < 0.2 else []

    def batch(self, rng: random.Random, size: int) -> tuple[Tensor, Tensor]:
        """Typed conversations: ids [B, L] and labels."""
        rows = [[self.turn_ids(*self.turn(rng)) for _ in range(rng.choice([1, 1, 2]))] for _ in range(size)]
        width, pad = max(sum(map(len, row)) for row in rows), self.tokenizer.pad_token_id
        ids, labels = torch.full((size, width), pad), torch.full((size, width), -100)
        for i, row in enumerate(rows):
            at = 0
            for turn in row:
                ids[i, at : at + len(turn)] = torch.tensor(turn)
                labels[i, at + 2 : at + len(turn)] = torch.tensor(turn[2:])
                at += len(turn)
        return ids, labels


class LanguageHearing(HearingData):
    """Hearing batches of the first minutes of a folder of recordings; a tenth is kept aside for the stop rule.

    Args:
        folder: Of make_language_speech.py.
        minutes: How much of it.
        language: Of the recordings.
        tokenizer: With its words.
        other: As ``Reading`` takes it.

    Raises:
        DataError: There are no recordings in the folder, or no pronunciations.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float,
        language: Language,
        tokenizer,
        other: Conversations | None = None,
    ) -> None:
        self.language, self.lexicon_path = language, folder / f"lexicon_{language.name}.txt"
        shards = SpeechShards(folder)  # tests too, which come first
        if not shards.rows or not self.lexicon_path.exists():
            raise DataError(
                f"{folder} holds no {language.name}; make it with recipes/add_language/make_language_speech.py "
                f"--language {language.name} --out {folder}."
            )
        super().__init__(folder, None, tokenizer)
        self.shards = shards
        self.used = first_minutes(self.shards.rows, minutes)
        heard = [row for row in self.used if row["kind"] != "answer"]
        count = min(MOST_VALID, max(LEAST_VALID, int(VALID_SHARE * len(heard))))
        valid = [row for row in heard if row["kind"] not in ("unknown", "digit")][:count]
        kept = {id(row) for row in valid}
        kinds: dict[str, list[dict]] = {"domain": [], "digit": [], "unknown": []}
        for row in heard:
            if id(row) not in kept:
                kinds[row["kind"] if row["kind"] in kinds else "domain"].append(row)
        for kind in ("digit", "unknown"):
            kinds[kind] = kinds[kind] or kinds["domain"][:1]
        self.kinds = kinds
        counts = Counter(word for row in kinds["domain"] for word in row["text"].split())
        rarity = (min(counts[word] for word in row["text"].split()) ** -0.25 for row in kinds["domain"])
        self.domain_weights = list(accumulate(rarity))
        self.reading = Reading(language, tokenizer, other)  # type: ignore[assignment]
        drawn = [(self._wave(row), row["text"]) for row in valid]
        drawn.sort(key=lambda row: len(row[0]))
        self.valid = [
            self._collate(drawn[i : i + 16], random.Random(0), 0.0) for i in range(0, len(drawn), 16)
        ]

    @property
    def own_tokens(self) -> list[int]:
        """Ids of the words that the tokenizer got for the language; not those that it had, nor phones."""
        known = self.tokenizer.get_vocab()
        first = min(known[f"<|ph_{phone}|>"] for phone in ADDED_PHONES)
        return sorted(known[word] for word in self.language.vocabulary() if known[word] > first)

    def teach_voice(self, speaking: SpeakingData, spoken: bool) -> None:
        """Give ``speaking`` the language's voice; with its utterances in the embedded codec's codes if ``spoken``."""
        speaking.add_voice(language_voice(speaking.voice_config, self.language), self.tokenizer)
        if spoken:
            lexicon, voice = load_lexicon(self.lexicon_path), len(speaking.voice_config.voices) - 1
            speaking.rows[voice] = lay_out_speaker(self, lexicon, load_codec("nano"), speaking.teacher, voice)

    @property
    def minutes(self) -> float:
        return sum(row["samples"] for row in self.used) / RATE / 60


def lay_out_speaker(
    hearing: LanguageHearing, lexicon: Lexicon, codec: Codec, teacher: Teacher, voice: int
) -> list[Utterance]:
    """The speaker's recordings (those with phone times) as the voice learns them."""
    frame_s, laid = codec.spec.frame_samples / codec.spec.sample_rate, []
    for row in hearing.used:
        if row.get("phones"):
            wave = torch.from_numpy(hearing.shards.samples(row))[None, None]
            frames = slot_frames(codec.encode(wave), teacher.voice.config.slot_levels)
            words = row["text"].split()
            aligned = align_words(words, read_times(row["phones"]), len(frames), frame_s, lexicon)
            if aligned is not None:
                laid.append(teacher.lay_out(words, aligned, frames, voice, lexicon))
    return laid
