"""Tiny SNAC codecs with random weights that cover every part: windows, dense convolutions, odd rates, no noise."""

from __future__ import annotations

import functools

import torch

from vivavoce.codecs.snac import SNACCodec, SNACConfig
from vivavoce.codecs.snac.layers import NoiseBlock, Snake

CONFIGS = {
    # 8 samples a step, 32 a coarse frame, look-ahead 302
    "three levels": SNACConfig(800, 4, (2, 4), None, 16, (4, 2), None, 64, 4, (4, 2, 1)),
    # an odd rate, windows of 8 steps = 2 coarse frames
    "windows": SNACConfig(600, 16, (2, 3), None, 128, (3, 2), 8, 32, 4, (4, 2, 1)),
    "dense": SNACConfig(450, 4, (3, 5), None, 16, (5, 3), None, 32, 4, (2, 1), noise=False, depthwise=False),
    # looks only back
    "causal": SNACConfig(900, 4, (2, 3), None, 16, (3, 2), None, 32, 4, (4, 2, 1), causal=True),
    # windows that do not divide into coarse frames: 6 steps and 4 steps meet at 12
    "odd windows": SNACConfig(400, 32, (2,), None, 64, (2,), 6, 32, 4, (4, 1), depthwise=False),
}


def scramble(codec: SNACCodec) -> SNACCodec:
    """Give every weight a value of its own, so that no part is a mere pass-through."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in codec.modules():
            if isinstance(part, Snake):
                part.alpha.uniform_(0.2, 3.0, generator=generator)
            if isinstance(part, NoiseBlock):
                part.linear.weight.mul_(3.0)
    return codec


@functools.cache
def tiny_snac(which: str = "three levels") -> SNACCodec:
    """One of ``CONFIGS``, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return scramble(SNACCodec(CONFIGS[which]))
