"""Waveforms to encoder inputs: features, cut into chunks that one pass of the encoder takes.

Letters: N chunks, M mel bins, T mel frames, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.audio.features import WHISPER_SAMPLE_RATE, LogMel
from vivavoce.models import CONNECTORS, ENCODERS
from vivavoce.models.config import EmbeddingsIn, build_part


@dataclass
class ClipInputs:
    """What an encoder reads, and how many placeholders its output fills.

    Attributes:
        features: float32 [N, M, T] (log-mel) or [N, S] (waveforms), zero past each chunk's length.
        lengths: int64 [N], true frames or samples of each chunk.
        chunks: Chunks of each clip, which follow each other.
        positions: Embeddings of each clip.
    """

    features: Tensor
    lengths: Tensor
    chunks: list[int]
    positions: list[int]


class ClipReader:
    """Makes a model's encoder inputs without its weights.

    Every clip gets the silence around it that the ears ask for. A clip that is longer than one pass of the encoder is
    cut into chunks without overlap; log-mel features are computed over the whole clip first, so that all its chunks
    are scaled alike.

    Args:
        ears: How the model hears.
    """

    def __init__(self, ears: EmbeddingsIn) -> None:
        self.ears = ears
        self.silence_samples = round(ears.silence_s * WHISPER_SAMPLE_RATE)
        with torch.device("meta"):
            self.encoder: nn.Module = build_part(ENCODERS, ears.encoder, "audio_in.encoder")
            self.connector: nn.Module = build_part(CONNECTORS, ears.connector, "audio_in.connector")

    def num_embeddings(self, lengths: Tensor) -> list[int]:
        """Embeddings of chunks of so many frames or samples: the parts' own arithmetic."""
        encoder, connector = self.encoder, self.connector
        counts: list[int] = connector.num_tokens(encoder.num_frames(lengths)).tolist()  # type: ignore[operator]
        return counts

    def read(self, waveforms: Sequence[np.ndarray]) -> ClipInputs:
        """Turn clips at 16 kHz, float32 [S] each, into inputs of the encoder."""
        around = self.silence_samples
        samples = torch.tensor([max(len(w) + 2 * around, self.ears.shortest_samples) for w in waveforms])
        padded = torch.zeros(len(waveforms), int(samples.max()))
        for row, wave in zip(padded, waveforms, strict=True):
            row[around : around + len(wave)] = torch.from_numpy(np.ascontiguousarray(wave))
        if getattr(self.encoder, "takes", "log_mel") == "waveform":
            features, lengths = padded, samples
        else:
            mel = LogMel(**self.ears.features)
            if self.ears.reference_padding:  # one spectrogram of all clips, each padded to the longest
                features, lengths = mel(padded)[0], mel.num_frames(samples)
            else:
                features, lengths = mel(padded, samples)
        return self._cut(features, lengths)

    def _cut(self, features: Tensor, lengths: Tensor) -> ClipInputs:
        longest: int = getattr(self.encoder, "longest", None) or int(lengths.max())
        pieces, sizes, chunks = [], [], []
        for row, length in zip(features, lengths.tolist(), strict=True):
            starts = range(0, length, longest)
            chunks.append(len(starts))
            for start in starts:
                size = min(longest, length - start)
                sizes.append(size)
                stop = start + (longest if self.ears.reference_padding else size)
                pieces.append(row[..., start:stop])
        width = max(piece.shape[-1] for piece in pieces)
        cut = torch.stack([F.pad(piece, (0, width - piece.shape[-1])) for piece in pieces])
        counts = self.num_embeddings(torch.tensor(sizes))
        ends = np.cumsum(chunks).tolist()
        positions = [sum(counts[end - n : end]) for n, end in zip(chunks, ends, strict=True)]
        return ClipInputs(cut, torch.tensor(sizes), chunks, positions)
