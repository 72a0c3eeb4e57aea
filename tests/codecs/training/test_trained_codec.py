"""Codecs in training: gradients through the quantizer, codebooks that start from data and come back from the dead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.codecs.any_codec import random_wave
from tests.codecs.snac_cases import CONFIGS

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.loading import load_codec
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig
from vivavoce.codecs.snac import PUBLISHED, SNACCodec
from vivavoce.codecs.training.building import build_trained, snac_config
from vivavoce.codecs.training.codebooks import Use, cluster
from vivavoce.codecs.training.crops import crop_frames, cut
from vivavoce.codecs.training.nano import TrainedNano
from vivavoce.codecs.training.snac import TrainedSNAC
from vivavoce.codecs.training.trained_codec import CodebookSettings, Pass, TrainedCodec

SETTINGS = CodebookSettings(start_batches=1, decay=0.5, dead_below=0.1, restart_every=1)
KEPT = replace(SETTINGS, restart_every=0)
GOLDEN = Path(__file__).parents[2] / "goldens" / "data" / "snac" / "tiny24"


def trained(which: str) -> TrainedCodec:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if which == "nano":
            config = NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=32)
            return TrainedNano(NanoCodec(config), SETTINGS)
        if which == "running":
            settings = replace(SETTINGS, learn="mean")
            return TrainedSNAC(SNACCodec(CONFIGS["three levels"], weight_norm=True), settings)
        return TrainedSNAC(SNACCodec(CONFIGS[which], weight_norm=True), SETTINGS)


KINDS = ("three levels", "windows", "causal", "running", "nano")


def waves(codec: TrainedCodec, seed: int, items: int = 2) -> torch.Tensor:
    size = codec.codec.spec.frame_samples * codec.codec.spec.pad_to_frames * 4
    return torch.cat([random_wave(size, seed + i) for i in range(items)])


@pytest.mark.parametrize("which", KINDS)
def test_gradients_flow_through_the_quantizer(which: str) -> None:
    codec = trained(which)
    real = waves(codec, 0)
    codec.start_codebooks([real])
    made = codec(real)
    assert made.waveform.shape == real.shape
    made.waveform.square().sum().backward()
    encoder = [p for n, p in codec.codec.named_parameters() if "encoder" in n or "stem" in n]
    assert encoder and all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder if p.dim() > 1)
    codec.zero_grad()
    (codec(real).commitment + codec(real).codebook).backward()
    if which not in ("nano", "running"):
        books = [p.grad for n, p in codec.codec.named_parameters() if "codebook" in n]
        assert all(g is not None and g.abs().sum() > 0 for g in books)


@pytest.mark.parametrize("which", KINDS)
def test_what_trains_is_what_the_codec_does(which: str, tmp_path: Path) -> None:
    """Codes of a pass in training are those of ``encode`` after the way through a folder."""
    torch.manual_seed(1)  # codewords are drawn with a little noise, and half precision cannot tell some apart
    codec = trained(which)
    real = waves(codec, 3, items=1)
    codec.start_codebooks([real])
    codec.save(tmp_path, codec.codec)
    kept = load_codec(tmp_path)
    with torch.no_grad():
        made = codec(real)
    same = [
        float((a == b.flatten()).float().mean())
        for a, b in zip(made.codes, kept.encode(real).levels, strict=True)
    ]
    assert min(same) == 1.0 if which != "nano" else min(same) > 0.9  # half precision in the folder


@pytest.mark.parametrize("which", KINDS)
def test_codebooks_start_from_data(which: str) -> None:
    codec = trained(which)
    real = waves(codec, 5, items=4)
    before = [len(codes.unique()) for codes in codec(real).codes]
    codec.start_codebooks([real])
    after = [len(codes.unique()) for codes in codec(real).codes]
    assert sum(after) > sum(before) and after[-1] > codec.codec.spec.codebook_size / 3


@pytest.mark.parametrize("which", ("three levels", "causal"))
def test_projections_start_as_principal_components(which: str) -> None:
    """What is looked up by angle points all ways, though a random encoder's latents point one way; and the decoder
    goes on with nearly the latents that it had."""
    torch.manual_seed(2)
    codec = trained(which)
    real = waves(codec, 5, items=8)
    latents = codec.latents(real).detach() + 3.0  # far from 0, as biases make them
    codec.codec.quantizer.requires_grad_(False)
    for level in range(3):
        codec._start(level, latents)
    total, _, _, codes, vectors = codec.quantize(latents)
    for found in vectors:
        away = torch.nn.functional.normalize(found, dim=-1).mean(0).norm()
        assert away < 0.5, "they point one way"
        assert float(found.square().mean()) == pytest.approx(1.0, rel=0.1)
    assert min(len(level.unique()) for level in codes) > 8
    spread = latents - latents.mean((0, 1))
    assert float((total - latents).square().mean() / spread.square().mean()) < 0.7


def test_codewords_go_with_the_middle_of_their_vectors() -> None:
    """An encoder that moves all latents one way: codes stay, and the decoder hears the way."""
    torch.manual_seed(4)
    codec = trained("three levels")
    codec.settings = KEPT
    latents = codec.latents(waves(codec, 5, items=8)).detach()
    codec.codec.quantizer.requires_grad_(False)
    for level in range(3):
        codec._start(level, latents)
    before = codec.quantize(latents)
    way = 3 * codec.codec.quantizer.levels()[0][1].out_proj.weight[:, :, 0].sum(1)  # type: ignore[index, union-attr]
    for step in range(1, 80):
        made = codec.quantize(latents + way)
        codec.follow(Pass(latents, made[1], made[2], made[3], made[4]), 2 * step)
    after = codec.quantize(latents + way)
    same = [float((a == b).float().mean()) for a, b in zip(before[3], after[3], strict=True)]
    assert min(same) > 0.95, same
    assert float(((after[0] - before[0]).mean((0, 1)) - way).norm() / way.norm()) < 0.02
    assert max(float(v.mean(0).norm()) for v in after[4]) < 0.1


def test_a_codec_that_goes_on_is_not_centred(tmp_path: Path) -> None:
    codec = trained("three levels")
    codec.save(tmp_path, codec.codec)
    assert build_trained(None, str(tmp_path), None, {}, CodebookSettings()).settings.centre == 0.0


@pytest.mark.parametrize("which", KINDS)
def test_before_codebooks_start_latents_pass_as_they_are(which: str) -> None:
    codec = trained(which)
    real = waves(codec, 6)
    codec.quantizes = False
    torch.manual_seed(3)
    made = codec(real)
    torch.manual_seed(3)
    assert torch.equal(made.waveform, codec.synthesize(codec.latents(real)).float())
    assert not made.codes and not made.vectors and codec.follow(made, 1) == 0
    assert float(made.commitment) == float(made.codebook) == 0.0
    codec.quantizes = True
    assert len(codec(real).codes) == codec.codec.spec.num_levels


def test_start_is_checked() -> None:
    with pytest.raises(ConfigError, match="from_step is -1"):
        CodebookSettings(from_step=-1)


@pytest.mark.parametrize("which", KINDS)
def test_dead_codewords_restart(which: str) -> None:
    codec = trained(which)
    real = waves(codec, 7, items=4)
    codec.start_codebooks([real])
    words = [codec.words(level) for level in range(codec.codec.spec.num_levels)]
    away = torch.nn.functional.normalize(torch.randn(words[0].shape[1]), dim=0)
    with torch.no_grad():
        for level in range(
            len(words)
        ):  # all codewords but one in one place: the one wins nothing, or everything
            words[level][1:] = away + 1e-3 * torch.randn_like(words[level][1:])
            if isinstance(codec, TrainedNano) or codec.running:
                codec._book(level).begin(words[level])
    few = [len(codes.unique()) for codes in codec(real).codes]
    restarted = 0
    for step in range(1, 12):
        with torch.no_grad():
            restarted += codec.follow(codec(real), step)
    many = [len(codes.unique()) for codes in codec(real).codes]
    assert restarted > 0
    assert sum(many) > 1.5 * sum(few), (few, many)


def test_restarting_can_be_off_and_fixed_codebooks_stay() -> None:
    codec = trained("three levels")
    real = waves(codec, 9)
    before = [codec.words(k).clone() for k in range(3)]
    for step in range(1, 20):
        assert codec.follow(codec(real), step, fixed=True) == 0
    assert all(torch.equal(a, codec.words(k)) for k, a in enumerate(before))


@pytest.mark.parametrize("which", ("running", "nano"))
def test_running_codebook_is_the_mean_of_its_vectors(which: str) -> None:
    codec = trained(which)
    codec.settings = replace(codec.settings, centre=0.0)
    real = waves(codec, 11)
    codec.start_codebooks([real])
    with torch.no_grad():
        made = codec(real)
        for step in range(1, 30):
            codec._move(0, made.vectors[0], made.codes[0], codec.use.count(0, made.codes[0]))
        code = int(made.codes[0].mode().values)
        mean = made.vectors[0][made.codes[0] == code].mean(0)
    if which == "nano":
        mean = torch.nn.functional.normalize(mean, dim=0)
    torch.testing.assert_close(codec.words(0)[code], mean, rtol=0, atol=1e-3)


def test_use_is_told() -> None:
    use = Use(1, 4)
    use.count(0, torch.tensor([0, 0, 1, 1]))
    assert use.told() == {"used/level_0": 0.5, "entropy_bits/level_0": 1.0}
    use.clear()
    assert use.told()["used/level_0"] == 0.0


def test_clusters_are_found() -> None:
    torch.manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(8, 4), dim=1)
    vectors = centres.repeat(50, 1) + 0.01 * torch.randn(400, 4)
    found = torch.nn.functional.normalize(cluster(vectors, 16, 20), dim=1)
    assert (centres @ found.t()).amax(1).min() > 0.999
    assert len(cluster(vectors[:3], 16)) == 16, "more codewords than vectors"


@pytest.mark.parametrize("which", ["three levels", "nano"])
def test_from_codes_only_the_decoder_learns(which: str) -> None:
    codec = trained(which)
    codec.choose("decoder")
    levels = codec.codec.encode(waves(codec, 13)).levels
    codec.from_codes(levels).waveform.square().sum().backward()
    learned = {n for n, p in codec.codec.named_parameters() if p.grad is not None}
    frozen = {n for n, p in codec.codec.named_parameters() if not p.requires_grad}
    assert (
        learned
        and not learned & frozen
        and learned | frozen == {n for n, _ in codec.codec.named_parameters()}
    )
    assert not any("encoder" in n or "quantizer" in n or "stem" in n for n in learned)


def test_folder_has_the_published_names(tmp_path: Path) -> None:
    """A folder of ours against one that the published package wrote: the same keys, in both files, and both load."""
    config = load_codec(GOLDEN).config
    codec = TrainedSNAC(SNACCodec(config, weight_norm=True), SETTINGS)
    codec.save(tmp_path, codec.codec)
    published = {k: v.shape for k, v in load_file(GOLDEN / "model.safetensors").items()}
    assert {k: v.shape for k, v in load_file(tmp_path / "model.safetensors").items()} == published
    pickled = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert {k: v.shape for k, v in pickled.items()} == published
    (tmp_path / "model.safetensors").unlink()
    real = random_wave(codec.codec.spec.frame_samples * 8, 15)
    again = load_codec(tmp_path).encode(real).levels
    assert all(torch.equal(a, b) for a, b in zip(again, codec.codec.encode(real).levels, strict=True))


def test_full_size_shapes() -> None:
    """From scratch at 24 kHz: as many weights as published; 32 and 44 kHz and causal are settings."""
    assert snac_config("snac_44khz", {}) == PUBLISHED["snac_44khz"]
    assert snac_config("snac_24khz", {"causal": True}).decoder_lookahead_samples == 0
    codec = SNACCodec(snac_config("snac_24khz", {}), weight_norm=True)
    assert sum(p.numel() for p in codec.parameters()) == 19_842_914


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="base is 'snac'"):
        build_trained("snac", None, "snac", {}, SETTINGS)
    with pytest.raises(ConfigError, match="start brings a codec"):
        build_trained("snac", "nano", None, {}, SETTINGS)
    with pytest.raises(ConfigError, match="causl"):
        build_trained("snac", None, "snac_24khz", {"causl": True}, SETTINGS)


def test_crops_grow_and_are_legal() -> None:
    import numpy as np

    spec = PUBLISHED["snac_44khz"].spec()
    found = [crop_frames([(0, 0.3), (10, 0.9)], step, spec) for step in (0, 9, 10, 99)]
    assert found[0] == found[1] < found[2] == found[3]
    assert all(frames % spec.pad_to_frames == 0 for frames in found)
    chance = np.random.default_rng(0)
    for length in (1, 50, 500):
        assert all(len(cut(np.ones(length, np.float32), 100, 80, chance)) == 100 for _ in range(20))
