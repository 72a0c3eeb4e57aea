"""Several turns as one clip, with short silences, as systems with one audio slot per prompt take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vivavoce.base.errors import AudioError

GAP_S = 0.1
CROP_S = 30.0


def join_turns(
    waveforms: Sequence[np.ndarray],
    sample_rate: int,
    gap_s: float = GAP_S,
    *,
    trailing_gap: bool,
    crop_s: float | None = CROP_S,
) -> np.ndarray:
    """Join the waveforms of turns, each followed by silence, and cut the end off hard.

    A cut takes the last turns away without a trace; ``joined_samples`` tells the length before it. One clip
    per turn, where the model can take several, loses nothing.

    Args:
        waveforms: One float ``[S]`` per turn, S >= 1, all at ``sample_rate``.
        sample_rate: Hz.
        gap_s: Silence in seconds; 0.1 in SALMONN and its emotional-trajectory fine-tune.
        trailing_gap: Whether silence also follows the last turn. True is the fine-tune's form, training and
            command line; False is upstream SALMONN's ``expand_wav``.
        crop_s: Longest result in seconds; None for all of it.

    Returns:
        float32 ``[S']``, a new array.

    Raises:
        AudioError: No turns, a turn that is no waveform, or a negative gap or crop.

    Source: SALMONN's dataset reader and the fine-tune's; there the silence is always 1600 samples, which is
    0.1 s at the only rate they take, 16 kHz.
    """
    turns = [np.asarray(wave) for wave in waveforms]
    if not turns:
        raise AudioError("no turns to join; wanted one waveform or more.")
    for i, turn in enumerate(turns):
        if turn.ndim != 1 or turn.dtype.kind != "f" or turn.size == 0:
            raise AudioError(
                f"turn {i + 1} has shape {turn.shape}, {turn.dtype}; wanted float [S] with 1 sample or more."
            )
    length = joined_samples([t.size for t in turns], sample_rate, gap_s, trailing_gap=trailing_gap)
    if crop_s is not None and round(crop_s * sample_rate) < 1:
        raise AudioError(f"crop_s is {crop_s}; wanted more than 0 s, or None for no cut.")
    joined, at = np.zeros(length, dtype=np.float32), 0
    for turn in turns:
        joined[at : at + turn.size] = turn
        at += turn.size + round(gap_s * sample_rate)
    return joined if crop_s is None else joined[: round(crop_s * sample_rate)].copy()


def joined_samples(
    num_samples: Sequence[int], sample_rate: int, gap_s: float = GAP_S, *, trailing_gap: bool
) -> int:
    """Count the samples that turns of these lengths have when joined and not yet cut.

    Raises:
        AudioError: A sample rate or gap that makes no sense.
    """
    if sample_rate < 1 or not 0 <= gap_s < float("inf"):
        raise AudioError(
            f"sample rate {sample_rate} Hz, gap_s {gap_s}; wanted a rate above 0 and 0 s or more."
        )
    gaps = len(num_samples) - (not trailing_gap)
    return sum(num_samples) + max(gaps, 0) * round(gap_s * sample_rate)
