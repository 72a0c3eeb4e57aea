"""Encoders of waveforms: alone as transformers gives, in a batch as alone, for every kind of model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.tiny import PLACEHOLDER, text_config
from torch import Tensor, nn
from transformers import AutoModel, SeamlessM4TFeatureExtractor, Wav2Vec2Config, Wav2Vec2FeatureExtractor
from transformers import Wav2Vec2ForCTC as Wav2Vec2WithHead

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models import ENCODERS
from vivavoce.models.config import SpeechLMConfig, build_part
from vivavoce.models.encoders.huggingface import (
    MODEL_TYPES,
    ClipConvLayer,
    HuggingFaceEars,
    HuggingFaceEarsConfig,
)
from vivavoce.models.encoders.references import encoder_record, feature_settings
from vivavoce.models.speech_lm import SpeechLM

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8, 8],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ADAPTER = {"add_adapter": True, "output_hidden_size": 12}
CONV = {"conv_depthwise_kernel_size": 7}
# what each is, and whether clips of unlike length run in one batch
KINDS: dict[str, tuple[dict[str, Any], bool]] = {
    "wav2vec2": ({}, True),
    "wav2vec2 stable": (STABLE, True),
    "wav2vec2 adapter": ({**ADAPTER, "num_adapter_layers": 2}, False),
    "hubert": ({}, True),
    "hubert stable": (STABLE, True),
    "hubert batchnorm": ({"conv_pos_batch_norm": True}, False),
    "wavlm": ({}, True),
    "wavlm stable": (STABLE, True),
    "unispeech": ({}, True),
    "unispeech-sat": ({}, True),
    "unispeech-sat stable": (STABLE, True),
    "data2vec-audio": ({"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3}, False),
    "sew": ({"squeeze_factor": 2}, False),
    "sew-d": ({"squeeze_factor": 2, "max_position_embeddings": 64, "position_buckets": 16}, False),
    "wav2vec2-conformer": ({"position_embeddings_type": "relative", **CONV}, False),
    "wav2vec2-conformer rotary": ({"position_embeddings_type": "rotary", **CONV}, False),
    "wav2vec2-bert": ({"position_embeddings_type": "relative_key", **CONV}, True),
    "wav2vec2-bert relative": ({"position_embeddings_type": "relative", **CONV}, True),
    "wav2vec2-bert rotary": ({"position_embeddings_type": "rotary", **CONV}, True),
    "wav2vec2-bert adapter": ({**ADAPTER, **CONV}, False),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def _model(kind: str) -> dict[str, Any]:
    return {"model_type": kind.split()[0], **SIZES, **KINDS[kind][0]}


def _ears(kind: str, spread: float = 0.3, **fields: Any) -> HuggingFaceEars:
    ears = HuggingFaceEars(HuggingFaceEarsConfig(model=_model(kind), **fields)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in ears.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            value.copy_(torch.randn(value.shape, generator=generator) * spread + gain)
    return ears


def _clips(kind: str) -> tuple[Tensor, Tensor]:
    """Long, odd, short, shorter than a frame and twice the same length; what is past them is loud."""
    scale = 3 if kind.startswith("wav2vec2-bert") else 1
    lengths = torch.tensor([1001, 644, 51, 7, 1001]) * scale
    generator = torch.Generator().manual_seed(1)
    wave = 0.1 + 0.2 * torch.randn(len(lengths), int(lengths.max()), generator=generator)
    for row, n in zip(wave, lengths.tolist(), strict=True):
        row[n:] *= 20.0
    return wave, lengths


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@every_kind
@torch.no_grad()
def test_a_batch_equals_each_alone(kind: str) -> None:
    ears, (wave, lengths) = _ears(kind), _clips(kind)
    assert ears.runs_together == KINDS[kind][1]
    states, frames = ears(wave, lengths)
    assert frames.tolist() == ears.num_frames(lengths).tolist() and int(frames.min()) >= 1
    assert states.shape == (len(lengths), int(frames.max()), ears.hidden_size)
    for i, n in enumerate(lengths.tolist()):
        alone, count = ears(wave[i : i + 1, :n], lengths[i : i + 1])
        assert alone.shape[1] == int(count)
        torch.testing.assert_close(states[i, : int(count)], alone[0], rtol=0, atol=1e-4)
        assert not states[i, int(count) :].any()


@every_kind
@torch.no_grad()
def test_alone_equals_extractor_and_transformers(kind: str) -> None:
    ears, (wave, lengths) = _ears(kind), _clips(kind)
    for clip, n in zip(wave[:2, :].numpy(), lengths[:2].tolist(), strict=True):
        if kind.startswith("wav2vec2-bert"):
            made = SeamlessM4TFeatureExtractor()(clip[:n], sampling_rate=16000, return_tensors="pt")
        else:
            made = Wav2Vec2FeatureExtractor()(clip[:n], sampling_rate=16000, return_tensors="pt")
        expected = ears.encoder(**made).last_hidden_state
        states, frames = ears(torch.from_numpy(clip)[None, :n], torch.tensor([n]))
        assert 0 <= expected.shape[1] - int(frames) <= (1 if kind.startswith("wav2vec2-bert") else 0)
        torch.testing.assert_close(states, expected[:, : int(frames)], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "kind", ["wav2vec2", "wavlm stable", "data2vec-audio", "sew", "wav2vec2-bert adapter"]
)
@torch.no_grad()
def test_reference_padding_equals_a_padded_batch_of_transformers(kind: str) -> None:
    ears, (wave, lengths) = _ears(kind), _clips(kind)
    ears.reference_padding = True
    clips = [c[:n] for c, n in zip(wave.numpy()[:2], lengths.tolist()[:2], strict=True)]
    if kind.startswith("wav2vec2-bert"):
        made = SeamlessM4TFeatureExtractor()(clips, sampling_rate=16000, return_tensors="pt")
    else:
        masked = kind in ("wavlm stable", "data2vec-audio")  # as such models are published
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=masked)
        made = extractor(clips, sampling_rate=16000, return_tensors="pt", padding=True)
    expected = ears.encoder(**made).last_hidden_state
    states, frames = ears(wave[:2], lengths[:2])
    torch.testing.assert_close(states, expected[:, : states.shape[1]], rtol=0, atol=2e-4)
    ears.reference_padding = False
    neutral, _ = ears(wave[:2], lengths[:2])
    n = int(frames[1])
    leaks = _gap(neutral[1, :n], states[1, :n]) > 1e-3
    assert leaks == (kind != "wavlm stable")


@torch.no_grad()
def test_waveforms_are_scaled_only_if_asked() -> None:
    lengths = torch.tensor([500])
    wave = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    for normalise, same in ((True, True), (False, False)):
        ears = _ears("wavlm stable", normalise=normalise)
        assert (_gap(ears(wave, lengths)[0], ears(3.0 * wave + 0.5, lengths)[0]) < 1e-3) == same
    raw = _ears("wavlm stable", normalise=False)
    torch.testing.assert_close(raw(wave, lengths)[0], raw.encoder(wave).last_hidden_state, rtol=0, atol=1e-5)


def test_the_norm_over_time_heeds_lengths_while_it_runs_and_no_longer() -> None:
    ears, (wave, lengths) = _ears("wav2vec2"), _clips("wav2vec2")
    first = ears.encoder.feature_extractor.conv_layers[0]
    assert isinstance(first, ClipConvLayer)
    wave, lengths = wave[:2], lengths[:2]
    whole = first(wave[:, None])
    first.samples = lengths
    ours = first(wave[:, None])
    torch.testing.assert_close(ours[0], whole[0])
    first.samples = None
    alone = first(wave[1:, None, : int(lengths[1])])[0]
    torch.testing.assert_close(ours[1, :, : alone.shape[1]], alone)
    assert _gap(whole[1, :, : alone.shape[1]], alone) > 1e-2
    ears(wave, lengths)
    assert first.samples is None


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "data2vec-audio"])
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    """Two passes before the backward, so that what is recomputed has to be its own pass's."""
    plain, checked, (wave, lengths) = _ears(kind), _ears(kind), _clips(kind)
    checked.encoder.gradient_checkpointing_enable()
    for ears in (plain, checked):
        ears.encoder.config.layerdrop = 0.0
        for module in ears.train().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        passes = [ears(wave[part], lengths[part])[0] for part in (slice(3), slice(3, None))]
        sum(states.square().sum() for states in passes).backward()
    for (name, a), b in zip(plain.named_parameters(), checked.parameters(), strict=True):
        if a.grad is not None:
            assert b.grad is not None and _gap(a.grad, b.grad) <= 1e-4 * float(a.grad.abs().max()), name


