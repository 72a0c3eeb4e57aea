"""Voices as mixtures of Gaussians over the cepstrum and one over the pitch, and who speaks when under such voices.

Letters: T frames, D coefficients, C components, V voices, B blocks of frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FRAMES_PER_COMPONENT, MOST_COMPONENTS = 100, 16
MOST_TRAINING_FRAMES = 30_000  # a voice; more are thinned out evenly
PRIOR_FRAMES = 10.0  # of the voice's whole variance in each component's
EM_ROUNDS = 6
CHUNK = 50_000  # frames scored at a time
PITCH_WEIGHT = (
    0.3  # a frame's pitch hardly differs from the last frame's, so it is not new evidence each time
)
PITCH_SPREAD, PITCH_SPREAD_LEAST, PITCH_PRIOR = 0.3, 1 / 6, 20.0  # octaves, octaves, frames
PITCH_RANGE, PITCH_ODD = 2.5, 0.1  # octaves over which errors of the tracker lie anywhere, and their share
SMALLEST = 30  # frames of a voice
BLOCK_FRAMES = 10  # that are given to one voice together
SHORTEST_BLOCKS = 5  # of a turn
CHANGE = 80.0  # log likelihood that a change of speaker costs
ROUNDS = 4


@dataclass
class Evidence:
    """Frames of speech as models read them.

    Attributes:
        cepstra: float32 [T, D], of mean 0 and variance 1.
        pitch: Octaves, float32 [T].
        voiced: bool [T].
        edges: Where blocks begin, and T, int64 [B + 1]; no block crosses a pause.
    """

    cepstra: Tensor
    pitch: Tensor
    voiced: Tensor
    edges: np.ndarray


class Voice:
    """A model of one speaker, made of the frames in ``index``."""

    def __init__(self, evidence: Evidence, index: Tensor) -> None:
        components = min(max(len(index) // FRAMES_PER_COMPONENT, 1), MOST_COMPONENTS)
        index = index[:: -(-len(index) // MOST_TRAINING_FRAMES)]
        frames = evidence.cepstra[index]
        self._fit(frames, components)
        self.pitch = _fit_pitch(evidence.pitch[index][evidence.voiced[index]])

    def _fit(self, frames: Tensor, components: int) -> None:
        """Expectation maximisation from equal parts along the longest axis."""
        whole = frames.var(dim=0, unbiased=False)
        centred = (frames - frames.mean(dim=0)).double()
        axis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
        parts = torch.tensor_split(torch.argsort(centred @ axis, stable=True), components)
        self.means = torch.stack([frames[part].mean(dim=0) for part in parts])
        self.variances = (whole + 1e-2).expand(components, -1)
        self.weights = torch.full((components,), 1.0 / components)
        square = frames**2
        for _ in range(EM_ROUNDS):
            share = self._components(frames, square).softmax(dim=1)
            counts = share.sum(dim=0) + 1e-6
            self.means = share.T @ frames / counts[:, None]
            trust = (counts / (counts + PRIOR_FRAMES))[:, None]
            moments = (share.T @ square + PRIOR_FRAMES * whole) / (counts[:, None] + PRIOR_FRAMES)
            self.variances = torch.maximum(moments - self.means**2 * trust, 0.05 * whole + 1e-6)
            self.weights = (counts + 1.0) / (counts + 1.0).sum()

    def _components(self, frames: Tensor, square: Tensor) -> Tensor:
        """Log likelihood of frames with each component, [T, C]."""
        precision = 1.0 / self.variances
        constant = (2 * math.pi * self.variances).log().sum(dim=1) + (self.means**2 * precision).sum(dim=1)
        fit = square @ precision.T - 2.0 * frames @ (self.means * precision).T
        return self.weights.log() - 0.5 * (constant + fit)

    def score(self, evidence: Evidence, begin: int, end: int) -> Tensor:
        """Log likelihood of frames [begin, end), float32 [T]."""
        frames = evidence.cepstra[begin:end]
        score = self._components(frames, frames**2).logsumexp(dim=1)
        level = torch.full_like(score, 1.0 / PITCH_RANGE)
        if self.pitch is not None:
            mean, spread = self.pitch
            bell = (-0.5 * ((evidence.pitch[begin:end] - mean) / spread) ** 2).exp()
            level = (1 - PITCH_ODD) * bell / (spread * math.sqrt(2 * math.pi)) + PITCH_ODD * level
        return score + PITCH_WEIGHT * torch.where(evidence.voiced[begin:end], level.log(), torch.zeros(()))


def _fit_pitch(pitch: Tensor) -> tuple[float, float] | None:
    """Mean and spread of the pitch in octaves without the tracker's errors; None if there is hardly any."""
    if len(pitch) < 5:
        return None
    pitch = pitch.double()
    mean = float(pitch.median())
    near = pitch
    for _ in range(3):
        near = pitch[(pitch - mean).abs() < 0.6]
        mean = float(near.mean())
    square = float(((near - mean) ** 2).sum()) + PITCH_PRIOR * PITCH_SPREAD**2
    return mean, max(math.sqrt(square / (len(near) + PITCH_PRIOR)), PITCH_SPREAD_LEAST)


