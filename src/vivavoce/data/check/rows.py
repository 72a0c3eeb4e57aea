"""The check of one row: a pure function of the row, its recordings and what it is checked against."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError
from vivavoce.data.check.codes import check_tokens
from vivavoce.data.check.config import CheckConfig
from vivavoce.data.check.findings import Finding, short
from vivavoce.data.check.keys import row_keys
from vivavoce.data.check.reading import Row
from vivavoce.data.check.recordings import Recordings
from vivavoce.data.check.transcripts import check_transcript
from vivavoce.data.check.turns import ANSWER, audio_places, check_teacher, check_turns, check_types
from vivavoce.data.check.typed import check_typed
from vivavoce.data.conversation import Conversation

Doctor = Callable[[Conversation, Path], Iterable[Finding]]
Key = tuple[int, int, int, int]
MOST_NAMES = 1000


@dataclass
class Facts:
    """What is in rows, for people.

    Attributes:
        rows: All of them.
        faulty: Rows with an error.
        clips: Audio parts.
        seconds: Of clips whose length is known.
        learned_audio: Audio parts in assistant turns.
        spoken: Audio parts that name a speaker.
        speakers: Their names, a thousand or so at most.
        tasks, languages, licences: Name -> rows, or audio parts for languages; "" for none.
        sample_rates: Hz -> audio parts.
        codecs: ("question" or "answer", codec, hash) -> audio parts.
    """

    rows: int = 0
    faulty: int = 0
    clips: int = 0
    learned_audio: int = 0
    seconds: float = 0.0
    tasks: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)
    codecs: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    spoken: int = 0
    speakers: set[str] = field(default_factory=set)

    def add(self, other: Facts) -> None:
        """Add what other rows have."""
        for entry in dataclasses.fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            elif isinstance(mine, set):
                mine.update(theirs if len(mine) < MOST_NAMES else ())
            else:
                setattr(self, entry.name, mine + theirs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "rows_with_errors": self.faulty,
            "clips": self.clips,
            "clips_in_answers": self.learned_audio,
            "hours": self.seconds / 3600,
            "tasks": dict(self.tasks.most_common()),
            "languages": dict(self.languages.most_common()),
            "licences": dict(self.licences.most_common()),
            "sample_rates": {str(rate): n for rate, n in self.sample_rates.most_common()},
            "codecs": [
                {"in": side, "codec": codec, "hash": weights, "clips": n}
                for (side, codec, weights), n in self.codecs.most_common()
            ],
            "speakers": len(self.speakers) if len(self.speakers) < MOST_NAMES else f"{MOST_NAMES} or more",
        }


@dataclass
class Checked:
    """What the check of a row found: findings, facts, and keys by which equal rows are told."""

    findings: list[Finding]
    facts: Facts
    keys: list[Key] = field(default_factory=list)


class RowChecker:
    """Checks rows, each by itself.

    Args:
        config: What they are checked against.
        root: Where relative paths of recordings start.
        tokenizer: Hugging Face tokenizer of the model.
        doctor: Looks at what a model reads of a row; ``training.doctor.Doctor`` is one.
    """

    def __init__(
        self, config: CheckConfig, root: Path, tokenizer: Any = None, doctor: Doctor | None = None
    ) -> None:
        self.config, self.root, self.tokenizer, self.doctor = config, root, tokenizer, doctor
        self.recordings = Recordings(root, config.recordings, config.sample_rate)
        self._lengths: Any = None
        if tokenizer is not None:
            from vivavoce.data.check.lengths import Lengths

            # a doctor counts exactly what the model reads
            self._lengths = None if doctor else Lengths(tokenizer, config.max_tokens)

    def __call__(self, row: Row, number: int) -> Checked:
        """Check a row.

        Args:
            row: A conversation, or why it is none.
            number: Its place in the set.
        """
        facts = Facts(rows=1)
        if isinstance(row, DataError):
            findings = [Finding("invalid_row", short(str(row).rstrip("."), 300), "a row of a set")]
            keys: list[Key] = []
        else:
            findings, keys = self._check(row, number, facts)
        name = row.id if isinstance(row, Conversation) else str(number)
        findings = [dataclasses.replace(f, row=name, number=number) for f in findings]
        facts.faulty = int(any(f.severity == "error" for f in findings))
        return Checked(findings, facts, keys)

    def _check(self, row: Conversation, number: int, facts: Facts) -> tuple[list[Finding], list[Key]]:
        if faults := list(check_types(row)):
            return faults, []
        task = self.config.task_of(row.task)
        found = [*check_turns(row, task), *check_typed(row, self.tokenizer), *check_teacher(row, task)]
        if not row.license:
            found.append(Finding("no_licence", "no license", "an SPDX name such as 'cc-by-4.0'"))
        facts.tasks[row.task] += 1
        facts.licences[row.license or ""] += 1
        digests: list[str] = []
        lengths: list[float | None] = []
        for where, part in audio_places(row):
            heard, more = self.recordings.check(part, row, where)
            found += more
            found += check_transcript(part, heard.seconds, where)
            found += check_tokens(part, heard.seconds, self.config.codec, self.root, where)
            if not part.speaker:
                found.append(
                    Finding("no_speaker", "no speaker", "a name that is the same for the same voice", where)
                )
            digests.append(heard.digest)
            lengths.append(heard.seconds)
            facts.clips += 1
            facts.seconds += heard.seconds or 0.0
            facts.languages[part.language or ""] += 1
            facts.sample_rates.update([heard.sample_rate] if heard.sample_rate else [])
            facts.speakers.update([part.speaker] if part.speaker else [])
            facts.spoken += bool(part.speaker)
        for message in row.messages:
            side = "answer" if message.role == ANSWER else "question"
            facts.learned_audio += len(message.audios) if side == "answer" else 0
            codes = [part.tokens for part in message.audios if part.tokens]
            facts.codecs.update((side, str(t.get("codec")), str(t.get("codec_hash") or "")) for t in codes)
        if self.doctor is not None:
            found += self.doctor(row, self.root)
        elif self._lengths is not None:
            found += self._lengths.check(row, lengths)
        return found, row_keys(row, digests, number)

    def keys(self, row: Row, number: int) -> list[Key]:
        """The keys of a row alone, for a set that is compared with."""
        if isinstance(row, DataError) or any(check_types(row)):
            return []
        return row_keys(row, [self.recordings.digest(part, row) for part in row.audio_parts()], number)
