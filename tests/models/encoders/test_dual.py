"""Two encoders side by side: each stream is what its encoder gives alone, in its place in time and width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.goldens.discovery import golden_folders, label
from torch import Tensor

from vivavoce.audio.features import LogMel
from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models import ENCODERS
from vivavoce.models.config import build_part
from vivavoce.models.encoders.dual import DualEars, DualEarsConfig

WHISPER = {
    "type": "whisper",
    "model": {
        "num_mel_bins": 8,
        "max_source_positions": 50,
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
    },
}
PADDED = {**WHISPER, "pad_to_longest": True}
WAVES = {
    "type": "huggingface",
    "model": {
        "model_type": "wavlm",
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [8, 8],
        "conv_stride": [20, 16],  # 50 Hz
        "conv_kernel": [40, 16],
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    },
}
CTC = {
    "type": "mel_ctc",
    "vocab_size": 5,
    "num_mels": 8,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_layers": 1,
    "num_heads": 2,
}
PAIRS = {"speech and sound": (PADDED, WAVES), "unpadded": (WHISPER, WAVES), "two by log-mel": (CTC, PADDED)}


def _ears(first: dict[str, Any], second: dict[str, Any], **fields: Any) -> DualEars:
    ears = DualEars(DualEarsConfig(first=first, second=second, **fields)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in ears.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2 + gain)
    return ears


def _clips(lengths: list[int], filler: float = 5.0) -> tuple[Tensor, Tensor]:
    wave = 0.3 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1))
    for row, n in zip(wave, lengths, strict=True):
        row[n:] = filler
    return wave, torch.tensor(lengths)


@pytest.mark.parametrize("pair", list(PAIRS))
@settings(max_examples=6, deadline=None)
@given(lengths=st.lists(st.integers(200, 16000), min_size=1, max_size=3))
@torch.no_grad()
def test_a_batch_equals_each_alone(pair: str, lengths: list[int]) -> None:
    ears, (wave, sizes) = _ears(*PAIRS[pair]), _clips(lengths)
    states, frames = ears(wave, sizes)
    assert frames.shape == (len(lengths), 2) and frames.tolist() == ears.num_frames(sizes).tolist()
    assert states.shape == (len(lengths), int(frames.max()), ears.hidden_size)
    width = ears.streams[0]
    for i, n in enumerate(lengths):
        alone, count = ears(wave[i : i + 1, :n], sizes[i : i + 1])
        assert count[0].tolist() == frames[i].tolist()
        for stream, k in ((slice(0, width), 0), (slice(width, None), 1)):
            f = int(frames[i, k])
            torch.testing.assert_close(states[i, :f, stream], alone[0, :f, stream], rtol=0, atol=1e-4)
            assert not states[i, f:, stream].any() and not alone[0, f:, stream].any()


@torch.no_grad()
def test_each_stream_is_its_encoders_own() -> None:
    ears, (wave, lengths) = _ears(PADDED, WAVES), _clips([9001, 16000], filler=0.0)
    states, frames = ears(wave, lengths)
    speech, _ = ears.first(*LogMel(8, "hop", multiple=100)(wave, lengths))
    sound, counts = ears.second(wave, lengths)
    torch.testing.assert_close(states[:, : speech.shape[1], :16], speech)
    torch.testing.assert_close(states[:, : sound.shape[1], 16:], sound)
    assert frames.tolist() == [[50, int(counts[0])], [50, int(counts[1])]]
    assert (ears.streams, ears.hidden_size, ears.takes) == ((16, 12), 28, "waveform")


@torch.no_grad()
def test_log_mel_settings_can_be_given() -> None:
    wave, lengths = _clips([9001])
    plain, given_ = (
        _ears(WHISPER, WAVES),
        _ears(WHISPER, WAVES, features={"num_mels": 8, "ending": "reflect"}),
    )
    assert plain.num_frames(lengths)[0, 0] == 29 and given_.num_frames(lengths)[0, 0] == 28  # of 57 and 56
    with pytest.raises(ModelError, match="8 mel bins"):
        _ears(WHISPER, WAVES, features={"num_mels": 9})(wave, lengths)


def test_the_shorter_limit_holds() -> None:
    assert _ears(PADDED, WAVES).longest == 16000
    assert _ears(PADDED, {**WAVES, "longest_samples": 9000}).longest == 9000
    assert _ears(CTC, {**WAVES, "longest_samples": None}).longest is None


def test_reference_padding_reaches_both() -> None:
    ears = _ears(WHISPER, WAVES)
    assert ears.reference_padding is False
    ears.reference_padding = True
    assert ears.first.reference_padding and ears.second.reference_padding and ears.reference_padding


def test_a_dual_in_a_dual_has_three_streams() -> None:
    ears = _ears({"type": "dual", "first": PADDED, "second": WAVES}, CTC)
    wave, lengths = _clips([3000, 5000])
    states, frames = ears(wave, lengths)
    assert ears.streams == (16, 12, 8) and states.shape[2] == ears.hidden_size == 36
    assert frames.tolist() == ears.num_frames(lengths).tolist() and frames.shape == (2, 3)


def test_half_precision_gradients_and_the_meta_device() -> None:
    ears, (wave, lengths) = _ears(PADDED, WAVES), _clips([9001, 4000])
    states, _ = ears(wave, lengths)
    states.square().sum().backward()
    assert ears.first.encoder.conv1.weight.grad.any() and any(
        p.grad is not None and p.grad.any() for p in ears.second.parameters()
    )
    assert ears.to(torch.bfloat16)(wave, lengths)[0].dtype == torch.bfloat16
    with torch.device("meta"):
        shadow = build_part(ENCODERS, {"type": "dual", "first": PADDED, "second": WAVES}, "audio_in.encoder")
    assert shadow.num_frames(lengths).tolist() == ears.num_frames(lengths).tolist()
    assert {name.partition(".")[0] for name in shadow.state_dict()} == {"first", "second"}


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"first.type is missing; second.type is missing"):
        DualEarsConfig(first={}, second={})
    with pytest.raises(ConfigError, match=r"audio_in.encoder.second.longest is unknown"):
        DualEars(DualEarsConfig(first=WHISPER, second={**WAVES, "longest": 3}))
    with pytest.raises(ModelError, match=r"\[clips, samples\]"):
        _ears(WHISPER, WAVES)(torch.zeros(1, 8, 50), torch.tensor([50]))


def test_references_of_both_parts(tmp_path: Path) -> None:
    source = _ears(WHISPER, WAVES).first.encoder.state_dict()
    save_file({f"encoder.{k}": v + 1 for k, v in source.items()}, tmp_path / "whisper.safetensors")
    ears = _ears({**WHISPER, "ref": "whisper.safetensors"}, {**WAVES, "ref": "wavlm"})
    assert ears.references() == {"first.": "whisper.safetensors", "second.": "wavlm"}
    assert _ears(WHISPER, {**WAVES, "ref": "wavlm"}).references() == {"second.": "wavlm"}
    ears.load_reference("first.", tmp_path)
    assert all(torch.equal(v, source[k] + 1) for k, v in ears.first.encoder.state_dict().items())
    with pytest.raises(ModelError, match=r"'third.'; there are first., second."):
        ears.load_reference("third.")


def _golden_cases() -> list[Any]:
    found = [(f, p) for f in golden_folders("salmonn") for p in sorted(f.glob("whole/train_s*.safetensors"))]
    return [pytest.param(p, id=f"{label(f)}-{p.stem}") for f, p in found]


@pytest.mark.parametrize("path", _golden_cases())
@torch.no_grad()
def test_both_streams_equal_salmonns(path: Path) -> None:
    goldens, config = load_file(path), json.loads((path.parent / "config.json").read_text())
    from vivavoce.models.encoders.beats import BeatsConfig

    beats = BeatsConfig.from_official(config["beats"])
    ears = DualEars(
        DualEarsConfig(
            first={"type": "whisper", "model": config["whisper"], "pad_to_longest": True},
            second={"type": "beats", **{k: getattr(beats, k) for k in config["beats"] if hasattr(beats, k)}},
        )
    ).eval()
    ears.first.encoder.load_state_dict(load_file(path.parent / "whisper_encoder.safetensors"))
    ears.second.load_state_dict(load_file(path.parent / "beats.safetensors"))
    ears.reference_padding = True
    wave = goldens["raw_wav"]
    silent = goldens.get("sample_padding_mask", torch.zeros_like(wave, dtype=torch.bool)).bool()
    states, frames = ears(wave, (~silent).sum(1))
    speech, sound = goldens["whisper_out"], goldens["beats_out"]
    assert frames.tolist() == [[speech.shape[1], sound.shape[1]]] * len(wave)
    width = speech.shape[2]
    torch.testing.assert_close(states[..., :width], speech, rtol=0, atol=1e-4)
    torch.testing.assert_close(states[:, : sound.shape[1], width:], sound, rtol=0, atol=1e-4)
