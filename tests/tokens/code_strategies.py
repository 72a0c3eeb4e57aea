"""Random codes for property tests; code 0, the largest code, one frame and no frame come up often."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from vivavoce.codecs.contract import Codes


def codes_of(
    codes_per_level: tuple[int, ...],
    size: int,
    *,
    frame_samples: int = 1,
    min_frames: int = 0,
    max_frames: int = 6,
) -> st.SearchStrategy[Codes]:
    """One clip of whole frames, from a drawn seed (drawing each code by itself would take seconds)."""

    def fill(frames: int, seed: int, edge: str) -> Codes:
        draw = torch.Generator().manual_seed(seed)
        levels = [torch.randint(size, (1, frames * n), generator=draw) for n in codes_per_level]
        for level in levels if frames else []:
            if edge in ("zeros", "largest"):
                level.fill_(0 if edge == "zeros" else size - 1)
            if edge in ("zero ends", "largest ends"):
                level[:, 0] = level[:, -1] = 0 if edge == "zero ends" else size - 1
        return Codes(levels, [frames * frame_samples])

    edges = st.sampled_from(["none", "zero ends", "largest ends", "zeros", "largest"])
    return st.builds(fill, st.integers(min_frames, max_frames), st.integers(0, 2**31), edges)


def same(a: Codes, b: Codes) -> bool:
    """Equal levels, shapes included."""
    return len(a.levels) == len(b.levels) and all(
        torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a.levels, b.levels, strict=True)
    )
