"""Where the decoder's noise blocks get their noise from.

Published SNAC draws fresh noise at every decode, so two decodes of the same codes differ, and a stream can never
equal the whole. Here noise is a function of (block, absolute sample index): the same whole, streamed, or resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vivavoce.base.errors import CodecError

_MASK = 0xFFFFFFFF
_ROUND_CONSTANTS = (0x7FEB352D, 0x5BD1E995)  # odd and below 2^31: products stay inside int64


class NoiseSource(Protocol):
    """Noise values by block and position."""

    def __call__(self, block: int, start: int, length: int) -> Tensor:
        """Noise of one block.

        Args:
            block: Noise block counted from the input of the decoder.
            start: Absolute index of the first value, at the block's output rate.
            length: How many values.

        Returns:
            float32 [length].
        """


def _mix(x: Tensor) -> Tensor:
    """A bijective 32-bit hash on int64 tensors holding values in [0, 2^32): xor-shifts and odd products."""
    for constant, shift in zip(_ROUND_CONSTANTS, (16, 15), strict=True):
        x = ((x ^ (x >> shift)) * constant) & _MASK
    return x ^ (x >> 16)


class KeyedNoise:
    """Standard normal noise from a counter: a pure function of (seed, block, sample index).

    Integers are hashed and turned into normal values in float64, so the same key gives the same noise on every
    device, in any order and at any chunk size. Indices may exceed 2^32.

    Args:
        seed: Any int; equal seeds give equal noise.

    Source: Box and Muller 1958 for the transform.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, block: int, start: int, length: int) -> Tensor:
        index = torch.arange(start, start + length, dtype=torch.int64)
        low, high = index & _MASK, (index >> 32) & _MASK
        key = torch.tensor([self.seed & _MASK, (self.seed >> 32) & _MASK, block], dtype=torch.int64)
        stream = _mix(_mix(_mix(key[0:1]) ^ key[1:2]) ^ _mix(key[2:3] + 1))
        base = _mix(_mix(low ^ stream) ^ _mix((high + stream) & _MASK))
        radius = _mix(base ^ 0x3C6EF372).double().add(0.5).div(2.0**32).log().mul(-2.0).sqrt()
        angle = _mix(base ^ 0x1B873593).double().mul(2.0 * math.pi / 2.0**32)
        return radius.mul(angle.cos()).float()


class GivenNoise:
    """Noise given beforehand, one tensor per block.

    Args:
        blocks: Tensors of one dimension, from the input of the decoder to its output.
    """

    def __init__(self, blocks: Sequence[Tensor]) -> None:
        self.blocks = [torch.as_tensor(b).flatten() for b in blocks]

    def __call__(self, block: int, start: int, length: int) -> Tensor:
        if block >= len(self.blocks):
            raise CodecError(
                f"noise was given for {len(self.blocks)} blocks, the decoder asks for block {block}."
            )
        values = self.blocks[block][start : start + length]
        if len(values) != length:
            raise CodecError(
                f"noise block {block} has {len(self.blocks[block])} values, decoding needs {start + length}."
            )
        return values
