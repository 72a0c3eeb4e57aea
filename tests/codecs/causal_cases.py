"""Tiny EnCodec and Mimi with random weights, and streams cut anywhere, for the tests of both."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from vivavoce.codecs.contract import Codec, Codes, concatenate
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


def stream_codes(codec: Codec, waveform: Tensor, cuts: Sequence[float]) -> Codes:
    """Encode [1, 1, S] as a stream cut at these fractions of its length."""
    at = sorted(round(c * waveform.shape[-1]) for c in cuts)
    stream = codec.stream_encoder()
    parts = [stream.push(piece) for piece in waveform.tensor_split(at, dim=-1)]
    return concatenate([*parts, stream.flush()], codec.spec)


def stream_waveform(codec: Codec, codes: Codes, cuts: Sequence[float]) -> Tensor:
    """Decode one item as a stream of whole frames cut at these fractions."""
    frames, size = codes.levels[0].shape[1], codec.spec.frame_samples
    edges = [0, *sorted(round(c * frames) for c in cuts), frames]
    stream, out = codec.stream_decoder(), []
    for a, b in pairwise(edges):
        samples = max(0, min(b * size, codes.num_samples[0]) - a * size)
        out.append(stream.push(Codes([level[:, a:b] for level in codes.levels], [samples])))
    return torch.cat([*out, stream.flush()], dim=-1)


def assert_same_codes(found: Codes, wanted: Codes) -> None:
    """Compare levels and true lengths exactly."""
    assert found.num_samples == wanted.num_samples
    assert torch.equal(torch.stack(found.levels), torch.stack(wanted.levels))


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Compare to 1e-5 of the loudest sample: random weights make signals of any size."""
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max().clamp(min=1e-3)))
