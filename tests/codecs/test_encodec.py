"""EnCodec: codes of transformers' model, alone, in batches, in streams and in pieces; folders good and bad."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.codecs.any_codec import assert_close, assert_same_codes, stream_codes, stream_waveform
from tests.codecs.causal_cases import ENCODEC, cuts, noise, same_examples, seeds, tiny_encodec
from transformers import EncodecConfig, EncodecModel

from vivavoce.base.errors import CheckpointError, CodecError, ConfigError, SessionError
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.encodec import EncodecCodec

lengths = st.integers(1, 600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it, weight norm and all."""
    path = tmp_path_factory.mktemp("encodec")
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**ENCODEC))
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(0, 0.02)
    model.save_pretrained(path)
    return path


def damaged(folder: Path, to: Path, **config: object) -> Path:
    """Copy a folder with other config values."""
    values = json.loads((folder / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps(values))
    (to / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    return to


@same_examples
@given(lengths, seeds, cuts)
def test_stream_encode_equals_encode(num_samples: int, seed: int, cuts: list[float]) -> None:
    codec, waveform = tiny_encodec(), noise(num_samples, seed)
    assert_same_codes(stream_codes(codec, waveform, cuts), codec.encode(waveform))


@given(st.integers(1, 80), st.integers(0, 7), seeds, cuts)
def test_stream_decode_equals_decode(frames: int, missing: int, seed: int, cuts: list[float]) -> None:
    codec = tiny_encodec()
    generator = torch.Generator().manual_seed(seed)
    levels = list(torch.randint(0, 64, (4, 1, frames), generator=generator))
    codes = Codes(levels, [frames * 8 - missing])
    assert_close(stream_waveform(codec, codes, cuts), codec.decode(codes), 1e-5)


@same_examples
@given(st.lists(lengths, min_size=1, max_size=4), seeds)
def test_batch_equals_alone(lengths: list[int], seed: int) -> None:
    codec, clips = tiny_encodec(), [noise(n, seed + i) for i, n in enumerate(lengths)]
    batch = torch.full((len(lengths), 1, max(lengths)), 0.5)  # what lies after an item's end must not matter
    for i, clip in enumerate(clips):
        batch[i, :, : lengths[i]] = clip[0]
    codes = codec.encode(batch, lengths)
    audio = codec.decode(codes)
    for i, clip in enumerate(clips):
        alone = codec.encode(clip)
        assert_same_codes(codes.item(i, codec.spec), alone)
        assert_close(audio[i : i + 1, :, : lengths[i]], codec.decode(alone), 1e-5)
        assert not audio[i, :, lengths[i] :].any()
        assert not any(level[i, alone.levels[0].shape[1] :].any() for level in codes.levels)


@same_examples
@given(lengths, seeds)
def test_codes_and_audio_are_those_of_transformers(num_samples: int, seed: int) -> None:
    codec, waveform = tiny_encodec(), noise(num_samples, seed)
    codes = codec.encode(waveform)
    wanted = codec.model.encode(waveform, bandwidth=2.4).audio_codes
    assert torch.equal(torch.stack(codes.levels, dim=1), wanted[0])
    audio = codec.model.decode(wanted, [None]).audio_values
    assert_close(codec.decode(codes), audio[..., :num_samples], 1e-5)


@same_examples
@given(st.integers(7, 40), seeds)
def test_codes_of_a_prefix_are_final_from_the_start_on(frames: int, seed: int) -> None:
    codec, waveform = tiny_encodec(), noise(400, seed)
    assert codec.start_frames == 7
    whole = torch.stack(codec.encode(waveform).levels)
    assert torch.equal(torch.stack(codec.encode(waveform[..., : 8 * frames]).levels), whole[..., :frames])


def test_codes_of_a_shorter_prefix_are_not_final() -> None:
    codec, waveform = tiny_encodec(), noise(400, 1)
    whole = torch.stack(codec.encode(waveform).levels)
    assert not torch.equal(torch.stack(codec.encode(waveform[..., :48]).levels), whole[..., :6])


def test_stream_waits_for_seven_frames_then_gives_one_at_a_time() -> None:
    codec = tiny_encodec()
    encoder = codec.stream_encoder()
    given = [encoder.push(noise(8, i)).levels[0].shape[1] for i in range(10)]
    assert given == [0, 0, 0, 0, 0, 0, 7, 1, 1, 1]
    decoder, frame = codec.stream_decoder(), Codes([torch.ones(1, 1, dtype=torch.long)] * 4, [8])
    assert [decoder.push(frame).shape[-1] for _ in range(9)] == [0, 0, 0, 0, 0, 0, 56, 8, 8]


@same_examples
@given(st.integers(1, 1500), seeds, st.sampled_from([3, 50]))
def test_long_clips_run_in_pieces_and_give_the_same(num_samples: int, seed: int, frames: int) -> None:
    whole, waveform = tiny_encodec(), noise(num_samples, seed)
    pieces = EncodecCodec(whole.model, 2.4)
    pieces.whole_clip_s = frames / 100
    wanted = whole.encode(waveform)
    assert_same_codes(pieces.encode(waveform), wanted)
    assert_close(pieces.decode(wanted), whole.decode(wanted), 1e-5)


def test_no_piece_is_longer_than_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, seen, convolve = tiny_encodec(), [], torch.nn.functional.conv1d

    def watch(x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(x.shape[-1])
        return convolve(x, *rest)

    monkeypatch.setattr(torch.nn.functional, "conv1d", watch)
    codec.encode(noise(70 * 800, 0))
    assert 29 * 800 < max(seen) < 31 * 800


@same_examples
@given(st.lists(st.sampled_from([64, 100]), min_size=2, max_size=6), seeds)
def test_grouping_equal_lengths_changes_nothing(lengths: list[int], seed: int) -> None:
    codec = EncodecCodec(tiny_encodec().model, 2.4)
    codec.group_equal_lengths = True
    batch = torch.cat([noise(100, seed + i) for i in range(len(lengths))])
    assert_same_codes(codec.encode(batch, lengths), tiny_encodec().encode(batch, lengths))


@same_examples
@given(lengths, seeds)
def test_a_lower_bandwidth_gives_the_first_levels(num_samples: int, seed: int) -> None:
    high, low = tiny_encodec(), EncodecCodec(tiny_encodec().model, 1.2)
    waveform = noise(num_samples, seed)
    assert low.spec.num_levels == 2
    assert torch.equal(
        torch.stack(low.encode(waveform).levels), torch.stack(high.encode(waveform).levels[:2])
    )


def test_codes_can_be_embedded_in_training() -> None:
    codes = tiny_encodec().encode(noise(100, 0))
    torch.nn.Embedding(64, 4)(codes.levels[0]).sum().backward()


def test_weights_must_be_float32() -> None:
    codec = EncodecCodec.from_config(ENCODEC).to(torch.bfloat16)
    with pytest.raises(CodecError, match=r"bfloat16.*float32"):
        codec.encode(noise(100, 0))


def test_the_48_khz_kind_is_refused() -> None:
    stereo = {
        "sampling_rate": 48000,
        "audio_channels": 2,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "normalize": True,
    }
    with pytest.raises(CodecError, match=r"48000 Hz.*2 channels.*chunks of 1.*encodec_24khz"):
        EncodecCodec.from_config(ENCODEC | stereo)
    with pytest.raises(CodecError, match="non-causal"):
        EncodecCodec.from_config(ENCODEC | {"use_causal_conv": False})


def test_an_unknown_bandwidth_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"6 kbit/s.*1\.2, 2\.4"):
        EncodecCodec.from_config(ENCODEC, bandwidth=6)


def test_streams_refuse_misuse() -> None:
    codec = tiny_encodec()
    encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
    with pytest.raises(CodecError, match=r"\[1, 1, s\]"):
        encoder.push(torch.zeros(2, 1, 8))
    assert encoder.flush().num_samples == [0]
    assert decoder.flush().shape == (1, 1, 0)
    for call in (lambda: encoder.push(noise(8, 0)), encoder.flush, decoder.flush):
        with pytest.raises(SessionError, match="flushed"):
            call()
    decoder = codec.stream_decoder()
    assert decoder.push(Codes([torch.zeros(1, 10, dtype=torch.long)] * 4, [80])).shape[-1] == 80
    with pytest.raises(CodecError, match=r"80 samples.*77"):
        decoder.flush(77)


def test_a_stream_can_be_given_its_length_at_the_end() -> None:
    codec, codes = tiny_encodec(), tiny_encodec().encode(noise(100, 0))
    decoder = codec.stream_decoder()
    parts = [decoder.push(Codes(codes.levels, [0])), decoder.flush(100)]
    assert parts[0].shape[-1] == 0
    assert_close(torch.cat(parts, dim=-1), codec.decode(codes), 1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_must_be_finite(value: float) -> None:
    codec, waveform = tiny_encodec(), noise(100, 0)
    waveform[0, 0, 70] = value
    with pytest.raises(CodecError, match="not finite"):
        codec.encode(waveform)
    with pytest.raises(CodecError, match="not finite"):
        codec.stream_encoder().push(waveform)
    assert codec.encode(waveform, [70]).num_samples == [70]  # what lies after the end does not matter


def test_stated_length_must_fit_the_codes() -> None:
    with pytest.raises(CodecError, match=r"81 samples, 11 frames.*10"):
        tiny_encodec().decode(Codes([torch.zeros(1, 10, dtype=torch.long)] * 4, [81]))


# ---- folders -------------------------------------------------------------------------------------------


def test_folder_gives_the_codes_of_transformers(folder: Path) -> None:
    codec = EncodecCodec.from_folder(folder, bandwidth=2.4)
    model = EncodecModel.from_pretrained(folder)
    waveform = noise(333, 3)
    wanted = model.encode(waveform, bandwidth=2.4).audio_codes[0]
    assert torch.equal(torch.stack(codec.encode(waveform).levels, dim=1), wanted)
    assert len(codec.spec.weights) == 16


def test_a_saved_codec_loads_to_the_same_numbers(tmp_path: Path) -> None:
    codec, waveform = tiny_encodec(), noise(300, 0)
    codec.save(tmp_path)
    again = EncodecCodec.from_folder(tmp_path, 2.4)
    wanted = codec.encode(waveform)
    assert_same_codes(again.encode(waveform), wanted)
    assert_close(again.decode(wanted), codec.decode(wanted), 1e-5)


def test_older_names_of_weight_norm_load(folder: Path, tmp_path: Path) -> None:
    damaged(folder, tmp_path)
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    (tmp_path / "model.safetensors").unlink()
    torch.save(renamed, tmp_path / "pytorch_model.bin")
    old, new = EncodecCodec.from_folder(tmp_path), EncodecCodec.from_folder(folder)
    assert_same_codes(old.encode(noise(200, 0)), new.encode(noise(200, 0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layers.0.conv.bias"), r"missing: encoder\.layers\.0\.conv\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected: extra"),
        (
            lambda t: t.update({"encoder.layers.0.conv.bias": torch.zeros(7)}),
            r"wrong shape: encoder\.layers\.0\.conv\.bias \[7\] for \[4\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    folder: Path, tmp_path: Path, change: object, message: str
) -> None:
    damaged(folder, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        EncodecCodec.from_folder(tmp_path)


def test_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        EncodecCodec.from_folder(tmp_path / "absent")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        EncodecCodec.from_folder(tmp_path)
    damaged(folder, tmp_path, hidden_size="wide")
    with pytest.raises(CheckpointError, match="hidden_size"):
        EncodecCodec.from_folder(tmp_path)
    damaged(folder, tmp_path, model_type="mimi")
    with pytest.raises(CodecError, match=r"'mimi', wanted 'encodec'"):
        EncodecCodec.from_folder(tmp_path)
    damaged(folder, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        EncodecCodec.from_folder(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"no weights: wanted model\.safetensors"):
        EncodecCodec.from_folder(tmp_path)


class Touch:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_never_run(folder: Path, tmp_path: Path) -> None:
    damaged(folder, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"encoder.layers.0.conv.bias": Touch(tmp_path / "was_run")}, file)
    with pytest.raises(CheckpointError):
        EncodecCodec.from_folder(tmp_path)
    torch.save({"encoder.layers.0.conv.bias": Touch(tmp_path / "was_run")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        EncodecCodec.from_folder(tmp_path)
    assert not (tmp_path / "was_run").exists()
