"""Layouts: the order in which a codec's codes become one line of integers, and the exact way back.

A layout is pure integer arithmetic. It knows no tokenizer: its ids start at 0, and `vocabulary.py` adds the
first code id. Letters: T coarse frames, T_l codes at level l; the period is the tokens per coarse frame.

One rule gives the order of a coarse frame, for every codec: depth first. The coarse code comes first, then
each of the finer codes below it, every one followed at once by its own finer codes:

    (1, 1)        A B                              EnCodec, two codebooks
    (1, 2, 4)     A B C C B C C                    SNAC 24 kHz, 7 tokens
    (1, 2, 4, 8)  A B C D D C D D B C D D C D D    SNAC 32/44 kHz, 15 tokens

`interleaved` gives all levels the same ids (position alone tells the level, so a lost token is not seen);
`orpheus` gives every slot its own ids (the id tells the slot, so a lost token is found at once).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from vivavoce.base.errors import LayoutError
from vivavoce.base.registry import Registry
from vivavoce.codecs.contract import CodecSpec, Codes

LAYOUTS = Registry(
    "layout",
    {
        "interleaved": "vivavoce.tokens.layouts:Interleaved",
        "orpheus": "vivavoce.tokens.layouts:Orpheus",
    },
    group="vivavoce.layouts",
)


def build_layout(name: str, spec: CodecSpec) -> Layout:
    """Make the layout called ``name`` for a codec.

    Raises:
        ConfigError: no layout of that name.
        LayoutError: the codec's levels have no such layout.
    """
    layout: Layout = LAYOUTS.get(name)(spec.codes_per_level, spec.codebook_size)
    return layout


def depth_first(codes_per_level: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """List the slots of one coarse frame in depth-first order.

    Args:
        codes_per_level: Codes of each level in one coarse frame, coarse to fine, such as (1, 2, 4). The first
            is 1 and each divides the next, so that every code has exactly one coarser code above it.

    Returns:
        One (level, index of the code inside the frame) per slot.

    Raises:
        LayoutError: the levels do not nest.
    """
    counts = tuple(int(n) for n in codes_per_level)
    nested = all(n > 0 for n in counts) and all(m % n == 0 for n, m in pairwise(counts))
    if not counts or counts[0] != 1 or not nested:
        raise LayoutError(
            f"levels with {counts} codes per frame have no depth-first order: wanted 1 code at the coarsest "
            f"level and every count a multiple of the one before, as in (1, 2, 4). Add a layout for it."
        )
    slots: list[tuple[int, int]] = []

    def visit(level: int, index: int) -> None:
        slots.append((level, index))
        if level + 1 < len(counts):
            fan = counts[level + 1] // counts[level]
            for child in range(fan * index, fan * (index + 1)):
                visit(level + 1, child)

    visit(0, 0)
    return tuple(slots)


class Layout(ABC):
    """How the codes of one clip become ids in [0, num_ids) and back.

    Attributes:
        name: Key in the table ``LAYOUTS``.
        codes_per_level: Codes of each level in one coarse frame, coarse to fine.
        codebook_size: Codewords per level.
    """

    name: ClassVar[str]

    def __init__(self, codes_per_level: Sequence[int], codebook_size: int) -> None:
        self.codes_per_level = tuple(int(n) for n in codes_per_level)
        self.codebook_size = int(codebook_size)
        if self.codebook_size < 1:
            raise LayoutError(f"codebook_size is {codebook_size}, wanted at least 1.")

    @property
    def period(self) -> int:
        """Tokens per coarse frame."""
        return sum(self.codes_per_level)

    @property
    @abstractmethod
    def num_ids(self) -> int:
        """How many consecutive ids the layout uses."""

    @abstractmethod
    def flatten(self, codes: Codes) -> list[int]:
        """Turn the codes of one clip into ids.

        Args:
            codes: Levels int64 [1, T * n_l]. The true number of samples is not part of the sequence.

        Returns:
            T * period ids in [0, num_ids), without start or end.

        Raises:
            LayoutError: a batch of several, levels that do not fit together, or a code out of range.
        """

    @abstractmethod
    def unflatten(self, ids: Sequence[int], frame_samples: int) -> Codes:
        """Invert ``flatten`` exactly.

        Args:
            ids: Ids in [0, num_ids), a whole number of coarse frames; may be empty.
            frame_samples: Samples per coarse frame, to fill ``Codes.num_samples``.

        Returns:
            Codes of batch 1 with ``num_samples = [T * frame_samples]``.

        Raises:
            LayoutError: ``position`` is the first bad token; nothing is ever shifted or skipped.
        """

    @abstractmethod
    def allowed(self, step: int) -> range:
        """Ids that are legal at ``step`` >= 0 (tokens since the start of audio).

        End of audio is legal iff ``step % period == 0``.
        """


class SlotLayout(Layout):
    """Depth-first order with one id offset per slot; subclasses say which offsets."""

    def __init__(self, codes_per_level: Sequence[int], codebook_size: int) -> None:
        super().__init__(codes_per_level, codebook_size)
        self.slots = depth_first(codes_per_level)
        self.offsets = self._offsets()

    @abstractmethod
    def _offsets(self) -> tuple[int, ...]:
        """First id of each slot, length ``period``."""

    @property
    def num_ids(self) -> int:
        return max(self.offsets) + self.codebook_size

    def frames(self, codes: Codes) -> Tensor:
        """The plain codes of one clip in depth-first order, int64 [T, period] in [0, codebook_size).

        Raises:
            LayoutError: as ``flatten``.
        """
        counts = self.codes_per_level
        if len(codes.levels) != len(counts):
            raise LayoutError(
                f"{len(codes.levels)} levels of codes, the layout is for {len(counts)}; "
                f"build the layout from the spec of the codec that made the codes."
            )
        levels = [level.detach().to("cpu", torch.long) for level in codes.levels]
        if any(level.dim() != 2 or level.shape[0] != 1 for level in levels):
            shapes = [list(level.shape) for level in levels]
            raise LayoutError(
                f"one clip at a time, wanted levels [1, T_l], got {shapes}; take codes.item(i, spec)."
            )
        num_frames = levels[0].shape[1]
        columns = []
        for i, (level, n) in enumerate(zip(levels, counts, strict=True)):
            if level.shape[1] != num_frames * n:
                raise LayoutError(
                    f"level {i} has {level.shape[1]} codes, {num_frames} frames need {num_frames * n}; "
                    f"the clip was cut inside a frame."
                )
            bad = ((level < 0) | (level >= self.codebook_size)).flatten()
            if bad.any():
                at = int(bad.nonzero()[0])
                raise LayoutError(
                    f"code {int(level[0, at])} at level {i}, index {at} is not in [0, {self.codebook_size}); "
                    f"build the layout from the spec of the codec that made the codes."
                )
            columns.append(level.reshape(num_frames, n))
        return torch.stack([columns[level][:, index] for level, index in self.slots], dim=1)

    def from_frames(self, frames: Tensor, frame_samples: int) -> Codes:
        """Invert ``frames``: int64 [T, period] plain codes to Codes of batch 1."""
        levels = []
        for level, n in enumerate(self.codes_per_level):
            columns = [self.slots.index((level, index)) for index in range(n)]
            levels.append(frames[:, columns].reshape(1, -1).contiguous())
        return Codes(levels, [frames.shape[0] * frame_samples])

    def flatten(self, codes: Codes) -> list[int]:
        ids: list[int] = (self.frames(codes) + torch.tensor(self.offsets)).flatten().tolist()
        return ids

    def unflatten(self, ids: Sequence[int], frame_samples: int) -> Codes:
        flat = integers(ids)
        slots = torch.arange(len(flat)) % self.period
        plain = flat - torch.tensor(self.offsets)[slots]
        bad = (plain < 0) | (plain >= self.codebook_size)
        if bad.any():
            at = int(bad.nonzero()[0])
            raise LayoutError(self._describe(int(flat[at]), at), position=at)
        rest = len(flat) % self.period
        if rest:
            raise LayoutError(
                f"the sequence of {len(flat)} tokens ends inside coarse frame {len(flat) // self.period}, "
                f"after {rest} of {self.period} tokens; tokens were lost or the end was cut off.",
                position=len(flat),
            )
        return self.from_frames(plain.reshape(-1, self.period), frame_samples)

    def _describe(self, value: int, at: int) -> str:
        slot = at % self.period
        low = self.offsets[slot]
        return (
            f"token {value} at position {at} (coarse frame {at // self.period}, slot {slot}) is outside "
            f"[{low}, {low + self.codebook_size}); tokens were lost, or another layout or codec made these."
        )

    def allowed(self, step: int) -> range:
        if step < 0:
            raise LayoutError(f"step is {step}, wanted 0 or more: tokens since the start of audio.")
        low = self.offsets[step % self.period]
        return range(low, low + self.codebook_size)


class Interleaved(SlotLayout):
    """All levels share the ids [0, codebook_size); the level is told by position alone.

    Why: small vocabulary, and the form of the Jan-Llama3 v0.1 models (two EnCodec codebooks, c1 c2 c1 c2).
    Cost: a lost token goes unseen unless the count stops being whole frames.
    Source: the sound-token function of Jan-Llama3 v0.1; unequal levels by the depth-first rule are ours.
    """

    name = "interleaved"

    def _offsets(self) -> tuple[int, ...]:
        return (0,) * self.period


@dataclass(frozen=True)
class Recovery:
    """What ``Orpheus.recover`` saved from a damaged sequence.

    Attributes:
        codes: The intact frames, joined; time is shorter by the dropped frames.
        dropped_frames: Damaged coarse frames left out, at the least (two halves of neighbours count once).
        dropped_tokens: Tokens left out.
        positions: Where each damaged stretch begins.
    """

    codes: Codes
    dropped_frames: int = 0
    dropped_tokens: int = 0
    positions: tuple[int, ...] = ()


class Orpheus(SlotLayout):
    """Every slot has its own ``codebook_size`` ids: 7 x 4096 for SNAC 24 kHz, 15 x 4096 for SNAC 32/44 kHz.

    Why: level and place are read from the id, so sampling can be constrained and damage found.
    Source: Orpheus-TTS 0.1 (id = first + 4096 * slot + code). Where we differ: code 0 is a code like any
    other, the first and last frames are kept, and a wrong slot is an error or a counted loss, never a shift.
    """

    name = "orpheus"

    def _offsets(self) -> tuple[int, ...]:
        return tuple(slot * self.codebook_size for slot in range(self.period))

    def recover(self, ids: Sequence[int], frame_samples: int) -> Recovery:
        """Read a damaged sequence: keep whole frames, drop and count the rest.

        A frame is kept iff its tokens stand in slot order. Ids outside [0, num_ids) are damage.
        What cannot be seen: a frame with its first tokens from one frame and its last from the next.
        """
        flat = integers(ids).tolist()
        size, period = self.codebook_size, self.period
        slots = [v // size if 0 <= v < size * period else -1 for v in flat]
        whole = list(range(period))
        kept: list[list[int]] = []
        positions: list[int] = []
        dropped_frames = dropped_tokens = at = 0
        while at < len(flat):
            if slots[at : at + period] == whole:
                kept.append([v % size for v in flat[at : at + period]])
                at += period
                continue
            end = at + 1
            while end < len(flat) and slots[end : end + period] != whole:
                end += 1
            seen = [s for s in slots[at:end] if s >= 0]
            dropped_frames += 1 + sum(b < a for a, b in pairwise(seen))
            dropped_tokens += end - at
            positions.append(at)
            at = end
        frames = torch.tensor(kept, dtype=torch.long).reshape(-1, period)
        return Recovery(
            self.from_frames(frames, frame_samples), dropped_frames, dropped_tokens, tuple(positions)
        )


def integers(ids: Sequence[int] | Tensor) -> Tensor:
    """One flat sequence of integers as int64 [L].

    Raises:
        LayoutError: nested, or something that is not an integer; ``position`` names the first.
    """
    if len(ids) == 0:
        return torch.zeros(0, dtype=torch.long)
    if not isinstance(ids, Tensor):
        for at, value in enumerate(ids):
            if isinstance(value, bool) or not hasattr(value, "__index__") or not -(2**63) <= value < 2**63:
                raise LayoutError(f"token {value!r} at position {at} is not an integer.", position=at)
        ids = torch.tensor([int(value) for value in ids], dtype=torch.long)
    if ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise LayoutError(
            f"wanted one flat sequence of integers, got {ids.dtype} of shape {list(ids.shape)}."
        )
    return ids.detach().to("cpu", torch.long)
