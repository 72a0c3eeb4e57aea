"""Instead of a synthesizer: tones as long as their text."""

from __future__ import annotations

import numpy as np


def tone(job: dict) -> tuple[dict, np.ndarray]:
    """For ``write_shards``, in place of ``make_speech.speak``."""
    return job, (8000 * np.sin(np.arange(3000 + len(job["text"]) * 200) * 0.05)).astype(np.int16)
