"""SNAC folders: both published forms, exact round trips, and faults named in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.codecs.any_codec import assert_same_codes, random_codes, random_wave
from tests.codecs.snac_cases import CONFIGS, scramble, tiny_snac
from torch import Tensor

from vivavoce.base.errors import CheckpointError, CodecError, ConfigError
from vivavoce.codecs.loading import load_codec
from vivavoce.codecs.snac import SNACCodec, SNACConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as published: a pickled state dict with weight norm."""
    torch.manual_seed(5)
    codec = SNACCodec.from_config(CONFIGS["windows"], weight_norm=True)
    with torch.no_grad():  # as after training: magnitudes are not the norms of the directions
        for name, value in codec.named_parameters():
            if name.endswith("original0"):
                value.mul_(torch.rand_like(value) + 0.5)
    path = tmp_path / "published"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIGS["windows"].to_dict()))
    torch.save(codec.state_dict(), path / "pytorch_model.bin")
    return path


@pytest.mark.parametrize("which", CONFIGS)
def test_saved_codec_reads_back_bit_for_bit(which: str, tmp_path: Path) -> None:
    codec = tiny_snac(which)
    codec.save(tmp_path)
    again = SNACCodec.from_folder(tmp_path)
    assert again.config == codec.config
    assert again.state_dict().keys() == codec.state_dict().keys()
    assert all(torch.equal(a, codec.state_dict()[k]) for k, a in again.state_dict().items())


def test_published_form_and_its_copies_have_one_name(folder: Path, tmp_path: Path) -> None:
    folded, kept = SNACCodec.from_folder(folder), SNACCodec.from_folder(folder, weight_norm=True)
    wave, codes = random_wave(500, 0), random_codes(folded.spec, 4, 0)
    names = {folded.spec.weights, kept.spec.weights}
    for i, codec in enumerate((folded, kept)):
        codec.save(tmp_path / f"copy{i}")
        again = load_codec(tmp_path / f"copy{i}")
        names.add(again.spec.weights)
        assert_same_codes(again.encode(wave), folded.encode(wave))
        assert torch.equal(again.decode(codes), folded.decode(codes))
        stored = load_file(tmp_path / f"copy{i}" / "model.safetensors")
        assert {k: v.shape for k, v in stored.items()} == {k: v.shape for k, v in kept.state_dict().items()}
    [name] = names
    assert len(name) == 16 and int(name, 16)
    assert folded.spec.name == "published"


def test_other_weights_have_another_name(folder: Path, tmp_path: Path) -> None:
    other = scramble(SNACCodec.from_folder(folder))
    other.save(tmp_path / "other")
    assert (
        SNACCodec.from_folder(tmp_path / "other").spec.weights != SNACCodec.from_folder(folder).spec.weights
    )


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("decoder.model.0.bias"), r"missing: decoder\.model\.0\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected: extra"),
        (
            lambda t: t.update({"decoder.model.0.bias": torch.zeros(7)}),
            r"wrong shape: decoder\.model\.0\.bias \[7\] for \[64\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder: Path, change: Any, message: str) -> None:
    edit(folder, change)
    with pytest.raises(CheckpointError, match=message):
        SNACCodec.from_folder(folder)


def test_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        SNACCodec.from_folder(tmp_path / "absent")
    weights = folder / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read"):
        SNACCodec.from_folder(folder)
    torch.save([1, 2], weights)
    with pytest.raises(CheckpointError, match="plain table of tensors"):
        SNACCodec.from_folder(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        SNACCodec.from_folder(folder)
    (folder / "config.json").write_text('{"vq_stride": [2, 1]}')
    with pytest.raises(CheckpointError, match=r"'vq_stride'. Did you mean 'vq_strides'\?"):
        SNACCodec.from_folder(folder)


class Touch:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_run(folder: Path, tmp_path: Path) -> None:
    torch.save({"decoder.model.0.bias": Touch(tmp_path / "was_run")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        SNACCodec.from_folder(folder)
    assert not (tmp_path / "was_run").exists()


def test_all_faults_of_a_config_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SNACConfig(24000, 5, (2, 4), 7, 30, (4, 3), 8, 64, 4, (4, 3))
    for fault in (
        "encoder_rates give 8",
        "vq_strides [4, 3]",
        "cannot be halved 2 times",
        "encoder width 20",
        "latent_dim is 7",
    ):
        assert fault in str(caught.value)
    with pytest.raises(ConfigError, match="wrong type"):
        SNACConfig.from_dict({"encoder_dim": "wide"})
    with pytest.raises(ConfigError, match="sampling_rate is 0"):
        SNACConfig(sampling_rate=0)


def test_codes_of_another_codec_are_refused() -> None:
    with pytest.raises(CodecError, match="3 levels of codes, these have 2"):
        tiny_snac("windows").decode(random_codes(tiny_snac("dense").spec, 4, 0))
