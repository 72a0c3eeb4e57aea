"""Which words of a text become speech: runs of Poisson length, a number of spans, or each word by itself.

Each rule gives speech the wanted share of the words, on average over texts of any length.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise


def poisson_runs(words: int, share: float, mean: float, rng: random.Random) -> list[bool]:
    """Runs of speech and text by turns, whose numbers of words are drawn from Poisson distributions.

    The text begins at a random place inside a run, so that its first words are like all others. A run of 0 words
    lets its neighbours grow together.

    Args:
        words: Of the text, 1 or more.
        share: Of speech, between 0 and 1.
        mean: Words of a run of speech; those of text follow from the share.
        rng: Random numbers of the row.

    Returns:
        For each word, whether it is speech.
    """
    means = {True: mean, False: mean * (1 - share) / share}
    speech = rng.random() < share
    # the run at a random place is a long one, by as much as a run is more likely to be hit the longer it is
    length = rng.randint(1, 1 + _poisson(means[speech], rng))
    made: list[bool] = []
    while len(made) < words:
        made += [speech] * length
        speech = not speech
        length = _poisson(means[speech], rng)
    return made[:words]


def some_spans(words: int, share: float, spans: int, rng: random.Random) -> list[bool]:
    """So many spans of speech, apart from each other, at random places and of random lengths that add up to the share.

    Args:
        words, share, rng: As of ``poisson_runs``.
        spans: 1 or more; texts that are too short for them have fewer.
    """
    spoken = math.floor(share * words + rng.random())
    spans = min(spans, spoken, words - spoken + 1)
    if spans == 0:
        return [False] * words
    texts = _parts(words - spoken + 2, spans + 1, rng)  # the outer two may be empty
    texts[0], texts[-1] = texts[0] - 1, texts[-1] - 1
    made = [False] * texts[0]
    for speech, text in zip(_parts(spoken, spans, rng), texts[1:], strict=True):
        made += [True] * speech + [False] * text
    return made


def single_words(words: int, share: float, rng: random.Random) -> list[bool]:
    """Each word by itself; arguments as of ``poisson_runs``."""
    return [rng.random() < share for _ in range(words)]


def runs_of(chosen: list[bool]) -> list[tuple[bool, int, int]]:
    """(is speech, first, end) of runs of equal words, which follow each other."""
    borders = [0, *(i for i in range(1, len(chosen)) if chosen[i] != chosen[i - 1]), len(chosen)]
    return [(chosen[a], a, b) for a, b in pairwise(borders) if b > a]


def _parts(total: int, number: int, rng: random.Random) -> list[int]:
    """Cut a total into so many parts of 1 or more, every way of doing so being as likely."""
    cuts = sorted(rng.sample(range(1, total), number - 1))
    return [b - a for a, b in pairwise([0, *cuts, total])]


def _poisson(mean: float, rng: random.Random) -> int:
    """Draw by counting arrivals of rate 1 up to ``mean``."""
    count, at = 0, rng.expovariate(1.0)
    while at < mean:
        count += 1
        at += rng.expovariate(1.0)
    return count
