"""New speakers from known ones, on log-mel features: bend frequency and time smoothly, tilt, mix two people's clips.

``augment.warp_mel`` scales a whole vocal tract. People differ in more: each cavity has its own size, each sound its own
length. With a handful of recorded speakers this is where a recogniser's missing variety comes from.

Letters: M mel bins, T frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vivavoce.base.errors import AudioError

Features = NDArray[np.float32]


def _smooth(points: int, knots: int, depth: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random curve of straight pieces within +-depth."""
    values = rng.uniform(-depth, depth, knots)
    return np.interp(np.linspace(0, knots - 1, points), np.arange(knots), values)


def _read(features: Features, at: NDArray[np.float64]) -> Features:
    """Columns at fractional places, which are clipped to the clip."""
    at = np.clip(at, 0, features.shape[1] - 1)
    low = at.astype(int)
    high, share = np.minimum(low + 1, features.shape[1] - 1), at - low
    return (features[:, low] * (1 - share) + features[:, high] * share).astype(np.float32)


def bend_mel(
    features: Features, rng: np.random.Generator, scale: float = 0.15, bend: float = 2.5
) -> Features:
    """Move formants: scale the mel axis at random, and shift regions of it by different amounts.

    Args:
        features: Log-mel [M, T].
        rng: Generator.
        scale: The axis is scaled by a factor within 1 +- this.
        bend: Regions are further shifted by at most this many bins, up or down.
    """
    bins = np.arange(len(features), dtype=np.float64)
    at = bins * rng.uniform(1 - scale, 1 + scale) + _smooth(len(bins), 5, bend, rng)
    return np.ascontiguousarray(_read(features.T, at).T)


def bend_time(
    features: Features, rng: np.random.Generator, stretch: float = 0.25, depth: float = 0.4
) -> Features:
    """Give sounds other lengths: stretch a clip, and parts of it by different amounts; pitch and formants stay.

    Args:
        features: Log-mel [M, T].
        rng: Generator.
        stretch: The length changes by a factor within 1 +- this.
        depth: The local rate is within 1 +- this, less than 1.

    Raises:
        AudioError: ``depth`` would make time run backwards.
    """
    if not 0 <= depth < 1:
        raise AudioError(f"depth is {depth:g}; wanted 0 or more and less than 1.")
    frames = features.shape[1]
    count = max(2, round(frames * rng.uniform(1 - stretch, 1 + stretch)))
    rate = 1 + _smooth(count, 4 + frames // 40, depth, rng)
    at = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    return _read(features, at * ((frames - 1) / at[-1]))


def tilt_mel(features: Features, rng: np.random.Generator, depth: float = 0.3) -> Features:
    """Another microphone or voice quality: add a smooth random curve over frequency.

    Args:
        features: Log-mel [M, T].
        rng: Generator.
        depth: Largest change, in the features' unit (Whisper's: 0.25 are 10 dB).
    """
    return (features + _smooth(len(features), 4, depth, rng)[:, None]).astype(np.float32)


def align_frames(first: Features, second: Features) -> NDArray[np.int64]:
    """Which frames of two clips of the same words belong together: pairs [P, 2] from the first to the last ones.

    Dynamic time warping over the squared distance of frames without their clip's mean.
    """
    a, b = first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True)
    cost = (a**2).sum(0)[:, None] + (b**2).sum(0) - 2 * a.T @ b
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        before = np.minimum(total[i, j], np.minimum(total[i, j + 1], total[i + 1, j]))
        total[i + 1, j + 1] = cost[i, j] + before
    i, j = rows - 1, columns - 1
    pairs = [(i, j)]
    while i or j:
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda at: total[at[0] + 1, at[1] + 1])
        pairs.append((i, j))
    return np.array(pairs[::-1], dtype=np.int64)


def between(first: Features, second: Features, share: float) -> Features:
    """A speaker between two: the same words by both, aligned and mixed in level, sounds' lengths too.

    Args:
        first: Log-mel [M, T1].
        second: Log-mel [M, T2] of the same words.
        share: 0 gives the first clip, 1 the second.

    Returns:
        Log-mel [M, T] with T = T1 + share * (T2 - T1), rounded.
    """
    pairs = align_frames(first, second).astype(np.float64)
    when = pairs @ np.array([1 - share, share])
    frames = max(1, round(first.shape[1] + share * (second.shape[1] - first.shape[1])))
    wanted = np.linspace(0, when[-1], frames)
    a, b = (_read(clip, np.interp(wanted, when, pairs[:, k])) for k, clip in enumerate((first, second)))
    return (a * (1 - share) + b * share).astype(np.float32)
