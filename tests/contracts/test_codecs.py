"""What every codec promises, over a tiny random instance of each: stream = whole, batch = alone, true lengths kept."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codecs.any_codec import (
    assert_close,
    assert_same_codes,
    num_frames,
    random_codes,
    random_wave,
    stream_codes,
    stream_waveform,
)
from tests.codecs.causal_cases import tiny_encodec, tiny_mimi
from tests.codecs.snac_cases import tiny_snac
from torch.nn import functional as F

from vivavoce.base.errors import CodecError, SessionError
from vivavoce.codecs.contract import Codec, Codes, collate
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig


def tiny_nano() -> NanoCodec:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=32)).eval()


MAKERS = {
    "snac three levels": lambda: tiny_snac("three levels"),
    "snac windows": lambda: tiny_snac("windows"),
    "snac causal": lambda: tiny_snac("causal"),
    "nano": tiny_nano,
    "encodec": tiny_encodec,
    "mimi": tiny_mimi,
}


@functools.cache
def make_codec(name: str) -> Codec:
    """A tiny codec with random weights."""
    return MAKERS[name]()


@pytest.fixture(params=MAKERS, scope="module")
def codec(request: pytest.FixtureRequest) -> Codec:
    return make_codec(request.param)


# A codec runs for up to MAX_FRAMES coarse frames, at least the reach of its streams.
MAX_FRAMES = 24
few = settings(max_examples=8, derandomize=True, deadline=None)
seeds = st.integers(0, 2**31)
cuts = st.lists(st.floats(0, 1), max_size=8)
fractions = st.floats(0, 1)


def samples_of(codec: Codec, fraction: float) -> int:
    """A length between 1 sample and MAX_FRAMES coarse frames."""
    return max(1, round(fraction * MAX_FRAMES * codec.spec.frame_samples))


@few
@given(fraction=fractions, seed=seeds, cuts=cuts)
def test_stream_encode_equals_encode(codec: Codec, fraction: float, seed: int, cuts: list[float]) -> None:
    wave = random_wave(samples_of(codec, fraction), seed)
    assert_same_codes(stream_codes(codec, wave, cuts), codec.encode(wave))


@few
@given(frames=st.integers(1, MAX_FRAMES), missing=fractions, seed=seeds, cuts=cuts)
def test_stream_decode_equals_decode(
    codec: Codec, frames: int, missing: float, seed: int, cuts: list[float]
) -> None:
    size = codec.spec.frame_samples
    codes = random_codes(codec.spec, frames, seed, frames * size - int(missing * (size - 1)))
    assert_close(stream_waveform(codec, codes, cuts), codec.decode(codes), 1e-5)


@few
@given(lengths=st.lists(fractions, min_size=1, max_size=4), seed=seeds)
def test_batch_equals_alone(codec: Codec, lengths: list[float], seed: int) -> None:
    waves = [random_wave(samples_of(codec, x), seed + i) for i, x in enumerate(lengths)]
    true = [wave.shape[-1] for wave in waves]
    batch = torch.cat([F.pad(w, (0, max(true) - w.shape[-1]), value=0.5) for w in waves])
    codes = codec.encode(batch, true)
    audio = codec.decode(codes)
    assert codes.num_samples == true and audio.shape == (len(waves), 1, max(true))
    for i, wave in enumerate(waves):
        alone = codec.encode(wave)
        assert_same_codes(codes.item(i, codec.spec), alone)
        assert_close(audio[i : i + 1, :, : true[i]], codec.decode(alone))
        assert not audio[i, :, true[i] :].any()
        assert not any(
            level[i, of_alone.shape[1] :].any()
            for level, of_alone in zip(codes.levels, alone.levels, strict=True)
        )


@few
@given(frames=st.lists(st.integers(1, MAX_FRAMES), min_size=1, max_size=4), seed=seeds)
def test_collated_codes_of_any_length_decode_as_alone(codec: Codec, frames: list[int], seed: int) -> None:
    items = [random_codes(codec.spec, n, seed + i) for i, n in enumerate(frames)]
    audio = codec.decode(collate(items, codec.spec))
    for i, item in enumerate(items):
        assert_close(audio[i : i + 1, :, : item.num_samples[0]], codec.decode(item))


@few
@given(fraction=fractions, seed=seeds)
def test_lengths_are_true_and_codes_in_range(codec: Codec, fraction: float, seed: int) -> None:
    samples = samples_of(codec, fraction)
    codes = codec.encode(random_wave(samples, seed))
    codes.check(codec.spec)
    frames = num_frames(codes, codec.spec)
    assert codes.num_samples == [samples] and frames == codec.spec.num_frames(samples)
    assert frames % codec.spec.pad_to_frames == 0 and frames * codec.spec.frame_samples >= samples
    assert codec.decode(codes).shape == (1, 1, samples)


@few
@given(frames=st.integers(1, MAX_FRAMES), seed=seeds)
def test_decoding_is_deterministic_and_finite(codec: Codec, frames: int, seed: int) -> None:
    codes = random_codes(codec.spec, frames, seed)
    first = codec.decode(codes)
    assert torch.equal(first, codec.decode(codes)) and bool(first.isfinite().all())


@few
@given(frames=st.integers(6, MAX_FRAMES), seed=seeds)
def test_samples_are_final_when_given(codec: Codec, frames: int, seed: int) -> None:
    """What a stream has given does not depend on what comes after, and is given no later than stated."""
    spec, stream = codec.spec, codec.stream_decoder()
    codes, other = (random_codes(spec, 2 * frames, s) for s in (seed, seed + 1))
    counts = [frames * n for n in spec.codes_per_level]
    head = [level[:, :n] for level, n in zip(codes.levels, counts, strict=True)]
    given = stream.push(Codes(head, [frames * spec.frame_samples]))
    tail = [torch.cat([a, b[:, n:]], 1) for a, b, n in zip(head, other.levels, counts, strict=True)]
    changed = codec.decode(Codes(tail, codes.num_samples))
    assert_close(given, changed[..., : given.shape[-1]], 1e-5)
    if not spec.causal:
        assert given.shape[-1] >= frames * spec.frame_samples - spec.lookahead_samples


def test_wrong_codes_are_refused(codec: Codec) -> None:
    spec, good = codec.spec, random_codes(codec.spec, 4, 0)
    for level, code in [(0, spec.codebook_size), (spec.num_levels - 1, -1)]:
        bad = [row.clone() for row in good.levels]
        bad[level][0, 1] = code
        for call in (codec.decode, codec.stream_decoder().push):
            with pytest.raises(CodecError, match=rf"code {code} at level {level}"):
                call(Codes(bad, good.num_samples))
    with pytest.raises(CodecError, match="levels of codes"):
        codec.decode(Codes(good.levels[:-1], good.num_samples))
    with pytest.raises(CodecError, match="int64"):
        codec.decode(Codes([row.float() for row in good.levels], good.num_samples))
    with pytest.raises(CodecError, match="need"):
        codec.decode(Codes([*good.levels[:-1], good.levels[-1][:, :-1]], good.num_samples))
    with pytest.raises(CodecError, match=str(10**6)):
        codec.decode(Codes(good.levels, [10**6]))


def test_empty_and_misshapen_waveforms_are_refused(codec: Codec) -> None:
    with pytest.raises(CodecError, match="0 samples"):
        codec.encode(torch.zeros(1, 1, 0))
    with pytest.raises(CodecError, match="0 samples"):
        codec.encode(torch.zeros(2, 1, 50), [50, 0])
    with pytest.raises(CodecError, match="51 samples"):
        codec.encode(torch.zeros(1, 1, 50), [51])
    with pytest.raises(CodecError, match="1 lengths for 2"):
        codec.encode(torch.zeros(2, 1, 50), [50])
    for shape in [(50,), (1, 50), (1, 2, 50), (0, 1, 50)]:
        with pytest.raises(CodecError, match="mono"):
            codec.encode(torch.zeros(shape))
    with pytest.raises(CodecError, match="not finite"):
        codec.encode(torch.full((1, 1, 50), torch.nan))


def test_a_stream_ends_once(codec: Codec) -> None:
    encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
    encoder.push(torch.zeros(1, 1, 10))
    assert encoder.flush().num_samples == [10]
    one = random_codes(codec.spec, 1, 0)
    decoder.push(one)
    decoder.flush()
    for call in (
        lambda: encoder.push(torch.zeros(1, 1, 10)),
        encoder.flush,
        lambda: decoder.push(one),
        decoder.flush,
    ):
        with pytest.raises(SessionError):
            call()


def test_empty_streams_give_nothing(codec: Codec) -> None:
    codes = codec.stream_encoder().flush()
    assert (
        codes.num_samples == [0]
        and [level.shape for level in codes.levels] == [(1, 0)] * codec.spec.num_levels
    )
    assert codec.stream_decoder().flush().shape == (1, 1, 0)


def test_codes_can_be_embedded_in_training(codec: Codec) -> None:
    codes = codec.encode(random_wave(100, 0))
    torch.nn.Embedding(codec.spec.codebook_size, 4)(codes.levels[0]).sum().backward()