def resegmented(evidence: Evidence, labels: np.ndarray) -> np.ndarray:
    """Make voices of the frames that a partition gives them, give each voice what it explains best, and so on.

    Args:
        evidence: Frames.
        labels: A first guess, int64 [T].

    Returns:
        Labels from 0 without holes, int64 [T], of as many voices as before or fewer.
    """
    for _ in range(ROUNDS):
        voices = _voices(evidence, labels)
        if len(voices) < 2:
            return np.zeros_like(labels)
        new = np.repeat(best_path(_block_scores(evidence, voices)), np.diff(evidence.edges))
        same, labels = np.array_equal(new, labels), new
        if same:
            break
    return np.unique(labels, return_inverse=True)[1]


def _voices(evidence: Evidence, labels: np.ndarray) -> list[Voice]:
    index = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return [Voice(evidence, torch.from_numpy(i)) for i in index if len(i) >= SMALLEST]


def _block_scores(evidence: Evidence, voices: list[Voice]) -> np.ndarray:
    """Log likelihood of each block with each voice, float64 [B, V]."""
    edges, scores = evidence.edges, []
    step = max(1, CHUNK // BLOCK_FRAMES // 2)
    for first in range(0, len(edges) - 1, step):
        part = edges[first : first + step + 1]
        begin, end = int(part[0]), int(part[-1])
        columns = torch.stack([voice.score(evidence, begin, end) for voice in voices], dim=1)
        scores.append(np.add.reduceat(columns.double().numpy(), part[:-1] - begin, axis=0))
    return np.concatenate(scores)


def best_path(scores: np.ndarray, shortest: int = SHORTEST_BLOCKS, change: float = CHANGE) -> np.ndarray:
    """The likeliest sequence of voices in which each speaks for ``shortest`` blocks or more.

    Args:
        scores: Log likelihood, float [B, V], V of 2 or more.
        shortest: Blocks of the shortest turn; the last turn may be cut.
        change: What each change costs.

    Returns:
        The voice of each block, int64 [B].
    """
    num_blocks, num_voices = scores.shape
    state = np.full(
        (num_voices, shortest), -np.inf
    )  # the voice, and the blocks it has had, the last: as many or more
    state[:, 0] = scores[0]
    came_from = np.zeros((num_blocks, num_voices), dtype=np.int16)
    stays = np.zeros((num_blocks, num_voices), dtype=bool)
    everyone = np.arange(num_voices)
    for block in range(1, num_blocks):
        leaving = state[:, -1]
        order = np.argsort(-leaving, kind="stable")
        source = np.where(everyone == order[0], order[1], order[0])
        entering = leaving[source] - change
        came_from[block] = source
        moved = np.concatenate([entering[:, None], state[:, :-1]], axis=1)
        stays[block] = leaving >= moved[:, -1]
        moved[:, -1] = np.maximum(leaving, moved[:, -1])
        state = moved + scores[block][:, None]
    voice, had = divmod(int(state.argmax()), shortest)
    path = np.zeros(num_blocks, dtype=np.int64)
    for block in range(num_blocks - 1, -1, -1):
        path[block] = voice
        if had == shortest - 1 and stays[block, voice]:
            continue
        if had:
            had -= 1
        else:
            voice, had = int(came_from[block, voice]), shortest - 1
    return path
