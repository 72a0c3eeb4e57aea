"""What tells voices apart, frame by frame: the cepstrum's shape, and the pitch where there is one.

Letters: S samples, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vivavoce.audio.voice_activity import Segment
from vivavoce.base.errors import AudioError

SAMPLE_RATE = 16_000
HOP, SIZE = 160, 400  # samples of a frame's step and of a frame
SIGHT = 800  # samples around a frame's middle in which its pitch is sought
PIECE_FRAMES = 1000  # always computed together, so that results do not depend on the blocks that come in
NUM_MELS, NUM_CEPSTRA = 40, 19
LOW_HZ, HIGH_HZ = 60.0, 7600.0
LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60, 400
VOICED = 0.6  # least correlation of a frame with itself a period later
EARLIER_PEAK = 0.92  # a shorter period is believed if it correlates nearly as well: fewer octaves too low

FRAME_S = HOP / SAMPLE_RATE
MIDDLE_S = SIZE / 2 / SAMPLE_RATE  # of frame 0


class SpeakerFrames(NamedTuple):
    """Frames of speech; a frame lasts 10 ms.

    Attributes:
        number: Of each frame in the recording, int64 [T], rising; its middle is at ``number * FRAME_S + MIDDLE_S``.
        cepstra: float16 [T, 19], coefficients 1 to 19.
        pitch: Octaves above 1 Hz, float16 [T]; only where voiced.
        voiced: bool [T].
    """

    number: np.ndarray
    cepstra: np.ndarray
    pitch: np.ndarray
    voiced: np.ndarray


def speaker_frames(waveform: Iterable[np.ndarray], speech: Sequence[Segment]) -> SpeakerFrames:
    """Compute the frames whose middle lies in speech.

    Memory: 43 bytes a frame of speech, that is 15 MB an hour; of the waveform, some 10 s are held.

    Args:
        waveform: Blocks of any length, float32 [S] at 16 kHz within -1 and 1, in order.
        speech: Where somebody speaks, in order.

    Raises:
        AudioError: A block is no waveform.
    """
    edges = np.array([t for segment in speech for t in segment], dtype=np.float64)
    if (np.diff(edges) < 0).any():
        raise AudioError(
            "the segments of speech overlap or are out of order; wanted them as speech_segments gives."
        )
    found: list[SpeakerFrames] = []
    for first, samples in _pieces(waveform):
        number = np.arange(first, first + 1 + (samples.size - SIGHT) // HOP)
        wanted = np.searchsorted(edges, number * FRAME_S + MIDDLE_S, side="right") % 2 == 1
        if not wanted.any():
            continue
        pitch, voiced = _pitch(samples)
        cepstra = _cepstra(samples[(SIGHT - SIZE) // 2 : samples.size - (SIGHT - SIZE) // 2])
        parts = (number, cepstra.astype(np.float16), pitch.astype(np.float16), voiced)
        found.append(SpeakerFrames(*(part[wanted] for part in parts)))
    if not found:
        empty = np.zeros((0, NUM_CEPSTRA), dtype=np.float16)
        return SpeakerFrames(np.zeros(0, dtype=np.int64), empty, empty[:, 0], np.zeros(0, dtype=bool))
    return SpeakerFrames(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _pieces(waveform: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Cut into pieces of 1000 frames with what each sees around them: number of the first frame, samples."""
    held = [np.zeros((SIGHT - SIZE) // 2, dtype=np.float32)]
    size, step, first = (PIECE_FRAMES - 1) * HOP + SIGHT, PIECE_FRAMES * HOP, 0
    for block in waveform:
        block = np.asarray(block)
        if block.ndim != 1 or block.dtype.kind != "f":
            raise AudioError(f"a block has shape {block.shape}, {block.dtype}; wanted float [S] at 16 kHz.")
        held.append(block.astype(np.float32, copy=False))
        if sum(map(len, held)) < size:
            continue
        samples = np.concatenate(held)
        while samples.size >= size:
            yield first, samples[:size]
            samples, first = samples[step:], first + PIECE_FRAMES
        held = [samples]
    samples = np.concatenate([*held, np.zeros((SIGHT - SIZE) // 2, dtype=np.float32)])
    if samples.size >= SIGHT:
        yield first, samples


def _cepstra(samples: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients, float32 [T, 19]."""
    import torch

    from vivavoce.audio.features import kaldi_fbank

    waveform = torch.from_numpy(np.ascontiguousarray(samples))[None]
    bands, _ = kaldi_fbank(waveform, num_mels=NUM_MELS, low_hz=LOW_HZ, high_hz=HIGH_HZ, scale=2.0**15)
    order, band = torch.arange(1, NUM_CEPSTRA + 1)[:, None], torch.arange(NUM_MELS) + 0.5
    cosines = (2.0 / NUM_MELS) ** 0.5 * torch.cos(torch.pi / NUM_MELS * order * band)
    return (bands[0].T @ cosines.T).numpy()


def _pitch(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in octaves above 1 Hz, float64 [T], and whether the frame is voiced, bool [T]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, SIGHT)[::HOP].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    shortest, longest = SAMPLE_RATE // HIGHEST_PITCH_HZ, SAMPLE_RATE // LOWEST_PITCH_HZ
    window, fft_size = np.hanning(SIGHT), 1152  # at least SIGHT + longest, with small factors
    own = _correlation(window[None], fft_size, longest + 1)
    along = _correlation(frames * window, fft_size, longest + 1)
    level = along / (along[:, :1] + 1e-8) / (own / own[:, :1])
    level = level[:, shortest:]
    rows = np.arange(len(level))
    at = np.argmax(level >= EARLIER_PEAK * level.max(axis=1, keepdims=True), axis=1)
    for _ in range(16):  # from the edge of the peak to its top
        following = np.minimum(at + 1, level.shape[1] - 1)
        at = np.where(level[rows, following] > level[rows, at], following, at)
    return np.log2(SAMPLE_RATE / (shortest + at)), level[rows, at] > VOICED


def _correlation(frames: np.ndarray, fft_size: int, lags: int) -> np.ndarray:
    """Correlation of each row with itself, by lag."""
    return np.asarray(np.fft.irfft(np.abs(np.fft.rfft(frames, fft_size)) ** 2, fft_size)[:, :lags])
