"""SNAC: streams against the plain network in double precision, noise, odd lengths, full sizes."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codecs.any_codec import (
    assert_close,
    assert_same_codes,
    frames_of,
    num_frames,
    random_codes,
    random_wave,
    stream_codes,
    stream_pieces,
    stream_waveform,
)
from tests.codecs.snac_cases import CONFIGS, tiny_snac
from torch import Tensor
from torch.nn import functional as F

from vivavoce.base.errors import CodecError, ConfigError
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.snac import PUBLISHED, GivenNoise, KeyedNoise, NoiseSource, SNACCodec, SNACConfig
from vivavoce.codecs.snac.streaming import stages_of

every_config = pytest.mark.parametrize("which", CONFIGS)
few = settings(max_examples=10, derandomize=True, deadline=None)
seeds = st.integers(0, 2**31)
cuts = st.lists(st.floats(0, 1), max_size=8)
frames = st.integers(1, 20)


@functools.cache
def exact(which: str) -> SNACCodec:
    """A tiny codec in double precision, where a wrong sample cannot hide in rounding."""
    return copy.deepcopy(tiny_snac(which)).double()


@torch.no_grad()
def plain_decode(codec: SNACCodec, codes: Codes, noise: NoiseSource | None = None) -> Tensor:
    """The plain network on codes of a legal length, not cropped."""
    return codec.decoder(codec.quantizer.embed(codes.levels).transpose(1, 2), noise)


def legal(codec: SNACCodec, codes: Codes) -> Codes:
    """Repeat the last frame up to a legal length."""
    missing = -num_frames(codes, codec.spec) % codec.spec.pad_to_frames
    counts = codec.spec.codes_per_level
    levels = [
        torch.cat([x, x[:, -n:].repeat(1, missing)], 1) for x, n in zip(codes.levels, counts, strict=True)
    ]
    return Codes(levels, codes.num_samples)


@every_config
@few
@given(frames=frames, seed=seeds, cuts=cuts, noisy=st.booleans())
def test_decoding_is_that_of_the_plain_network(
    which: str, frames: int, seed: int, cuts: list[float], noisy: bool
) -> None:
    codec, noise = exact(which), KeyedNoise(seed) if noisy else None
    codes = random_codes(codec.spec, frames, seed)
    wanted = plain_decode(codec, legal(codec, codes), noise)[..., : codes.num_samples[0]]
    assert_close(codec.decode(codes, noise), wanted, 1e-12)
    stream = codec.stream_decoder(noise)
    edges = sorted(round(c * frames) for c in cuts)
    pieces = [frames_of(codes, codec.spec, a, b) for a, b in zip([0, *edges], [*edges, frames], strict=True)]
    assert_close(torch.cat([*map(stream.push, pieces), stream.flush()], -1), wanted, 1e-12)


@every_config
@few
@given(fraction=st.floats(0, 1), seed=seeds, cuts=cuts)
def test_codes_are_those_of_the_plain_network(
    which: str, fraction: float, seed: int, cuts: list[float]
) -> None:
    codec = exact(which)
    wave = random_wave(max(1, round(fraction * 12 * codec.spec.frame_samples)), seed).double()
    padded = codec.spec.num_frames(wave.shape[-1]) * codec.spec.frame_samples
    with torch.no_grad():
        rows = codec.encoder(F.pad(wave, (0, padded - wave.shape[-1]))).transpose(1, 2)
        wanted = Codes(codec.quantizer.encode(rows), [wave.shape[-1]])
    assert_same_codes(codec.encode(wave), wanted)
    assert_same_codes(stream_codes(codec, wave, cuts), wanted)


@every_config
def test_stages_are_exact_row_by_row(which: str) -> None:
    """One latent step at a time, finer than any frame."""
    codec = exact(which)
    rows = torch.randn(
        24, codec.quantizer.width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        wanted = codec.decoder(rows.t()[None])[0, 0]
        stages, out = [s.fresh() for s in stages_of(codec.decoder)], []
        for piece in [*rows.clone().split(1), rows[:0]]:
            last = len(piece) == 0
            for stage in stages:
                piece = stage.push(piece, last)
            out.append(piece[:, 0])
    assert_close(torch.cat(out), wanted, 1e-12)


@pytest.mark.parametrize("which", ["three levels", "dense"])
def test_output_comes_as_early_as_it_is_final(which: str) -> None:
    codec = tiny_snac(which)
    spec, ahead = codec.spec, codec.config.encoder_lookahead_samples
    codes = random_codes(spec, 30, 0)
    given = torch.tensor([p.shape[-1] for p in stream_pieces(codec, codes, [k / 30 for k in range(1, 30)])])
    late = torch.arange(1, 31) * spec.frame_samples - spec.lookahead_samples
    assert given.cumsum(0)[:-1].tolist() == late.clamp(min=0).tolist()
    stream, size = codec.stream_encoder(), spec.frame_samples
    for k in range(1, 31):
        stream.push(random_wave(size - 1, k))
        assert stream.num_coded == max(0, ((k - 1) * size - ahead) // size) * size
        stream.push(random_wave(1, k))
        assert stream.num_coded == max(0, (k * size - ahead) // size) * size


@pytest.mark.parametrize("which", ["windows", "odd windows"])
def test_with_attention_output_waits_for_whole_windows_only(which: str) -> None:
    codec = tiny_snac(which)
    spec = codec.spec
    given = [
        p.shape[-1] for p in stream_pieces(codec, random_codes(spec, 30, 0), [k / 30 for k in range(1, 30)])
    ]
    waiting = torch.arange(1, 31) * spec.frame_samples - torch.tensor(given[:-1]).cumsum(0)
    assert int(waiting.max()) <= spec.lookahead_samples < int(waiting.max()) + spec.frame_samples


@few
@given(frames=frames, seed=seeds)
def test_lookahead_is_needed(frames: int, seed: int) -> None:
    """The last frame reaches back exactly as far as stated."""
    codec = exact("three levels")
    codes = random_codes(codec.spec, frames + 12, seed)
    other = Codes([x.clone() for x in codes.levels], codes.num_samples)
    for level, n in zip(other.levels, codec.spec.codes_per_level, strict=True):
        level[:, -n:] = (level[:, -n:] + 1) % codec.spec.codebook_size
    changed = (codec.decode(codes) != codec.decode(other)).nonzero()[:, -1]
    assert int(changed.min()) == (frames + 11) * codec.spec.frame_samples - codec.spec.lookahead_samples


# ---- noise -----------------------------------------------------------------------------------------------


@few
@given(frames=frames, seed=seeds, cuts=cuts)
def test_keyed_noise_is_the_same_streamed_and_in_a_batch(frames: int, seed: int, cuts: list[float]) -> None:
    quiet = exact("windows")
    codec = copy.copy(quiet)
    codec.noise = KeyedNoise(seed)
    codes = random_codes(codec.spec, frames, seed)
    whole = codec.decode(codes)
    assert_close(stream_waveform(codec, codes, cuts), whole, 1e-12)
    twice = codec.decode(Codes([x.repeat(2, 1) for x in codes.levels], codes.num_samples * 2))
    assert torch.equal(twice, whole.repeat(2, 1, 1))
    assert not torch.allclose(whole, quiet.decode(codes), atol=1e-3)
    assert not torch.allclose(whole, codec.decode(codes, KeyedNoise(seed + 1)), atol=1e-3)


@given(seeds, st.integers(0, 3), st.integers(0, 2**40), st.integers(0, 50), st.integers(0, 50))
def test_keyed_noise_depends_on_the_position_alone(seed: int, block: int, start: int, a: int, b: int) -> None:
    noise = KeyedNoise(seed)
    assert torch.equal(noise(block, start, a + b)[a:], noise(block, start + a, b))


def test_keyed_noise_is_standard_normal_and_independent() -> None:
    size = 200_000
    draws = [KeyedNoise(s)(b, at, size) for s, b, at in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 2**32)]]
    normal = torch.distributions.Normal(0.0, 1.0)
    for x in draws:
        levels = torch.arange(1, size + 1) / size
        assert float((normal.cdf(x.sort().values) - levels).abs().max()) < 2 / size**0.5  # Kolmogorov-Smirnov
        lagged = [float((x[k:] * x[:-k]).mean()) for k in (1, 2, 3, 64)]
        squares = float((x[1:].square() * x[:-1].square()).mean()) - 1
        assert max(map(abs, [*lagged, squares / 2])) < 5 / size**0.5
    for i, x in enumerate(draws):
        for y in draws[:i]:
            assert abs(float((x * y).mean())) < 5 / size**0.5


def test_noise_options() -> None:
    codec = SNACCodec.from_config(CONFIGS["three levels"], noise="keyed", noise_seed=3)
    codes = random_codes(codec.spec, 2, 0)
    assert torch.equal(codec.decode(codes), codec.decode(codes, KeyedNoise(3)))
    with pytest.raises(ConfigError, match="'loud', wanted 'off' or 'keyed'"):
        SNACCodec.from_config(CONFIGS["three levels"], noise="loud")  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="block 0 has 7 values, decoding needs"):
        codec.decode(codes, GivenNoise([torch.zeros(7)] * 2))
    with pytest.raises(CodecError, match="given for 1 blocks"):
        codec.decode(codes, GivenNoise([torch.zeros(10**4)]))


# ---- the plain network and packed weights ----------------------------------------------------------------


def test_weight_norm_kept_gives_the_same_and_trains() -> None:
    torch.manual_seed(0)
    kept = SNACCodec.from_config(CONFIGS["windows"], weight_norm=True)
    folded = copy.deepcopy(kept)
    folded.load_state_dict(kept.state_dict())
    codes = random_codes(kept.spec, 4, 0)
    before = kept.decode(codes)
    assert_close(before, plain_decode(folded, codes))
    kept.decoder(kept.quantizer.embed(codes.levels).transpose(1, 2), KeyedNoise(0)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in kept.decoder.parameters())
    torch.optim.SGD(kept.decoder.parameters(), 0.1).step()
    assert_close(
        kept.decode(codes), plain_decode(kept, codes)
    )  # a step of training repacks the stream's weights
    assert not torch.allclose(kept.decode(codes), before, atol=1e-4)


def test_lower_precision_changes_nothing_or_is_refused() -> None:
    codec = tiny_snac("windows")
    wave = random_wave(400, 0)
    codes = codec.encode(wave)
    audio = codec.decode(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_codes(codec.encode(wave), codes)
        assert torch.equal(codec.decode(codes), audio)
    with pytest.raises(CodecError, match=r"bfloat16.*float32"):
        copy.deepcopy(codec).bfloat16().encode(wave)


def test_streams_do_not_share_state() -> None:
    codec = tiny_snac("windows")
    codes, other = random_codes(codec.spec, 12, 0), random_codes(codec.spec, 12, 1)
    first, second = codec.stream_decoder(), codec.stream_decoder()
    out = []
    for k in range(12):
        out.append(first.push(frames_of(codes, codec.spec, k, k + 1)))
        second.push(frames_of(other, codec.spec, k, k + 1))
    assert_close(torch.cat([*out, first.flush()], -1), codec.decode(codes))


def test_the_end_of_a_stream_must_fit() -> None:
    codec = tiny_snac()
    size = codec.spec.frame_samples
    stream = codec.stream_decoder()
    given = stream.push(random_codes(codec.spec, 20, 0)).shape[-1]
    for wrong in (given - 1, 20 * size + 1):
        with pytest.raises(CodecError, match=f"at {wrong} samples"):
            stream.flush(wrong)
    assert stream.flush(20 * size - 3).shape[-1] == 20 * size - 3 - given
    with pytest.raises(CodecError, match="one item"):
        codec.stream_decoder().push(
            Codes([x.repeat(2, 1) for x in random_codes(codec.spec, 1, 0).levels], [1, 1])
        )
    with pytest.raises(CodecError, match=r"\[1, 1, s\]"):
        codec.stream_encoder().push(torch.zeros(2, 1, 10))
    with pytest.raises(CodecError, match="not finite"):
        codec.stream_encoder().push(torch.full((1, 1, 4), torch.inf))


# ---- full sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "frame", "legal", "per_frame", "tokens_per_second"),
    [
        ("snac_24khz", 19_842_914, 2048, 2048, 7, 82.03),
        ("snac_32khz", 54_546_338, 3072, 12288, 15, 156.25),
        ("snac_44khz", 54_546_338, 3072, 12288, 15, 215.33),
    ],
)
def test_published_sizes(
    name: str, parameters: int, frame: int, legal: int, per_frame: int, tokens_per_second: float
) -> None:
    with torch.device("meta"):
        codec = SNACCodec.from_config(PUBLISHED[name], name=name, weight_norm=True)
    spec = codec.spec
    assert sum(p.numel() for p in codec.parameters()) == parameters
    assert (spec.frame_samples, spec.pad_to_frames * frame, spec.codes_per_frame) == (frame, legal, per_frame)
    assert spec.tokens_per_second == pytest.approx(tokens_per_second, abs=0.005)
    assert SNACConfig.from_dict(codec.config.to_dict()) == codec.config
    buffers = [k for k in codec.state_dict() if k.endswith("rel_pos.inv_freq")]
    assert len(buffers) == (0 if name == "snac_24khz" else 2)


def test_24_khz_looks_ahead_198_ms() -> None:
    config = PUBLISHED["snac_24khz"]
    assert config.decoder_lookahead_samples == config.encoder_lookahead_samples == 4757


@pytest.mark.parametrize("name", ["snac_24khz", pytest.param("snac_32khz", marks=pytest.mark.slow)])
def test_full_size_streams_are_exact(name: str) -> None:
    torch.manual_seed(0)
    codec = SNACCodec.from_config(PUBLISHED[name])
    codes = random_codes(codec.spec, 8, 0)
    wanted = plain_decode(codec, codes)
    assert_close(codec.decode(codes), wanted)
    assert_close(stream_waveform(codec, codes, [k / 8 for k in range(1, 8)]), wanted)
    wave = random_wave(5 * codec.spec.frame_samples + 7, 0)
    assert_same_codes(stream_codes(codec, wave, [0.1, 0.5, 0.51]), codec.encode(wave))
