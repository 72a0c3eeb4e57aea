"""Saved and loaded models are the same to the bit, by themselves or with a referenced text model."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.tiny import PLACEHOLDER, hearing_batch, hearing_model, text_config
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.speech_lm import SpeechLM


def same(first, second):
    with torch.no_grad():
        batch = hearing_batch()
        return torch.equal(first(**batch).logits, second.eval()(**batch).logits)


@pytest.mark.parametrize("tie", [False, True])
def test_merged_folder_is_bit_equal_for_every_loader(tmp_path, tie):
    model = hearing_model(tie=tie)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    for loader in (SpeechLM, AutoModel, AutoModelForMultimodalLM):
        again = loader.from_pretrained(tmp_path)
        assert type(again) is SpeechLM
        assert not again.training
        assert same(model, again)
    tied = again.language_model.lm_head.weight is again.language_model.model.embed_tokens.weight
    assert tied == tie


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_referenced_text_model_is_not_stored_and_loads_bit_equal(tmp_path, relative, tie):
    model = hearing_model(tie=tie)
    folder = tmp_path / "ears"
    text = folder / "text" if relative else tmp_path / "llm"
    model.language_model.save_pretrained(text)
    model.config.text_model_ref = "text" if relative else str(text)
    model.save_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    assert stored
    assert not [name for name in stored if name.startswith("language_model")]
    again, info = SpeechLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert same(model, again)
    again.save_pretrained(tmp_path / "merged", backbone="merged")
    assert again.config.text_model_ref == model.config.text_model_ref
    alone = SpeechLM.from_pretrained(tmp_path / "merged")
    assert alone.config.text_model_ref is None
    assert same(model, alone)


def test_reference_must_be_named_exist_and_fit(tmp_path):
    model = hearing_model()
    with pytest.raises(ModelError, match=r"set config\.text_model_ref"):
        model.save_pretrained(tmp_path, backbone="reference")
    with pytest.raises(ModelError, match="wanted 'merged' or 'reference'"):
        model.save_pretrained(tmp_path, backbone="refrence")
    model.config.text_model_ref = "nobody/nothing"
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"hf download nobody/nothing"):
        SpeechLM.from_pretrained(tmp_path)
    other = AutoModelForCausalLM.from_config(model.config.text_config)
    other.resize_token_embeddings(64)
    other.save_pretrained(tmp_path / "other")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "text_model_ref": "other"}))
    with pytest.raises(CheckpointError, match="vocab_size 64, this model was made for 60"):
        SpeechLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_nothing_is_filled_in_at_random(tmp_path, fault):
    hearing_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "connector.linear_1.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        tensors["connector.extra.weight"] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        SpeechLM.from_pretrained(tmp_path)
    assert ("connector.extra.weight" if fault == "unexpected" else name) in str(caught.value)


def test_half_precision_folder_keeps_its_type_and_runs(tmp_path):
    hearing_model().to(torch.bfloat16).save_pretrained(tmp_path)
    again = SpeechLM.from_pretrained(tmp_path, dtype="auto")
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        assert again(**hearing_batch()).logits.dtype == torch.bfloat16


def test_computed_buffers_of_parts_survive_loading(tmp_path, monkeypatch):
    from vivavoce.models.connectors.stack import StackConfig, StackProjector

    plain = StackProjector.__init__

    def with_table(self, config):
        plain(self, config)
        self.register_buffer("table", torch.arange(4.0) + 1, persistent=False)

    monkeypatch.setattr(StackProjector, "__init__", with_table)
    monkeypatch.setattr(StackProjector, "config_class", StackConfig, raising=False)
    hearing_model().save_pretrained(tmp_path)
    again = SpeechLM.from_pretrained(tmp_path)
    assert again.connector.table.tolist() == [1, 2, 3, 4]


_WAVES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8],
    "conv_stride": [20, 16],
    "conv_kernel": [40, 16],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "conv_depthwise_kernel_size": 7,
}
_BEATS = {
    "input_patch_size": 16,
    "embed_dim": 16,
    "encoder_layers": 1,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_attention_heads": 2,
    "conv_pos": 8,
    "conv_pos_groups": 4,
}
_WHISPER = {"num_mel_bins": 80, "max_source_positions": 50, "d_model": 16, "encoder_layers": 1}
_WHISPER |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 24}
ENCODERS = {
    "whisper": ({"type": "whisper", "model": _WHISPER}, 16),
    "beats": ({"type": "beats", **_BEATS}, 16),
    "rotary": (
        {
            "type": "huggingface",
            "model": {"model_type": "wav2vec2-conformer", "position_embeddings_type": "rotary", **_WAVES},
        },
        16,
    ),
    "relative": (
        {
            "type": "huggingface",
            "model": {"model_type": "wav2vec2-bert", "position_embeddings_type": "relative", **_WAVES},
        },
        16,
    ),
}
ENCODERS["dual"] = (
    {
        "type": "dual",
        "first": {**ENCODERS["whisper"][0], "pad_to_longest": True},
        "second": ENCODERS["beats"][0],
    },
    32,
)


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_every_encoder_hears_the_same_after_loading(tmp_path, kind):
    encoder, size = ENCODERS[kind]
    stack = {"type": "stack", "encoder_size": size, "text_size": 32, "stack_factor": 2, "hidden_size": 24}
    side = {"type": "embeddings", "encoder": encoder, "connector": stack, "audio_token_id": PLACEHOLDER}
    torch.manual_seed(0)
    model = SpeechLM(SpeechLMConfig(text_config=text_config(), audio_in=side)).eval()
    waves = model.audio_encoder.takes == "waveform"
    clips = 0.1 * torch.randn(2, 16_000) if waves else torch.randn(2, 80, 90)
    lengths = torch.tensor([clips.shape[-1], clips.shape[-1] // 2])
    model.save_pretrained(tmp_path)
    again = SpeechLM.from_pretrained(tmp_path)
    with torch.no_grad():
        first, second = model.hear(clips, lengths), again.hear(clips, lengths)
    assert first.counts.tolist() == second.counts.tolist() and int(first.counts.min()) > 0
    assert torch.equal(first.embeddings, second.embeddings)
