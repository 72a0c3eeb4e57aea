"""What the finished bundle is tried on; every set is the same at every run, and balanced when it is cut short."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from domain import DIGITS, Item, all_items, held_out_facts
from judge import kind_of
from sounds import NOISES, make_noise
from speech_data import RATE, SPEAKERS, SpeechShards

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import AudioError

Row = TypeVar("Row")


@dataclass(frozen=True)
class Trial:
    """One recording and what is right.

    Attributes:
        source: What ``transcribe`` takes: (float32 [S], Hz).
        text: What is said; "" for what must be refused.
        answer: The right answer; "" where none is asked for.
        group: Kind of question, voice, speaker, or kind of sound.
        new_fact: The answer was never trained, neither typed nor spoken.
        new_word: One of its words was never heard in training.
    """

    source: tuple[np.ndarray, int]
    text: str
    answer: str
    group: str
    new_fact: bool = False
    new_word: bool = False


def spread(rows: Iterable[Row], group: Callable[[Row], Any], limit: int | None) -> list[Row]:
    """At most ``limit`` rows, drawn from the groups in turn, each group in its own order."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    longest = max(map(len, groups.values()), default=0)
    turns = [rows[i] for i in range(longest) for rows in groups.values() if i < len(rows)]
    return turns[:limit]


class Speech:
    """The test splits of make_speech.py, without any text that training happens to have drawn too.

    Args:
        folder: Output of make_speech.py.
        more: Others of its outputs, whose test splits are tried too.
    """

    def __init__(self, folder: Path, more: Sequence[Path] = ()) -> None:
        self.shards = SpeechShards(folder, more=more)
        if not self.shards.rows:
            raise AudioError(
                f"{folder} holds no speech; make it with recipes/nano/make_speech.py --out {folder}."
            )
        self._texts: dict[str, set[str]] = {}
        for row in self.shards.rows:
            self._texts.setdefault(row["split"], set()).add(row["text"])
        self._heard_words = {word for text in self._texts.get("train", ()) for word in text.split()}
        items = all_items()
        unseen = held_out_facts(items)
        self.new_questions = {item.question for item in items if item.fact in unseen}

    def rows(self, split: str, not_in: str | None = None) -> list[dict]:
        """Rows of a split; texts that also stand in the split ``not_in`` are left out."""
        known = self._texts.get(not_in, set()) if not_in else set()
        return [row for row in self.shards.rows if row["split"] == split and row["text"] not in known]

    def _trial(self, row: dict, group: str) -> Trial:
        text = row["text"]
        new_fact, new_word = text in self.new_questions, not set(text.split()) <= self._heard_words
        return Trial((self.shards.samples(row), RATE), text, row["answer"], group, new_fact, new_word)

    def sentences(self, limit: int | None = None) -> Iterator[Trial]:
        """Known voices, sentences never heard in training; grouped by kind."""
        for row in self.rows("test_sentence", "train")[:limit]:
            yield self._trial(row, row["kind"])

    def voices(self, limit: int | None = None) -> Iterator[Trial]:
        """Voices never heard in training; grouped by voice."""
        for row in spread(self.rows("test_voice"), lambda r: r["voice"], limit):
            yield self._trial(row, row["voice"])

    def outside(self, limit: int | None = None) -> Iterator[Trial]:
        """Sentences outside the domain in voices never heard; to be refused."""
        for row in self.rows("test_unknown", "unknown")[:limit]:
            yield Trial((self.shards.samples(row), RATE), "", "", "sentences outside the domain")

    def reversed(self, limit: int | None = None) -> Iterator[Trial]:
        """Backward speech of voices never heard; to be refused."""
        for row in spread(self._long(), lambda r: r["voice"], 60 if limit is None else limit):
            wave = np.ascontiguousarray(self.shards.samples(row)[::-1])
            yield Trial((wave, RATE), "", "", "backward speech")

    def noises(self, limit: int | None = None) -> Iterator[Trial]:
        """Sounds without words, 60 of each kind, or ``limit``; babble is of six voices never heard."""
        voices, rng = self._long(), random.Random("babble")
        for kind in NOISES:
            for index in range(60 if limit is None else limit):
                speech = []
                if kind == "babble":
                    speech = [self.shards.samples(row) for row in rng.sample(voices, 6)]
                yield Trial(make_noise(kind, index, speech), "", "", kind)

    def spoken(self, limit: int | None = None) -> list[dict]:
        """Texts for the voice, never spoken in training and within the judge's grammars, with the originals."""
        rows = [row for row in self.rows("test_spoken", "voice") if kind_of(row["text"])]
        return spread(rows, lambda r: kind_of(r["text"]), limit)

    def _long(self) -> list[dict]:
        return [row for row in self.rows("test_voice") if row["kind"] != "digit"]