@every_kind
def test_gradients_half_precision_and_the_meta_device(kind: str) -> None:
    ears, (wave, lengths) = _ears(kind, spread=0.1), _clips(kind)
    states, _ = ears(wave, lengths)
    states.square().sum().backward()
    still = [n for n, p in ears.named_parameters() if p.grad is None]
    unused = ("masked_spec_embed",) + (("pos_conv_embed",) if "conformer" in kind else ())
    assert all(any(word in name for word in unused) for name in still), still
    half, _ = ears.to(torch.bfloat16)(wave, lengths)
    assert half.dtype == torch.bfloat16
    assert float((half - states).detach().abs().mean() / states.detach().abs().mean()) < 0.5
    with torch.device("meta"):
        shadow = HuggingFaceEars(ears.config)
    assert shadow.num_frames(lengths).tolist() == ears.num_frames(lengths).tolist()
    assert {k: v.shape for k, v in shadow.state_dict().items()} == {
        k: v.shape for k, v in ears.state_dict().items()
    }


def test_short_clips_train_without_spec_augment_and_with_it_where_asked() -> None:
    wave, lengths = torch.randn(1, 60), torch.tensor([60])
    plain = _ears("wav2vec2").train()
    assert plain.encoder.config.apply_spec_augment is False
    assert torch.isfinite(plain(wave, lengths)[0]).all()
    model = {**_model("wav2vec2"), "apply_spec_augment": True}
    assert HuggingFaceEars(HuggingFaceEarsConfig(model=model)).encoder.config.apply_spec_augment is True


