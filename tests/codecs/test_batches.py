"""Many clips at once: the codes of each alone, whatever its company; doubt goes to the plain encoder."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codecs.any_codec import assert_same_codes
from tests.codecs.causal_cases import ENCODEC, noise, tiny_encodec, tiny_mimi
from torch import Tensor

from vivavoce.codecs import encodec_batches
from vivavoce.codecs.batches import LengthBatches, clip_encoder
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.encodec import EncodecCodec
from vivavoce.codecs.encodec_batches import EncodecBatches
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig

FRAME = 8  # samples, of the tiny EnCodec
SHAPES: dict[str, dict[str, Any]] = {
    "as published": {},
    "three blocks, dilated": {"num_residual_layers": 3, "dilation_growth_rate": 3},
    "zeros at the ends": {"pad_mode": "constant"},
    "ends repeated": {"pad_mode": "replicate"},
    "no shortcut": {"use_conv_shortcut": False},
    "odd strides": {"upsampling_ratios": [5, 3, 2], "sampling_rate": 3000},
}
few = settings(max_examples=12, derandomize=True)


@functools.cache
def encodec(shape: str) -> EncodecCodec:
    return EncodecCodec.from_config({**ENCODEC, **SHAPES[shape]}, bandwidth=2.4)


def tiny_nano() -> NanoCodec:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=32)).eval()


def clip(num_samples: int, seed: int) -> Tensor:
    return noise(num_samples, seed)[0, 0]


def assert_as_alone(codec: Codec, clips: list[Tensor], found: list[Any]) -> None:
    assert len(found) == len(clips)
    for one, codes in zip(clips, found, strict=True):
        assert_same_codes(codes, codec.encode(one[None, None]))


@few
@given(
    st.sampled_from(list(SHAPES)), st.lists(st.integers(1, 900), min_size=1, max_size=9), st.integers(0, 99)
)
def test_encodec_gives_the_codes_of_each_clip_alone(shape: str, lengths: list[int], seed: int) -> None:
    codec = encodec(shape)
    clips = [clip(n, seed + i) for i, n in enumerate(lengths)]
    encoder = EncodecBatches(codec, piece_s=0.2, rows=4)
    assert_as_alone(codec, clips, encoder.encode(clips))
    assert 0 < encoder.reach < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_are_the_whole(shape: str) -> None:
    codec = encodec(shape)
    encoder, frame = EncodecBatches(codec, piece_s=0.14), codec.spec.frame_samples
    plain = torch.nn.Sequential(*list(codec.model.encoder.layers)[: len(encoder.before) + 1])
    with torch.inference_mode():
        for samples in (12 * frame, 40 * frame + 1, 60 * frame - 1):
            wave = clip(samples, samples)
            wanted = plain(wave[None, None])[0].T
            torch.testing.assert_close(
                encoder._features(wave), wanted, rtol=0, atol=2e-7 * float(wanted.abs().max())
            )


def test_latents_do_not_depend_on_company() -> None:
    wide = EncodecCodec.from_config(
        {**ENCODEC, "num_filters": 64}, bandwidth=2.4
    )  # sums long enough to be reordered
    encoder = EncodecBatches(wide, piece_s=0.2)
    clips = [clip(n, n) for n in (96, 97, 200, 201, 350, 600, 601)]
    with torch.inference_mode():
        together = encoder._latents(clips)
        for i, one in enumerate(clips):
            assert torch.equal(encoder._latents([one])[0], together[i])
            for company in ([one, clips[-1]], [one, one, clips[-1]]):
                found = encoder._latents(company)
                assert torch.equal(found[0], together[i]) and torch.equal(found[-1], together[-1])


def test_most_clips_go_together() -> None:
    encoder = EncodecBatches(tiny_encodec())
    clips = [clip(200 + 10 * i, i) for i in range(20)]
    encoder.encode(clips)
    assert encoder.alone <= 2
    encoder.encode([*clips, clip(11 * FRAME, 0), clip(12 * FRAME, 1)])
    assert encoder.alone <= 4


def test_too_long_and_too_short_clips_go_alone() -> None:
    whole = tiny_encodec()
    codec = EncodecCodec(whole.model, 2.4)
    codec.whole_clip_s = 0.5
    clips = [clip(n, n) for n in (1, 7, 95, 399, 400, 401, 900)]
    encoder = EncodecBatches(codec)
    assert_as_alone(whole, clips, encoder.encode(clips))
    assert encoder.alone == 5


def test_what_rounding_may_decide_is_decided_by_the_plain_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny_encodec()
    clips = [clip(300 + i, i) for i in range(6)]
    encoder = EncodecBatches(codec)
    encoder.reach = 1e9
    assert_as_alone(codec, clips, encoder.encode(clips))
    assert encoder.alone == 6
    monkeypatch.setattr(encodec_batches, "SAFETY", 0.0)
    encoder = EncodecBatches(codec)
    assert encoder.reach == 0.0 and encoder.alone == 0
    latents = codec.whole_latents(clips[0][None, None])
    codes = codec.quantize(latents)[:, 0]
    assert encoder._is_sure(latents[0].T, codes)
    # half way between the two codewords that are nearest, to the sixth digit
    book = encoder.codebooks[0]
    first = torch.cdist(latents[0, :, :1].T, book)[0].topk(2, largest=False).indices
    middle = book[first].mean(dim=0, keepdim=True)
    nearest = torch.cdist(middle, book)[0].topk(3, largest=False)
    assert set(nearest.indices[:2].tolist()) == set(first.tolist())
    encoder.codebooks = [book]
    for share, sure in ((0.0, False), (1e-8, False), (0.05, True)):
        x = middle + share * (book[nearest.indices[0]] - middle)
        assert encoder._is_sure(x, nearest.indices[None, :1]) is sure, share


def test_a_silent_clip_beside_others() -> None:
    codec = tiny_encodec()
    clips = [torch.zeros(500), clip(800, 1), torch.zeros(96)]
    assert_as_alone(codec, clips, EncodecBatches(codec).encode(clips))


@pytest.mark.parametrize("make", [tiny_mimi, tiny_nano, tiny_encodec])
def test_any_codec(make: Any) -> None:
    codec = make()
    clips = [clip(n, n) for n in (5000, 1, 700, 5000, 12_345, 699, 4096)]
    assert_as_alone(codec, clips, clip_encoder(codec)(clips))
    assert clip_encoder(codec)([]) == []


def test_batches_hold_neighbours_and_no_more_than_allowed() -> None:
    batches = LengthBatches(tiny_nano(), max_batch_s=1.0)  # 24,000 samples
    lengths = [5000, 100, 6000, 90_000, 5000, 120, 5900]
    assert batches.batches(lengths) == [[1, 5, 0, 4], [6, 2], [3]]
    assert batches.batches([]) == []
