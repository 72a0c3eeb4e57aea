"""Cuts on the borders of a codec's coarse frames, so that a span of a recording is whole frames, and its codes too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import LayoutError
from vivavoce.data.check.codes import read_ids

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec, Codes


@dataclass(frozen=True)
class Frames:
    """Where a recording may be cut.

    Attributes:
        length_s: Of a frame, seconds; the shortest clip that the codec encodes without padding.
        spec: Of the codec; None if only the length is known.
    """

    length_s: Fraction
    spec: CodecSpec | None = None

    @classmethod
    def of_codec(cls, name: str) -> Frames:
        """Those of a codec: by its published numbers, or loaded if it is not one of those.

        Raises:
            CodecError, CheckpointError: There is no such codec.
        """
        from vivavoce.codecs.loading import load_codec
        from vivavoce.codecs.published import USUAL, published_specs

        known = {spec.name: spec for spec in published_specs()}
        spec = known.get(USUAL.get(name, name)) or load_codec(name).spec
        return cls(Fraction(spec.frame_samples * spec.pad_to_frames, spec.sample_rate), spec)

    def count(self, num_samples: int, sample_rate: int) -> int:
        """Frames of a recording; the last one may be a part."""
        return math.ceil(Fraction(num_samples, sample_rate) / self.length_s)

    def nearest(self, time_s: float) -> int:
        """The border that is nearest to a time; border f is where frame f begins."""
        return math.floor(Fraction(time_s) / self.length_s + Fraction(1, 2))

    def samples(self, first: int, end: int, num_samples: int, sample_rate: int) -> tuple[int, int]:
        """Samples [start, stop) that lie wholly in frames [first, end), so that resampled they are no more frames.

        At the codec's own rate, spans that follow each other have no gap; at others one sample may lie between.
        """
        start, stop = first * self.length_s * sample_rate, end * self.length_s * sample_rate
        return math.ceil(start), min(num_samples, math.floor(stop))


class CutCodes:
    """The codes of an audio part, to be cut.

    Args:
        tokens: Of the part.
        frames: With the spec of the codec that made them.
        root: Where relative paths start.

    Raises:
        LayoutError: They are not whole frames of their layout, or not as many as their samples need.
    """

    def __init__(self, tokens: Mapping[str, Any], frames: Frames, root: Path) -> None:
        from vivavoce.tokens.layouts import build_layout

        assert frames.spec is not None
        self.spec = frames.spec
        missing = [key for key in ("layout", "num_samples") if not tokens.get(key)]
        if missing:
            raise LayoutError(f"tokens have no {' and no '.join(missing)}; make them by `tokenize`.")
        self._tokens = {k: v for k, v in tokens.items() if k not in ("ids", "path")}
        self._layout = build_layout(str(tokens["layout"]), self.spec)
        self._codes: Codes = self._layout.unflatten(read_ids(tokens, root), self.spec.frame_samples)
        self.num_samples = int(tokens["num_samples"])
        found, wanted = self._codes.levels[0].shape[1], self.spec.num_frames(self.num_samples)
        if found != wanted:
            raise LayoutError(f"{found} frames of codes for {self.num_samples} samples, which are {wanted}.")

    def cut(self, first: int, end: int) -> dict[str, Any]:
        """Tokens of frames [first, end), as an audio part has them."""
        from vivavoce.codecs.contract import Codes

        pad, size = self.spec.pad_to_frames, self.spec.frame_samples
        levels = [
            level[:, first * pad * n : end * pad * n]
            for level, n in zip(self._codes.levels, self.spec.codes_per_level, strict=True)
        ]
        num_samples = min(self.num_samples, end * pad * size) - first * pad * size
        ids = self._layout.flatten(Codes(levels, [num_samples]))
        return {**self._tokens, "num_samples": num_samples, "ids": ids}