def test_published_sizes() -> None:
    """wav2vec 2.0 base and WavLM large: 50 frames a second, 30 s at most by default."""
    with torch.device("meta"):
        base = HuggingFaceEars(HuggingFaceEarsConfig(model={"model_type": "wav2vec2"}))
    assert (base.hidden_size, base.takes, base.longest, base.shortest) == (768, "waveform", 480_000, 400)
    assert base.num_frames(torch.tensor([1, 400, 719, 720, 16000, 480_000])).tolist() == [
        1,
        1,
        1,
        2,
        49,
        1499,
    ]
    assert sum(p.numel() for p in base.parameters()) == 94_371_712
    assert base.state_dict()["encoder.encoder.layers.11.attention.k_proj.weight"].shape == (768, 768)


@pytest.mark.parametrize(
    ("shape", "lengths", "match"),
    [
        ((1, 80, 50), [50], "one length each"),
        ((2, 50), [50], "one length each"),
        ((2, 50), [50, 51], "from 1 to 50"),
        ((2, 50), [50, 0], "from 1 to 50"),
    ],
)
def test_wrong_inputs_are_named(shape: tuple[int, ...], lengths: list[int], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        _ears("wav2vec2")(torch.zeros(shape), torch.tensor(lengths))


def test_models_of_another_form_are_refused_with_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        HuggingFaceEarsConfig(model={"model_type": "encodec"}, longest_samples=0)
    assert all(repr(name) in str(caught.value) for name in MODEL_TYPES)
    assert "longest_samples is 0" in str(caught.value)


# weights


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "wav2vec2-conformer", "wav2vec2-bert relative"])
def test_a_speech_lm_keeps_it(kind: str, tmp_path: Path) -> None:
    """Saved and loaded by transformers, which renames weight norms and forgets computed buffers."""
    record = {"type": "huggingface", "model": _model(kind)}
    connector = {"type": "stack", "encoder_size": 16, "text_size": 32, "stack_factor": 2, "hidden_size": 24}
    ears = {"encoder": record, "connector": connector, "audio_token_id": PLACEHOLDER}
    config = SpeechLMConfig(text_config=text_config(), audio_in={"type": "embeddings", **ears})
    model, (wave, lengths) = SpeechLM(config).eval(), _clips(kind)
    expected = model.hear(wave, lengths).embeddings
    model.save_pretrained(tmp_path)
    again = SpeechLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again.hear(wave, lengths).embeddings, expected)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A fine-tuned wav2vec 2.0 with a head, as a repository has it, and its encoder's tensors."""
    folder = tmp_path_factory.mktemp("hub") / "wav2vec2-tiny"
    config = Wav2Vec2Config(**SIZES, vocab_size=9)
    model = Wav2Vec2WithHead(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    return folder, {k: v.clone() for k, v in model.wav2vec2.state_dict().items()}


def test_one_line_brings_an_encoder(published: tuple[Path, dict[str, Tensor]]) -> None:
    folder, expected = published
    record = encoder_record(folder)
    assert json.loads(json.dumps(record)) == record and feature_settings(record) == {}
    assert record["type"] == "huggingface" and record["normalise"] is False
    settings = folder / "preprocessor_config.json"
    stored = settings.read_text()
    settings.write_text("{}")
    assert "normalise" not in encoder_record(folder)
    settings.write_text(stored)
    ears = build_part(ENCODERS, record, "audio_in.encoder")
    assert ears.references() == {"": str(folder)}
    ears.load_reference("", Path("elsewhere"), dtype=torch.float32)
    own = ears.encoder.state_dict()
    assert own.keys() == expected.keys() and all(torch.equal(own[k], v) for k, v in expected.items())


def test_old_names_of_weight_norm_are_read(published: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder, expected = published
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, value in expected.items():
        for new, former in old.items():
            name = name.replace(new, former)
        renamed[name] = value
    del renamed["masked_spec_embed"]  # many fine-tuned models lack it
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    ears = HuggingFaceEars(HuggingFaceEarsConfig(model=_model("wav2vec2"), ref=str(tmp_path)))
    kept = ears.encoder.masked_spec_embed.clone()
    ears.load_reference("")
    own = ears.encoder.state_dict()
    assert all(torch.equal(own[k], v) for k, v in expected.items() if k != "masked_spec_embed")
    assert torch.equal(ears.encoder.masked_spec_embed, kept)


def test_weights_that_do_not_fit_are_named(published: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    folder, _ = published

    def ears(ref: str | None, **changed: Any) -> HuggingFaceEars:
        return HuggingFaceEars(HuggingFaceEarsConfig(model={**_model("wav2vec2"), **changed}, ref=ref))

    with pytest.raises(CheckpointError, match=r"is \[24, 16\], the config wants \[32, 16\]"):
        ears(str(folder), intermediate_size=32).load_reference("")
    with pytest.raises(CheckpointError, match=r"encoder.layers.2.* missing"):
        ears(str(folder), num_hidden_layers=3).load_reference("")
    with pytest.raises(ModelError, match="nobody/nothing"):
        ears("nobody/nothing").load_reference("", local_files_only=True)
    with pytest.raises(ModelError, match="ref is None"):
        ears(None).load_reference("")


def test_records_of_what_is_no_encoder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="is a 'llama' model; wanted 'whisper' or one of wav2vec2"):
        encoder_record(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="no config of an encoder"):
        encoder_record(tmp_path)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_filter_bank_is_the_extractors(normalise: bool) -> None:
    """Few frames, one odd, of a quiet clip: how variance is counted and the floor matter."""
    ears = _ears("wav2vec2-bert", normalise=normalise)
    wave = 1e-4 * torch.randn(1, 400 + 4 * 160, generator=torch.Generator().manual_seed(0))
    ours, pairs = ears._filter_bank(wave, torch.tensor([wave.shape[1]]))
    extractor = SeamlessM4TFeatureExtractor()
    made = extractor(wave.numpy(), do_normalize_per_mel_bins=normalise, sampling_rate=16000)
    expected = torch.from_numpy(np.asarray(made["input_features"]))[:, : int(pairs)]
    assert pairs.tolist() == [2] and ours.shape == (1, 2, 160)
    torch.testing.assert_close(ours, expected.float(), rtol=0, atol=2e-3)


def test_numbers_are_those_of_numpy() -> None:
    """The scaling is done in float32 over true samples, whatever else is in the batch."""
    clips = [np.array([1.0, 2.0, 4.0], dtype=np.float32), np.linspace(-1, 1, 50, dtype=np.float32)]
    wave, lengths = torch.full((2, 50), 9.0), torch.tensor([3, 50])
    for row, clip in zip(wave, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    scaled, _ = _ears("wav2vec2")._wave(wave, lengths)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    made = extractor(clips, sampling_rate=16000, padding=True, return_tensors="pt")
    torch.testing.assert_close(scaled, made["input_values"], rtol=0, atol=1e-5)
    assert isinstance(AutoModel.from_config(Wav2Vec2Config(**SIZES)), type(_ears("wav2vec2").encoder))
