"""The embedded codec: geometry of 24 kHz SNAC, exact streaming by windows, folders."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.base.errors import CheckpointError, CodecError, SessionError
from vivavoce.codecs.contract import Codes, concatenate
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig

SMALL = NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=32)


def _codec() -> NanoCodec:
    torch.manual_seed(0)
    return NanoCodec(SMALL).eval()


def test_geometry_is_snacs() -> None:
    spec = NanoCodec().spec
    assert (spec.frame_samples, spec.codes_per_level, spec.codes_per_frame) == (2048, (1, 2, 4), 7)
    assert spec.tokens_per_second == pytest.approx(82.03, abs=0.01)
    assert sum(p.numel() for p in NanoCodec().parameters()) == pytest.approx(3.92e6, rel=0.01)


@settings(max_examples=10, deadline=None)
@given(samples=st.integers(1, 40_000), cuts=st.lists(st.integers(0, 40_000), max_size=6))
def test_streams_equal_the_whole(samples: int, cuts: list[int]) -> None:
    codec = _codec()
    wave = 0.3 * torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(samples))
    whole = codec.encode(wave)
    encoder, edges = codec.stream_encoder(), sorted({0, samples, *(min(c, samples) for c in cuts)})
    parts = [encoder.push(wave[..., a:b]) for a, b in itertools.pairwise(edges)]
    streamed = concatenate([*parts, encoder.flush()], codec.spec)
    assert streamed.num_samples == [samples]
    assert all(torch.equal(a, b) for a, b in zip(whole.levels, streamed.levels, strict=True))
    audio, decoder, pieces = codec.decode(whole), codec.stream_decoder(), []
    for f in range(whole.levels[0].shape[1]):
        frame = [level[:, f * n : (f + 1) * n] for level, n in zip(whole.levels, (1, 2, 4), strict=True)]
        pieces.append(decoder.push(Codes(frame, [2048])))
    joined = torch.cat([*pieces, decoder.flush(samples)], dim=-1)
    assert joined.shape == audio.shape
    torch.testing.assert_close(joined, audio, atol=1e-6, rtol=0)


def test_context_is_needed_and_enough() -> None:
    """A change of one frame reaches no further than the stated look-ahead, and does reach the last frame of it."""
    codec = _codec()
    codes = [torch.randint(0, 32, (1, 20 * n)) for n in (1, 2, 4)]
    other = [c.clone() for c in codes]
    other[2][:, 40:44] = (other[2][:, 40:44] + 1) % 32
    a, b = (codec.decode(Codes(c, [20 * 2048]))[0, 0] for c in (codes, other))
    changed = (a != b).nonzero()[:, 0]
    reach = codec.spec.lookahead_samples
    assert int(changed.min()) >= 10 * 2048 - reach and int(changed.max()) < 11 * 2048 + reach
    assert int(changed.min()) < 10 * 2048 - reach // 2


def test_folder_round_trip_and_faults(tmp_path: Path) -> None:
    codec, wave = _codec(), 0.3 * torch.randn(1, 1, 9000)
    codec.save(tmp_path, dtype=torch.float32)
    again = NanoCodec.from_folder(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(codec.encode(wave).levels, again.encode(wave).levels, strict=True)
    )
    assert again.spec.weights and again.spec.weights == NanoCodec.from_folder(tmp_path).spec.weights
    (tmp_path / "model.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(CheckpointError, match="nano codec folder"):
        NanoCodec.from_folder(tmp_path)


def test_wrong_codes_and_late_calls_are_refused() -> None:
    codec = _codec()
    with pytest.raises(CodecError, match="outside"):
        codec.decode(Codes([torch.full((1, n), 32) for n in (1, 2, 4)], [2048]))
    with pytest.raises(CodecError, match="claims"):
        codec.decode(Codes([torch.zeros(1, n, dtype=torch.long) for n in (1, 2, 4)], [5000]))
    stream = codec.stream_decoder()
    stream.flush()
    with pytest.raises(SessionError):
        stream.push(Codes([torch.zeros(1, n, dtype=torch.long) for n in (1, 2, 4)], [2048]))
