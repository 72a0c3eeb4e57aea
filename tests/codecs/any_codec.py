"""Streams cut anywhere and comparisons that hold for every codec, whatever its levels and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from vivavoce.codecs.contract import Codec, CodecSpec, Codes, concatenate


def num_frames(codes: Codes, spec: CodecSpec) -> int:
    """Coarse frames that codes hold."""
    return codes.levels[0].shape[1] // spec.codes_per_level[0]


def frames_of(codes: Codes, spec: CodecSpec, start: int, stop: int) -> Codes:
    """Coarse frames ``start`` to ``stop`` of one item, with the true samples among them."""
    levels = [
        level[:, start * n : stop * n] for level, n in zip(codes.levels, spec.codes_per_level, strict=True)
    ]
    held = max(0, min(stop * spec.frame_samples, codes.num_samples[0]) - start * spec.frame_samples)
    return Codes(levels, [held])


def random_codes(spec: CodecSpec, frames: int, seed: int, num_samples: int | None = None) -> Codes:
    """One item of ``frames`` coarse frames of any codes."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.randint(0, spec.codebook_size, (1, frames * n), generator=generator)
        for n in spec.codes_per_level
    ]
    return Codes(levels, [frames * spec.frame_samples if num_samples is None else num_samples])


def random_wave(num_samples: int, seed: int) -> Tensor:
    """Noise whose level rises along the clip, float32 [1, 1, num_samples]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linspace(0.02, 0.3, num_samples) * torch.randn(1, 1, num_samples, generator=generator)


def stream_codes(codec: Codec, waveform: Tensor, cuts: Sequence[float]) -> Codes:
    """Encode [1, 1, S] as a stream cut at these fractions of its length."""
    at = sorted(round(c * waveform.shape[-1]) for c in cuts)
    stream = codec.stream_encoder()
    parts = [stream.push(piece) for piece in waveform.tensor_split(at, dim=-1)]
    return concatenate([*parts, stream.flush()], codec.spec)


def stream_pieces(codec: Codec, codes: Codes, cuts: Sequence[float]) -> list[Tensor]:
    """Decode one item as a stream of whole frames cut at these fractions; what each push and the flush gave."""
    frames = num_frames(codes, codec.spec)
    stream = codec.stream_decoder()
    edges = [0, *sorted(round(c * frames) for c in cuts), frames]
    pieces = [stream.push(frames_of(codes, codec.spec, a, b)) for a, b in pairwise(edges)]
    return [*pieces, stream.flush()]


def stream_waveform(codec: Codec, codes: Codes, cuts: Sequence[float]) -> Tensor:
    """What :func:`stream_pieces` gives, joined."""
    return torch.cat(stream_pieces(codec, codes, cuts), dim=-1)


def assert_same_codes(found: Codes, wanted: Codes) -> None:
    """Compare levels and true lengths exactly."""
    assert found.num_samples == wanted.num_samples
    assert [level.shape for level in found.levels] == [level.shape for level in wanted.levels]
    for k, (a, b) in enumerate(zip(found.levels, wanted.levels, strict=True)):
        assert torch.equal(a, b), f"level {k} differs at {(a != b).nonzero()[:5].tolist()}"


def assert_close(found: Tensor, wanted: Tensor, tolerance: float = 1e-6) -> None:
    """Compare to ``tolerance``, taken relative where the signal is louder than full scale."""
    assert found.shape == wanted.shape
    if wanted.numel():
        worst = float((found - wanted).abs().max())
        assert worst <= tolerance * max(1.0, float(wanted.abs().max())), f"differs by {worst:.2e}"
