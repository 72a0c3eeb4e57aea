"""A transcript cut where it may be cut: whole words and when they are said, with nothing lost between them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

# what is written without spaces between words is cut between characters
_PIECE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003134f]\W*|[^\s\u2e80-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True)
class Unit:
    """A stretch of transcript that stays together.

    Attributes:
        text: As written, with the white space that follows (and of the first unit, that before it).
        start_s, end_s: When it is said, from the beginning of the recording.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Timed:
    """Characters [first, end) of a transcript and when they are said."""

    first: int
    end: int
    start_s: float
    end_s: float


def pieces(transcript: str) -> list[tuple[int, int]]:
    """Where a transcript may be cut: character ranges that follow each other and cover all of it."""
    starts = [match.start() for match in _PIECE.finditer(transcript)]
    if not starts:
        return [(0, len(transcript))] if transcript else []
    return list(pairwise([0, *starts[1:], len(transcript)]))


def units_of(transcript: str, timed: Iterable[Timed]) -> list[Unit] | None:
    """Cut a transcript into units, each as short as its times allow.

    Pieces that share a time stay together, and those without one (a lone dash) stay with the piece before them.

    Args:
        transcript: Its characters are what ``timed`` counts.
        timed: In the order of the text.

    Returns:
        Units whose texts joined are the transcript, with times that do not run backwards or overlap; None if the times
        do run backwards, or there are none.
    """
    found = sorted(timed, key=lambda t: (t.first, t.end))
    if not found or any(b.start_s < a.start_s for a, b in pairwise(found)):
        return None
    groups: list[list[Timed]] = []
    borders: list[int] = []
    at = 0
    for first, end in pieces(transcript):
        own = []
        while at < len(found) and found[at].first < end:
            own.append(found[at])
            at += 1
        held = groups and any(t.end > first for t in groups[-1])
        if groups and (held or not own):
            groups[-1] += own
            borders[-1] = end
        elif own:
            groups.append(own)
            borders.append(end)
    if not groups:
        return None
    starts = [min(t.start_s for t in group) for group in groups]
    ends = [max(t.end_s for t in group) for group in groups]
    ends = [min(end, after) for end, after in zip(ends, [*starts[1:], ends[-1]], strict=True)]
    texts = [transcript[a:b] for a, b in pairwise([0, *borders[:-1], len(transcript)])]
    return [Unit(*unit) for unit in zip(texts, starts, ends, strict=True)]


def from_words(transcript: str, words: Sequence[tuple[str, float, float]]) -> list[Timed] | None:
    """Find words with times in the transcript they are of, whatever case and punctuation they are written in.

    Returns:
        None if the words do not spell the transcript, letter by letter.
    """
    places = [(letter, i) for i, character in enumerate(transcript) for letter in _letters(character)]
    spelled = [(letter, n) for n, (word, _, _) in enumerate(words) for letter in _letters(word)]
    if [letter for letter, _ in places] != [letter for letter, _ in spelled]:
        return None
    ranges: dict[int, tuple[int, int]] = {}
    for (_, place), (_, number) in zip(places, spelled, strict=True):
        first, _ = ranges.get(number, (place, place))
        ranges[number] = (first, place + 1)
    return [Timed(*ranges[n], words[n][1], words[n][2]) for n in sorted(ranges)]


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum() or unicodedata.category(c).startswith("M"))
