"""Who speaks when: turns, the RTTM files that hold them, and how far found turns are from true ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vivavoce.base.errors import AudioError, ConfigError

SHORTEST_S = 1e-9


class SpeakerTurn(NamedTuple):
    """A stretch of speech by one speaker, seconds from the beginning of the recording."""

    start_s: float
    end_s: float
    speaker: str


class DiarisationError(NamedTuple):
    """Where found turns differ from true ones, in seconds of speaker time.

    Attributes:
        total_s: What was scored: the true turns' lengths, added up.
        missed_s: Speakers that were not found.
        false_alarm_s: Speakers that were found where none, or fewer, spoke.
        confusion_s: Speech given to the wrong speaker.
    """

    total_s: float
    missed_s: float
    false_alarm_s: float
    confusion_s: float

    @property
    def rate(self) -> float:
        """The diarisation error rate: all errors over ``total_s``; above 1 is possible, NaN if nothing was scored."""
        wrong = self.missed_s + self.false_alarm_s + self.confusion_s
        return wrong / self.total_s if self.total_s > 0 else float("nan")


def diarisation_error(
    true: Iterable[SpeakerTurn],
    found: Iterable[SpeakerTurn],
    *,
    collar_s: float = 0.0,
    skip_overlap: bool = False,
    scope: tuple[float, float] | None = None,
) -> DiarisationError:
    """Compare turns.

    Names of speakers do not matter: found speakers are mapped one to one to true ones so that as much speech as
    possible agrees, over the whole scope; then, at every moment, of R true and F found speakers ``max(0, R - F)`` are
    missed, ``max(0, F - R)`` are false alarms, and ``min(R, F)`` less those mapped to each other are confused.

    Args:
        true: Reference.
        found: What is judged.
        collar_s: Moments nearer than this to a true beginning or end are not scored; 0.25 is customary.
        skip_overlap: Leave out moments with two or more true speakers.
        scope: Scored from and to, seconds; by default from the first to the last moment of either.

    Raises:
        ConfigError: A collar or scope that makes no sense.

    Source: NIST's md-eval (collars and mapping as there; its default scope is that of the reference alone).
    """
    true, found = _checked(true, "true"), _checked(found, "found")
    if not 0 <= collar_s < float("inf") or (scope is not None and not scope[0] < scope[1]):
        raise ConfigError(
            f"collar_s is {collar_s}, scope {scope}; wanted 0 or more, and a start before an end."
        )
    borders = [t for turn in (*true, *found) for t in turn[:2]]
    if not borders:
        return DiarisationError(0.0, 0.0, 0.0, 0.0)
    low, high = scope or (min(borders), max(borders))
    collars = [(t - collar_s, t + collar_s) for turn in true for t in turn[:2]] if collar_s else []
    cuts = np.unique(np.clip([low, high, *borders, *(t for c in collars for t in c)], low, high))
    lengths, middles = np.diff(cuts), (cuts[1:] + cuts[:-1]) / 2
    rows, columns = _speaking(true, middles), _speaking(found, middles)
    agreed = (rows * lengths) @ columns.T  # seconds, [true speakers, found speakers]
    right = sum((rows[i] & columns[j] for i, j in best_pairs(agreed)), np.zeros(middles.size, dtype=np.int64))
    num_true, num_found = rows.sum(axis=0), columns.sum(axis=0)
    scored = lengths * ((num_true < 2) | (not skip_overlap))
    for begin, end in collars:
        scored = scored * ((middles < begin) | (middles > end))
    return DiarisationError(
        float(scored @ num_true),
        float(scored @ np.maximum(num_true - num_found, 0)),
        float(scored @ np.maximum(num_found - num_true, 0)),
        float(scored @ (np.minimum(num_true, num_found) - right)),
    )


def best_pairs(worth: np.ndarray) -> list[tuple[int, int]]:
    """Pair rows with columns, each at most once, so that the sum of ``worth`` [R, C] is largest.

    Pairs worth 0 or less are left out.

    Source: The Hungarian method with potentials, O(R² C).
    """
    if worth.shape[0] > worth.shape[1]:
        return sorted((i, j) for j, i in best_pairs(worth.T))
    num_rows, num_columns = worth.shape
    cost = np.zeros((num_rows + 1, num_columns + 1))
    cost[1:, 1:] = -np.maximum(worth, 0)  # a pair of no worth is as good as none
    row_price, column_price = np.zeros(num_rows + 1), np.zeros(num_columns + 1)
    taken = np.zeros(num_columns + 1, dtype=int)  # column -> its row; number 0 stands for none
    for row in range(1, num_rows + 1):
        taken[0], column = row, 0
        nearest, before = np.full(num_columns + 1, np.inf), np.zeros(num_columns + 1, dtype=int)
        visited = np.zeros(num_columns + 1, dtype=bool)
        while taken[column]:
            visited[column] = True
            slack = cost[taken[column]] - row_price[taken[column]] - column_price
            better = ~visited & (slack < nearest)
            nearest[better], before[better] = slack[better], column
            following = int(np.where(visited, np.inf, nearest)[1:].argmin()) + 1
            step = nearest[following]
            row_price[taken[visited]] += step
            column_price[visited] -= step
            nearest[~visited] -= step
            column = following
        while column:
            taken[column] = taken[before[column]]
            column = before[column]
    pairs = ((int(taken[c]) - 1, c - 1) for c in range(1, num_columns + 1) if taken[c])
    return sorted((i, j) for i, j in pairs if worth[i, j] > 0)


def read_rttm(path: str | os.PathLike[str], recording: str | None = None) -> list[SpeakerTurn]:
    """Read the turns of an RTTM file, in order of time.

    Args:
        path: Lines ``SPEAKER recording channel start length <NA> <NA> speaker ...``; other kinds of lines are skipped.
        recording: Which of the file's recordings; None if it has one only.

    Raises:
        AudioError: It cannot be read, a line is damaged, or it tells of several recordings and none was named.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AudioError(f"cannot read the RTTM file {path}: {error}") from error
    turns, recordings = [], set()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            name, start_s, length_s, speaker = fields[1], float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError) as error:
            raise AudioError(
                f"line {number} of {path} is {line!r}; wanted SPEAKER with 8 fields or more."
            ) from error
        if recording is None or name == recording:
            recordings.add(name)
            turns.append(SpeakerTurn(start_s, start_s + length_s, speaker))
    if len(recordings) > 1:
        raise AudioError(
            f"{path} tells of {len(recordings)} recordings ({', '.join(sorted(recordings))}); name one."
        )
    return sorted(turns)


