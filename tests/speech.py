"""What the ``speech`` fixture gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Speech(NamedTuple):
    """A spoken sentence.

    Attributes:
        waveform: float32 [S] within -1 and 1.
        sample_rate: Hz.
        text: What is said, lower case.
    """

    waveform: np.ndarray
    sample_rate: int
    text: str

    def at(self, sample_rate: int) -> np.ndarray:
        """Return the waveform at another rate."""
        import soxr

        if sample_rate == self.sample_rate:
            return self.waveform
        return np.asarray(soxr.resample(self.waveform, self.sample_rate, sample_rate), dtype=np.float32)
