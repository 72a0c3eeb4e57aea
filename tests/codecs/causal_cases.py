"""Tiny EnCodec and Mimi with random weights, and streams cut anywhere, for the tests of both."""

from __future__ import annotations

import functools
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from vivavoce.codecs.encodec import EncodecCodec
from vivavoce.codecs.mimi import MimiCodec

# 100 frames/s of 8 samples; 64 codewords = 0.6 kbit/s per codebook
ENCODEC: dict[str, Any] = {
    "sampling_rate": 800,
    "upsampling_ratios": [4, 2],
    "hidden_size": 8,
    "num_filters": 4,
    "codebook_size": 64,
    "target_bandwidths": [1.2, 2.4],
}
# 25 frames/s of 48 samples; attention over 6 positions, in layers that do more than pass their input on
MIMI: dict[str, Any] = {
    "sampling_rate": 1200,
    "upsampling_ratios": [4, 3, 2],
    "hidden_size": 16,
    "num_filters": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "codebook_size": 64,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 6,
    "upsample_groups": 16,
    "sliding_window": 6,
    "layer_scale_initial_scale": 1.0,
    "initializer_range": 0.3,
}

seeds = st.integers(0, 2**31)
cuts = st.lists(st.floats(0, 1), max_size=12)

# Float rounding decides between two codewords that tie: about once in 600,000 codes of these models. Tests that
# compare codes therefore always draw the same examples.
same_examples = settings(derandomize=True)


@functools.cache
def tiny_encodec() -> EncodecCodec:
    return EncodecCodec.from_config(ENCODEC, bandwidth=2.4)


@functools.cache
def tiny_mimi() -> MimiCodec:
    return MimiCodec.from_config(MIMI, num_quantizers=4)


def noise(num_samples: int, seed: int) -> Tensor:
    """Noise whose level rises along the clip, float32 [1, 1, num_samples]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linspace(0.01, 0.2, num_samples) * torch.randn(1, 1, num_samples, generator=generator)
