"""When words of a known text are said, by a recogniser trained with CTC: the best path that spells the text.

Letters: F frames, V tokens, N targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from vivavoce.base.errors import DataError

NEVER = -1e30


class Heard(NamedTuple):
    """What a recogniser makes of a recording.

    Attributes:
        log_probs: float [F, V], natural logarithms.
        frame_s: Length of a frame, seconds; frame f begins at ``start_s + f * frame_s``.
        start_s: Where the first frame begins, below 0 if silence was put before the recording.
    """

    log_probs: np.ndarray
    frame_s: float
    start_s: float = 0.0


class Recogniser(Protocol):
    """What the service "aligner" of a context makes.

    Attributes:
        blank: CTC's blank.
        separator: Token between words, None if words follow each other directly.
        whole_words: A token is a word. Such recognisers tell a moment at which they are sure of a word, about its
            beginning, and not where it ends.
    """

    blank: int
    separator: int | None
    whole_words: bool

    def spell(self, word: str) -> list[int]:
        """Tokens of a word as it is written; empty if there are none for it."""

    def hear(self, waveform: np.ndarray, sample_rate: int) -> Heard:
        """Listen to float32 [S]."""


def best_path(log_probs: np.ndarray, targets: Sequence[int], blank: int) -> list[tuple[int, int]] | None:
    """The most likely frames of each target.

    Args:
        log_probs: float [F, V].
        targets: N tokens, N >= 1, none of them the blank.
        blank: CTC's blank.

    Returns:
        N ranges [first, end) of frames, in order; None if there are too few frames.

    Source: Viterbi search over CTC's states (Graves et al. 2006): a blank may stand before, between and after tokens,
    and must stand between equal ones.
    """
    if not len(targets) or blank in targets:
        raise DataError(
            f"targets are {list(targets)[:10]}; wanted one or more tokens, none of them blank {blank}."
        )
    states = np.full(2 * len(targets) + 1, blank)
    states[1::2] = targets
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    frames = len(log_probs)
    score = np.full(len(states), NEVER)
    came_from = np.zeros((frames, len(states)), dtype=np.int8)
    for frame in range(frames):
        if frame == 0:
            score[:2] = log_probs[0, states[:2]]
            continue
        one = np.concatenate([[NEVER], score[:-1]])
        two = np.where(may_skip, np.concatenate([[NEVER, NEVER], score[:-2]]), NEVER)
        options = np.stack([score, one, two])
        came_from[frame] = options.argmax(axis=0)
        score = options.max(axis=0) + log_probs[frame, states]
    state = len(states) - 1 - int(score[-2] >= score[-1]) if frames else 0
    if not frames or score[state] < NEVER / 2:
        return None
    path = np.zeros(frames, dtype=int)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came_from[frame, state])
    spans = []
    for number in range(len(targets)):
        own = np.flatnonzero(path == 2 * number + 1)
        spans.append((int(own[0]), int(own[-1]) + 1))
    return spans


def align_words(
    recogniser: Recogniser, waveform: np.ndarray, sample_rate: int, words: Sequence[str]
) -> list[tuple[float, float] | None] | None:
    """When each word is said.

    Args:
        recogniser: Of the words' language.
        waveform: float32 [S].
        sample_rate: Hz.
        words: As written.

    Returns:
        (start, end) in seconds for each word, None for what has no letter or digit (a dash); None at all if it cannot
        spell one of the others, or the recording is too short for them.
    """
    spelled = [recogniser.spell(word) if any(c.isalnum() for c in word) else [] for word in words]
    if any(not tokens and any(c.isalnum() for c in w) for w, tokens in zip(words, spelled, strict=True)):
        return None
    targets: list[int] = []
    owners: list[int] = []
    for number, tokens in enumerate(spelled):
        if targets and tokens and recogniser.separator is not None:
            targets.append(recogniser.separator)
            owners.append(-1)
        targets += tokens
        owners += [number] * len(tokens)
    if not targets:
        return None
    heard = recogniser.hear(waveform, sample_rate)
    spans = best_path(heard.log_probs, targets, recogniser.blank)
    if spans is None:
        return None
    found: list[tuple[float, float] | None] = [None] * len(words)
    for (first, end), owner in zip(spans, owners, strict=True):
        if owner >= 0:
            before = found[owner]
            start, stop = (max(0.0, heard.start_s + frame * heard.frame_s) for frame in (first, end))
            found[owner] = (start if before is None else before[0], stop)
    return _widened(found, *speech_ends(waveform, sample_rate)) if recogniser.whole_words else found


def _widened(
    found: Sequence[tuple[float, float] | None], first_s: float, last_s: float
) -> list[tuple[float, float] | None]:
    """Let words that are known by one moment each last to the moment of the next."""
    known = [i for i, span in enumerate(found) if span is not None]
    starts = [span[0] for span in found if span is not None]
    starts[0] = min(starts[0], first_s)
    made = list(found)
    for i, start, end in zip(known, starts, [*starts[1:], max(last_s, starts[-1])], strict=True):
        made[i] = (start, end)
    return made


def speech_ends(waveform: np.ndarray, sample_rate: int, below_db: float = 40.0) -> tuple[float, float]:
    """Where sound begins and ends: the first and last 10 ms that are less than ``below_db`` under the loudest.

    Args:
        waveform: float32 [S], S >= 1.
        sample_rate: Hz.
        below_db: dB.

    Returns:
        Seconds; the whole recording if it is silent.
    """
    size = max(1, round(0.01 * sample_rate))
    padded = np.pad(np.square(waveform, dtype=np.float64), (0, -len(waveform) % size))
    power = padded.reshape(-1, size).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below_db / 10))
    total = len(waveform) / sample_rate
    if not len(loud):
        return 0.0, total
    return float(loud[0] * size / sample_rate), float(min(total, (loud[-1] + 1) * size / sample_rate))
