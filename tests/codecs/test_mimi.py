"""Mimi: codes and audio of transformers' model, alone, in batches and in streams; folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.codecs.any_codec import assert_close, assert_same_codes, stream_codes, stream_waveform
from tests.codecs.causal_cases import MIMI, cuts, noise, same_examples, seeds, tiny_mimi

from vivavoce.base.errors import CheckpointError, CodecError, ConfigError
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.mimi import MimiCodec

lengths = st.integers(1, 1500)  # up to 32 frames, 63 positions: ten windows


def random_codes(frames: int, seed: int, samples: int) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    return Codes(list(torch.randint(0, 64, (4, 1, frames), generator=generator)), [samples])


@same_examples
@given(lengths, seeds, cuts)
def test_stream_encode_equals_encode(num_samples: int, seed: int, cuts: list[float]) -> None:
    codec, waveform = tiny_mimi(), noise(num_samples, seed)
    assert_same_codes(stream_codes(codec, waveform, cuts), codec.encode(waveform))


@given(st.integers(1, 40), st.integers(0, 47), seeds, cuts)
def test_stream_decode_equals_decode(frames: int, missing: int, seed: int, cuts: list[float]) -> None:
    codec, codes = tiny_mimi(), random_codes(frames, seed, frames * 48 - missing)
    assert_close(stream_waveform(codec, codes, cuts), codec.decode(codes), 1e-5)


@same_examples
@given(lengths, seeds)
def test_codes_and_audio_are_those_of_transformers(num_samples: int, seed: int) -> None:
    codec, waveform = tiny_mimi(), noise(num_samples, seed)
    codes = codec.encode(waveform)
    wanted = codec.model.encode(waveform, num_quantizers=4).audio_codes
    assert torch.equal(torch.stack(codes.levels, dim=1), wanted)
    assert_close(codec.decode(codes), codec.model.decode(wanted).audio_values[..., :num_samples], 1e-5)


@same_examples
@given(st.lists(lengths, min_size=1, max_size=3), seeds)
def test_batch_equals_alone(lengths: list[int], seed: int) -> None:
    codec, clips = tiny_mimi(), [noise(n, seed + i) for i, n in enumerate(lengths)]
    batch = torch.full((len(lengths), 1, max(lengths)), 0.5)
    for i, clip in enumerate(clips):
        batch[i, :, : lengths[i]] = clip[0]
    codes = codec.encode(batch, lengths)
    audio = codec.decode(codes)
    for i, clip in enumerate(clips):
        alone = codec.encode(clip)
        assert_same_codes(codes.item(i, codec.spec), alone)
        assert_close(audio[i : i + 1, :, : lengths[i]], codec.decode(alone), 1e-5)
        assert not audio[i, :, lengths[i] :].any()


@same_examples
@given(lengths, seeds)
def test_long_clips_run_in_pieces_and_give_the_same(num_samples: int, seed: int) -> None:
    whole, waveform = tiny_mimi(), noise(num_samples, seed)
    pieces = MimiCodec(whole.model, 4)
    pieces.whole_clip_s = 0.25  # 288 samples, 12 positions
    wanted = whole.encode(waveform)
    assert_same_codes(pieces.encode(waveform), wanted)
    assert_close(pieces.decode(wanted), whole.decode(wanted), 1e-5)


def test_the_attention_window_matters_here() -> None:
    """Without this the streaming tests could pass with a cache that forgets or keeps too much."""
    codec, codes = tiny_mimi(), random_codes(30, 0, 30 * 48)
    wide = MimiCodec.from_config(MIMI | {"sliding_window": 250}, num_quantizers=4)
    wide.load_state_dict(codec.state_dict())
    difference = (wide.decode(codes) - codec.decode(codes)).abs()[0, 0]
    assert difference[: 3 * 48].max() < 1e-5 * codec.decode(codes).abs().max()
    assert difference[20 * 48 :].max() > 1e-2 * codec.decode(codes).abs().max()


def test_a_frame_comes_with_its_last_sample_and_is_heard_at_once() -> None:
    codec = tiny_mimi()
    assert codec.start_frames == 1
    encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
    assert [encoder.push(noise(n, n)).levels[0].shape[1] for n in (47, 1, 48, 96, 47)] == [0, 1, 1, 2, 0]
    assert [decoder.push(random_codes(n, n, 48 * n)).shape[-1] for n in (1, 1, 3)] == [48, 48, 144]


@same_examples
@given(lengths, seeds)
def test_fewer_levels_are_the_first_ones(num_samples: int, seed: int) -> None:
    codec, waveform = tiny_mimi(), noise(num_samples, seed)
    first = MimiCodec(codec.model, num_quantizers=1).encode(waveform)
    assert torch.equal(first.levels[0], codec.encode(waveform).levels[0])


def test_codewords_follow_the_model_when_it_moves() -> None:
    codec = MimiCodec.from_config(MIMI, num_quantizers=4)
    codec.encode(noise(100, 0))  # the model now keeps codewords outside its buffers
    moved = codec.to("meta")
    assert all(layer.codebook.embed.is_meta for layer in _codebooks(moved))


def _codebooks(codec: MimiCodec) -> list[torch.nn.Module]:
    return list(codec.model.quantizer.acoustic_residual_vector_quantizer.layers)


def test_published_sizes() -> None:
    with torch.device("meta"):
        from transformers import MimiConfig, MimiModel

        codec = MimiCodec(MimiModel(MimiConfig()))
    spec = codec.spec
    assert (spec.sample_rate, spec.frame_samples, spec.num_levels, spec.codebook_size) == (
        24000,
        1920,
        8,
        2048,
    )
    assert (spec.frame_rate_hz, spec.tokens_per_second) == (12.5, 100.0)


def test_bad_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_quantizers is 7, wanted 1 to 6"):
        MimiCodec.from_config(MIMI, num_quantizers=7)
    with pytest.raises(CodecError, match="2 channels"):
        MimiCodec.from_config(MIMI | {"audio_channels": 2})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_mimi().model.save_pretrained(tmp_path / "mimi")
    return tmp_path / "mimi"


def test_folder_gives_the_same_codec(folder: Path) -> None:
    codec, waveform = MimiCodec.from_folder(folder, num_quantizers=4), noise(700, 0)
    assert_same_codes(codec.encode(waveform), tiny_mimi().encode(waveform))
    assert len(codec.spec.weights) == 16


def test_a_missing_tensor_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in sorted(tensors) if "o_proj" in n)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: .*o_proj"):
        MimiCodec.from_folder(folder)