def rttm_lines(turns: Iterable[SpeakerTurn], recording: str) -> list[str]:
    """Turns as lines of an RTTM file, times to the millisecond."""
    return [
        f"SPEAKER {recording} 1 {t.start_s:.3f} {t.end_s - t.start_s:.3f} <NA> <NA> {t.speaker} <NA> <NA>"
        for t in sorted(turns)
    ]


def _checked(turns: Iterable[SpeakerTurn], what: str) -> list[SpeakerTurn]:
    turns = list(turns)
    for turn in turns:
        if not -float("inf") < turn.start_s <= turn.end_s < float("inf"):
            raise ConfigError(f"a {what} turn of {turn.speaker} goes from {turn.start_s} to {turn.end_s} s.")
    return [turn for turn in turns if turn.end_s - turn.start_s > SHORTEST_S]


def _speaking(turns: Sequence[SpeakerTurn], moments: np.ndarray) -> np.ndarray:
    """Who speaks at each moment, int64 0 or 1 [speakers, moments]."""
    names = sorted({turn.speaker for turn in turns})
    speaking = np.zeros((len(names), moments.size), dtype=np.int64)
    for start_s, end_s, name in turns:
        speaking[names.index(name), np.searchsorted(moments, start_s) : np.searchsorted(moments, end_s)] = 1
    return speaking