class People:
    """Real spoken digits: wav files named digit_speaker_number (Free Spoken Digit Dataset).

    Raises:
        AudioError: No such files of the wanted speakers.
    """

    def __init__(self, folder: Path, speakers: Sequence[str] = SPEAKERS) -> None:
        self.clips: dict[tuple[str, int], list[Path]] = {}
        for path in sorted(folder.glob("[0-9]_*_*.wav")):
            digit, speaker, _ = path.stem.split("_")
            if speaker in speakers:
                self.clips.setdefault((speaker, int(digit)), []).append(path)
        self.speakers = tuple(s for s in speakers if any(s == speaker for speaker, _ in self.clips))
        if missing := [s for s in speakers if any((s, d) not in self.clips for d in range(10))]:
            raise AudioError(
                f"{folder} lacks digits of {', '.join(missing)}; wanted files such as 3_george_7.wav."
            )

    def digits(self, limit: int | None = None) -> Iterator[Trial]:
        """Single digits, ``limit`` per speaker, all ten alike; grouped by speaker."""
        for speaker in self.speakers:
            rows = [(digit, path) for digit in range(10) for path in self.clips[speaker, digit]]
            for digit, path in spread(rows, lambda row: row[0], limit):
                yield Trial(read_audio(path), DIGITS[digit], DIGITS[digit], speaker)

    def strings(self, limit: int | None = None) -> Iterator[Trial]:
        """Two to five digits of one speaker with short gaps, 100 or ``limit`` per speaker; grouped by speaker."""
        for speaker in self.speakers:
            rng = random.Random(f"strings {speaker}")
            for index in range(100 if limit is None else limit):
                digits = [rng.randrange(10) for _ in range(2 + index % 4)]
                parts: list[np.ndarray] = []
                rate = 0
                for digit in digits:
                    wave, rate = read_audio(rng.choice(self.clips[speaker, digit]))
                    parts += [wave, np.zeros(int(rng.uniform(0.05, 0.25) * rate), np.float32)]
                text = " ".join(DIGITS[d] for d in digits)
                yield Trial((np.concatenate(parts[:-1]), rate), text, text, speaker)


def typed_facts(limit: int | None = None) -> tuple[list[Item], list[Item]]:
    """Questions whose facts were trained (300, kinds in turn), and all arithmetic that never was; one per fact."""
    items = all_items()
    random.Random("typed").shuffle(items)
    one_each = list({item.fact: item for item in items}.values())
    unseen = held_out_facts(items)
    trained = spread([i for i in one_each if i.fact not in unseen], lambda i: i.kind, limit or 300)
    return trained, [i for i in one_each if i.fact in unseen][:limit]


def spoken_answers(limit: int | None = None) -> list[str]:
    """Answers for the voice to read: 200, or ``limit``, from all kinds in turn."""
    items = all_items()
    random.Random("answers").shuffle(items)
    first = {item.answer: item for item in reversed(items)}.values()
    return [item.answer for item in spread(first, lambda i: i.kind, limit or 200)]
