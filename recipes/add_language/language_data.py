"""What a new language is learned from: its recordings, its typed questions, its speaker; and the old language's."""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate
from pathlib import Path
from types import ModuleType

import german
import torch
from hearing import HearingData
from prepare_voice import read_times
from speech_data import RATE, SpeechShards
from torch import Tensor

from vivavoce.codecs.contract import Codec
from vivavoce.models.voice.teaching import Teacher, Utterance, slot_frames
from vivavoce.models.voice.word_alignment import align_words
from vivavoce.tokens.phones import Lexicon

LANGUAGES: dict[str, ModuleType] = {german.LANGUAGE: german}
VALID_SHARE, LEAST_VALID, MOST_VALID = 0.1, 8, 32


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
    """Typed questions of the language, in the form of ``reading.Conversations``; at most two turns."""

    def __init__(self, language: ModuleType, tokenizer) -> None:
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
        """A question with its answer; half are sums."""
        return rng.choice(self.by_kind["sum" if rng.random() < 0.5 else rng.choice(list(self.by_kind))])

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
        language: Its module.
        tokenizer: With its words.
    """

    def __init__(self, folder: Path, minutes: float, language: ModuleType, tokenizer) -> None:
        super().__init__(folder, None, tokenizer)
        self.shards = SpeechShards(folder)
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
        self.reading = Reading(language, tokenizer)  # type: ignore[assignment]
        drawn = [(self._wave(row), row["text"]) for row in valid]
        drawn.sort(key=lambda row: len(row[0]))
        self.valid = [
            self._collate(drawn[i : i + 16], random.Random(0), 0.0) for i in range(0, len(drawn), 16)
        ]

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
