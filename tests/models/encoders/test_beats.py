"""BEATs: a batch equals each clip alone, parts equal public formulas, and files are read without being run."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.models.tiny import text_config
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention

from vivavoce.base.errors import AudioError, CheckpointError, ConfigError, ModelError
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.encoders.beats import BeatsEncoder, linear_mask
from vivavoce.models.encoders.beats_attention import GatedAttention, PositionConv, relative_buckets
from vivavoce.models.encoders.beats_config import BeatsConfig
from vivavoce.models.encoders.beats_weights import load_beats
from vivavoce.models.speech_lm import SpeechLM

SMALL = BeatsConfig(
    embed_dim=12,
    encoder_layers=2,
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=24,
    encoder_attention_heads=2,
    conv_pos=8,
    conv_pos_groups=2,
    num_buckets=16,
    max_distance=20,
    predictor_class=5,
)
PATCH = 2800  # samples of one patch
STEP = 2560  # samples of one more


def beats(seed: int = 0, **changes: Any) -> BeatsEncoder:
    """A tiny one whose every weight is drawn, so that no zero bias or unit gain hides a fault."""
    torch.manual_seed(seed)
    encoder = BeatsEncoder(replace(SMALL, **changes))
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return encoder.eval()


def noise(samples: int, count: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(count, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


# batches


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 14_000), min_size=1, max_size=4))
def test_a_batch_equals_each_clip_alone(lengths: list[int]) -> None:
    encoder, waves = beats(), noise(max(lengths) + 300, len(lengths))
    waves[:, max(lengths) :] = torch.nan  # what lies past a clip is never heard
    for wave, length in zip(waves, lengths, strict=True):
        wave[length : max(lengths)] = 5.0
    with torch.no_grad():
        states, tokens = encoder(waves[:, : max(lengths)], torch.tensor(lengths))
        chances = encoder.class_probabilities(waves[:, : max(lengths)], torch.tensor(lengths))
        assert torch.equal(tokens, encoder.num_frames(torch.tensor(lengths)))
        for i, length in enumerate(lengths):
            frames = 1 + (max(length, PATCH) - 400) // 160
            assert int(tokens[i]) == frames // 16 * 8
            single = waves[i : i + 1, :length], torch.tensor([length])
            alone, count = encoder(*single)
            assert count.tolist() == [alone.shape[1]] == [int(tokens[i])]
            torch.testing.assert_close(states[i, : int(count)], alone[0], atol=2e-5, rtol=0)
            assert not states[i, int(count) :].any()
            torch.testing.assert_close(chances[i], encoder.class_probabilities(*single)[0], atol=1e-5, rtol=0)


def test_a_short_clip_is_lengthened_with_silence_to_one_patch() -> None:
    encoder, wave = beats(), noise(900)
    longer = nn.functional.pad(wave, (0, PATCH - 900))
    with torch.no_grad():
        states, tokens = encoder(wave, torch.tensor([900]))
        assert tokens.tolist() == [8]
        torch.testing.assert_close(states, encoder(longer, torch.tensor([PATCH]))[0], atol=0, rtol=0)
    assert encoder.num_frames(torch.tensor([1, PATCH + STEP - 1, PATCH + STEP])).tolist() == [8, 8, 16]
    with pytest.raises(AudioError, match="at least one sample"):
        encoder(wave, torch.tensor([0]))


def test_frames_that_fill_no_patch_are_left_out() -> None:
    encoder, wave = beats(), noise(PATCH + STEP - 1)
    with torch.no_grad():
        whole, _ = encoder(wave, torch.tensor([wave.shape[1]]))
        patch, _ = encoder(wave[:, :PATCH], torch.tensor([PATCH]))
    torch.testing.assert_close(whole, patch, atol=1e-6, rtol=0)


def test_reference_padding_gives_every_clip_the_tokens_of_the_width() -> None:
    encoder, waves, lengths = beats(), noise(9000, 2), torch.tensor([9000, 4000])
    waves[1, 4000:] = 0
    with torch.no_grad():
        own, _ = encoder(waves, lengths)
        encoder.reference_padding = True
        masked, tokens = encoder(waves, lengths)
        unmasked, _ = encoder(waves, lengths, "unmasked")
        again, _ = encoder(waves, lengths, "alone")
    assert tokens.tolist() == encoder.num_frames(lengths).tolist() == [24, 24]
    torch.testing.assert_close(masked[0], own[0], atol=1e-6, rtol=0)
    assert masked[1].any(-1).all() and not torch.allclose(masked[1, :8], own[1, :8], atol=1e-3)
    assert not torch.allclose(masked[1], unmasked[1], atol=1e-3)
    assert torch.equal(again, own)
    with pytest.raises(ConfigError, match="alone, masked, unmasked"):
        encoder(waves, lengths, "none")  # type: ignore[arg-type]


def test_the_published_mask_counts_bands_as_moments() -> None:
    hidden = torch.arange(16_000)[None] >= torch.tensor([[16_000], [9000]])
    frames = linear_mask(hidden, 98)
    tokens = linear_mask(frames, 48)
    assert frames.sum(1).tolist() == [0, 42] and tokens.sum(1).tolist() == [0, 20]
    assert tokens[1].tolist() == [False] * 28 + [True] * 20  # 28 is no multiple of 8 bands
    _, seen = beats().encode(noise(16_000, 2), torch.tensor([16_000, 2300]), "masked")
    assert seen is not None and seen.sum(1).tolist() == [0, 40]  # straight from samples it would be 41


# parts


def test_tokens_run_through_the_bands_of_a_moment_first() -> None:
    encoder = beats()
    seen: list[Tensor] = []
    encoder.layer_norm.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    wave = noise(PATCH + STEP)
    with torch.no_grad():
        encoder(wave, torch.tensor([wave.shape[1]]))
        bank, _ = encoder.fbank(wave)
        for token in (0, 3, 8, 13):
            step, band = token // 8, token % 8
            patch = bank[0, 16 * step : 16 * step + 16, 16 * band : 16 * band + 16]
            expected = torch.einsum("eft,ft->e", encoder.patch_embedding.weight[:, 0], patch)
            torch.testing.assert_close(seen[0][0, token], expected, atol=1e-4, rtol=0)


def test_position_convolution_is_torchs_weight_norm() -> None:
    own, plain = PositionConv(12, 6, 3), nn.Conv1d(12, 12, 6, padding=3, groups=3)
    normed = torch.nn.utils.parametrizations.weight_norm(plain, dim=2)
    with torch.no_grad():
        own.weight_g.mul_(torch.rand_like(own.weight_g) + 0.5)
        own.bias.normal_()
        names = dict(normed.named_parameters())
        names["bias"].copy_(own.bias)
        names["parametrizations.weight.original0"].copy_(own.weight_g)
        names["parametrizations.weight.original1"].copy_(own.weight_v)
        x = torch.randn(2, 12, 9)
        torch.testing.assert_close(own(x), normed(x)[..., :-1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("buckets", "furthest"), [(320, 800), (32, 80), (8, 5)])
def test_buckets_are_those_of_t5(buckets: int, furthest: int) -> None:
    distance = torch.arange(-1500, 1501)
    theirs = T5Attention._relative_position_bucket(distance, True, buckets, furthest)
    assert torch.equal(relative_buckets(distance, buckets, furthest), theirs)


def test_gated_attention_is_softmax_of_scores_and_gated_bias() -> None:
    torch.manual_seed(0)
    attention = GatedAttention(8, 2, 0.0, 16)
    with torch.no_grad():
        attention.grep_a.normal_()
        x, hidden = torch.randn(1, 5, 8), torch.tensor([[False, False, False, True, False]])
        out = attention(x, attention.position_bias(5, 20), hidden)
        mixed = []
        for head in range(2):
            at = slice(4 * head, 4 * head + 4)
            q, k, v = (f(x[0])[:, at] for f in (attention.q_proj, attention.k_proj, attention.v_proj))
            for i in range(5):
                parts = attention.grep_linear(q[i])
                a, b = torch.sigmoid(parts[:4].sum()), torch.sigmoid(parts[4:].sum())
                factor = a * (b * attention.grep_a[0, head, 0, 0] - 1) + 2
                scores = k @ q[i] / math.sqrt(4)
                for j in range(5):
                    bucket = relative_buckets(torch.tensor(j - i), 16, 20)
                    scores[j] += factor * attention.relative_attention_bias.weight[bucket, head]
                scores[3] = -torch.inf
                mixed.append(scores.softmax(0) @ v)
        expected = attention.out_proj(torch.stack(mixed).view(2, 5, 4).transpose(0, 1).reshape(5, 8))
    torch.testing.assert_close(out[0], expected, atol=1e-6, rtol=0)


def test_residuals_are_weighed_by_depth() -> None:
    assert beats(encoder_layers=12).encoder.layers[3].alpha == pytest.approx(2.2134, abs=1e-4)
    assert beats(deep_norm=False).encoder.layers[0].alpha == 1


def test_bfloat16_keeps_the_filter_bank_in_float32() -> None:
    # one group: bfloat16 convolutions of a few channels per group are wrong on some CPUs (oneDNN in torch 2.13)
    encoder, wave = beats(conv_pos_groups=1), noise(6000)
    bank, _ = encoder.fbank(wave)
    exact, _ = encoder(wave, torch.tensor([6000]))
    encoder.to(torch.bfloat16)
    assert torch.equal(encoder.fbank(wave)[0], bank)
    states, _ = encoder(wave, torch.tensor([6000]))
    assert states.dtype == torch.bfloat16
    assert float((states.float() - exact).detach().abs().mean()) < 0.05
    assert encoder.fbank(wave.double())[0].dtype == torch.float64


def test_dropouts_act_in_training_only() -> None:
    wave, length = noise(6000), torch.tensor([6000])
    still = beats()
    assert torch.equal(still.train()(wave, length)[0], still.eval()(wave, length)[0])
    for name in ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "dropout_input"):
        encoder = beats(**{name: 0.9})
        assert torch.equal(encoder(wave, length)[0], encoder(wave, length)[0])
        encoder.train()
        torch.manual_seed(1)
        assert not torch.equal(encoder(wave, length)[0], encoder.eval()(wave, length)[0]), name
    encoder, calls = beats(dropout=0.5), []
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, _, __: calls.append(module.p))
    encoder(wave, length)
    assert calls.count(0.5) == 1 + 2 * 2  # after the positions, after both branches of both layers


def test_kinds_of_sound() -> None:
    encoder, wave, length = beats(), noise(6000), torch.tensor([6000])
    with torch.no_grad():
        states, _ = encoder(wave, length)
        expected = torch.sigmoid(encoder.predictor(states).mean(1))  # type: ignore[misc]
        torch.testing.assert_close(encoder.class_probabilities(wave, length), expected)
    with pytest.raises(ModelError, match="finetuned_model"):
        beats(finetuned_model=False).class_probabilities(wave, length)


def test_full_size() -> None:
    """The published file of 363 MB; the table of positions is one, though its names repeat it."""
    with torch.device("meta"):
        encoder = BeatsEncoder(BeatsConfig())
    assert sum(weight.numel() for weight in encoder.parameters()) == 90_717_055
    state = encoder.state_dict()
    assert state["encoder.layers.0.self_attn.relative_attention_bias.weight"].shape == (320, 12)
    assert state["encoder.pos_conv.0.weight_g"].shape == (1, 1, 128)
    assert not list(encoder.buffers())
    assert encoder.longest == 480_000 and encoder.num_frames(torch.tensor([480_000])).tolist() == [1496]


# files


def official(**changes: Any) -> dict[str, Any]:
    """What an official file holds: cfg with settings that we do not use, and the repeated table."""
    encoder = beats(**changes)
    cfg = {k: v for k, v in asdict(encoder.config).items() if k != "ref"}
    cfg |= {"layer_norm_first": False, "relative_position_embedding": True, "gru_rel_pos": True}
    cfg |= {"layer_wise_gradient_decay_ratio": 0.6, "something_new": None}
    state = dict(encoder.state_dict())
    name = "self_attn.relative_attention_bias.weight"
    state[f"encoder.layers.1.{name}"] = state[f"encoder.layers.0.{name}"].clone()
    return {"cfg": cfg, "model": state}


def stored(path: Path, content: Any = None) -> Path:
    torch.save(official() if content is None else content, path)
    return path


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())


def test_official_file_and_folder(tmp_path: Path) -> None:
    content = {**official(), "label_dict": {0: "/m/0", 4: "/m/4"}}
    loaded = load_beats(stored(tmp_path / "beats.pt", content))
    assert loaded.config == SMALL and same_weights(loaded, beats()) and not loaded.training
    assert loaded.labels == {0: "/m/0", 4: "/m/4"}
    save_file({k: v.clone() for k, v in content["model"].items()}, tmp_path / "model.safetensors")
    for cfg in (content["cfg"], {"cfg": content["cfg"]}, asdict(SMALL)):
        (tmp_path / "config.json").write_text(json.dumps(cfg))
        for source in (tmp_path, tmp_path / "model.safetensors"):
            assert same_weights(load_beats(source), beats())
    assert load_beats(tmp_path, dtype=torch.float16).predictor.weight.dtype == torch.float16  # type: ignore[union-attr]
    plain = BeatsEncoder(SMALL)
    plain.load_state_dict(content["model"])
    assert same_weights(plain, beats())


def test_the_head_is_there_if_the_file_has_one(tmp_path: Path) -> None:
    content = official()
    content["model"] = {k: v for k, v in content["model"].items() if not k.startswith("predictor.")}
    path = stored(tmp_path / "headless.pt", content)
    assert load_beats(path).predictor is None
    with pytest.raises(CheckpointError, match=r"2 tensors missing: predictor\.bias.*finetuned_model: false"):
        BeatsEncoder(replace(SMALL, ref=str(path))).load_reference()
    whole = stored(tmp_path / "whole.pt")
    ears = BeatsEncoder(replace(SMALL, ref=str(whole), finetuned_model=False))
    ears.load_reference()
    assert same_weights(ears, beats())


def test_silent_settings_are_those_of_the_official_code() -> None:
    config = BeatsConfig.from_official({})
    assert (config.deep_norm, config.max_distance, config.finetuned_model) == (False, 1280, False)
    for name, value in {
        "layer_norm_first": True,
        "relative_position_embedding": False,
        "gru_rel_pos": 0,
    }.items():
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            BeatsConfig.from_official({name: value})


def damage(content: dict[str, Any], kind: str) -> str:
    """Spoil a checkpoint; returns what the message must say."""
    model, table = content["model"], "self_attn.relative_attention_bias.weight"
    if kind == "missing":
        del model["encoder.layers.1.fc2.bias"]
        return r"1 tensors missing: encoder\.layers\.1\.fc2\.bias"
    if kind == "unexpected":
        model["encoder.layers.2.fc2.bias"] = torch.zeros(3)
        return r"1 tensors unexpected: encoder\.layers\.2\.fc2\.bias"
    if kind == "shape":
        model["layer_norm.weight"] = torch.zeros(3)
        return r"layer_norm\.weight \[3\] for \[12\]"
    if kind == "second table":
        model[f"encoder.layers.1.{table}"] = model[f"encoder.layers.0.{table}"] + 1
        return rf"unexpected: encoder\.layers\.1\.{table}"
    if kind == "form":
        content["cfg"]["layer_norm_first"] = True
        return "layer_norm_first is True"
    if kind == "size":
        content["cfg"]["encoder_layers"] = "two"
        return "encoder_layers is 'two'"
    if kind == "cfg":
        content["cfg"] = [1]
        return "cfg is list"
    if kind == "table":
        content["model"] = {"a": 3}
        return "not a table of tensors"
    del content["cfg"]
    return r"holds \['model'\], wanted the keys 'cfg' and 'model'"


@pytest.mark.parametrize(
    "kind", ["missing", "unexpected", "shape", "second table", "form", "size", "cfg", "table", "keys"]
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    content = official()
    words = damage(content, kind)
    with pytest.raises(CheckpointError, match=words):
        load_beats(stored(tmp_path / "beats.pt", content))


def test_a_file_for_another_config_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "beats.pt")
    other = BeatsEncoder(replace(SMALL, ref=str(path), max_distance=30, encoder_attention_heads=4))
    with pytest.raises(CheckpointError, match=r"encoder_attention_heads is 2, wanted 4.*max_distance is 20"):
        other.load_reference()


class _Code:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    path = stored(tmp_path / "beats.pt", {**official(), "extra": _Code(mark)})
    with pytest.raises(CheckpointError, match=r"Nothing in it was run\. Get the official file"):
        load_beats(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # so the file was armed


@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "beats.pt")
    if form == "safetensors":
        save_file(official()["model"], path)
        (tmp_path / "config.json").write_text(json.dumps(official()["cfg"]))
    else:
        torch.save(official(), path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    for share in (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match=r"beats\.pt|model\.safetensors"):
            load_beats(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no file"):
        load_beats(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="these weight files: none"):
        load_beats(tmp_path)
    save_file(official()["model"], tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"wanted config\.json"):
        load_beats(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        load_beats(tmp_path)


# as a part


def test_a_reference_is_found_beside_the_models_folder(tmp_path: Path) -> None:
    stored(tmp_path / "beats.pt")
    encoder = BeatsEncoder(replace(SMALL, ref="beats.pt"))
    assert encoder.references() == {"": "beats.pt"} and BeatsEncoder(SMALL).references() == {}
    encoder.load_reference("", tmp_path)
    assert same_weights(encoder, beats())
    with torch.device("meta"):
        empty = BeatsEncoder(replace(SMALL, ref=str(tmp_path / "beats.pt"))).to(torch.float16)
    empty.load_reference("")
    assert torch.equal(empty.layer_norm.weight, beats().layer_norm.weight.half())


def test_a_reference_that_cannot_be_had(tmp_path: Path) -> None:
    for ref, words in {
        None: r"ref is None\. Set ref",
        "a/b/c.pt": r"a/b/c\.pt' are no file or folder here and cannot be had from the hub",
        "./c.pt": "no file, folder or hub id",
    }.items():
        encoder = BeatsEncoder(replace(SMALL, ref=ref))
        with pytest.raises(ModelError, match=words):
            encoder.load_reference("", tmp_path, local_files_only=True, dtype="auto")


def test_adapters_stay_when_a_reference_is_loaded(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    encoder = BeatsEncoder(replace(SMALL, ref=str(stored(tmp_path / "beats.pt"))))
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["q_proj"]), encoder)
    encoder.load_reference()
    layer = encoder.encoder.layers[1].self_attn.q_proj
    assert torch.equal(layer.base_layer.weight, beats().encoder.layers[1].self_attn.q_proj.weight)


def test_beats_as_ears_survive_storage(tmp_path: Path) -> None:
    """transformers' loader renames ``weight_g`` where a model asks for it; ours must find its own again."""
    torch.manual_seed(0)
    connector = {"type": "qformer", "streams": [16], "hidden_size": 8, "num_heads": 2, "intermediate_size": 8}
    ears = {
        "type": "embeddings",
        "encoder": {"type": "beats", **asdict(SMALL)},
        "connector": {**connector, "text_size": 32, "tail": "pad"},
        "audio_token_id": 59,
    }
    model = SpeechLM(SpeechLMConfig(text_config=text_config(), audio_in=ears)).eval()
    model.save_pretrained(tmp_path)
    again, report = SpeechLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    waves, lengths = noise(9000, 2), torch.tensor([9000, 5000])
    with torch.no_grad():
        first, second = (m.hear(waves, lengths) for m in (model, again.eval()))
    assert torch.equal(first.embeddings, second.embeddings)
    assert first.counts.tolist() == [2, 1] and first.frames.tolist() == [24, 8]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_layers": 0}, "encoder_layers is 0"),
        ({"encoder_attention_heads": 3}, "encoder_attention_heads: 16 is no multiple of 3"),
        ({"input_patch_size": 12}, "128 is no multiple of 12"),
        ({"max_distance": 4}, "wanted over 4"),
        ({"activation_fn": "glu"}, "'gelu' or 'relu'"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **changes)
