"""The published sizes, from their configs alone: names and shapes of what SALMONN stores, and how much it trains."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from vivavoce.base.errors import ConfigError
from vivavoce.models.encoders.beats_config import BeatsConfig
from vivavoce.models.presets.salmonn.checkpoint import their_name
from vivavoce.models.presets.salmonn.preset import SALMONN
from vivavoce.models.presets.salmonn.sizes import beats_record
from vivavoce.models.speech_lm import SpeechLM

H, E, F, R = 768, 1280 + 768, 3072, 8  # Q-Former, both encoders, feed-forward, adapters
SIZES = {"13b": (5120, 40, 33_332_992), "7b": (4096, 32, 30_186_240)}


@cache
def model(variant: str) -> Any:
    with torch.device("meta"):
        return SpeechLM(SALMONN.full_size(variant))


def published(width: int, layers: int) -> dict[str, list[int]]:
    """Names and shapes of the trained tensors in the published files, less buffers."""
    wanted: dict[str, list[int]] = {
        "speech_query_tokens": [1, 1, H],
        "speech_llama_proj.weight": [width, H],
        "speech_llama_proj.bias": [width],
    }

    def linear(name: str, out: int, into: int) -> None:
        wanted.update({f"{name}.weight": [out, into], f"{name}.bias": [out]})

    def norm(name: str, size: int) -> None:
        wanted.update({f"{name}.weight": [size], f"{name}.bias": [size]})

    norm("ln_speech", 1280)
    norm("ln_audio", 768)
    norm("speech_Qformer.bert.embeddings.LayerNorm", H)
    for j in (0, 1):
        layer = f"speech_Qformer.bert.encoder.layer.{j}."
        for part, memory in (("attention", H), ("crossattention", E)):
            linear(f"{layer}{part}.self.query", H, H)
            linear(f"{layer}{part}.self.key", H, memory)
            linear(f"{layer}{part}.self.value", H, memory)
            linear(f"{layer}{part}.output.dense", H, H)
            norm(f"{layer}{part}.output.LayerNorm", H)
        linear(f"{layer}intermediate_query.dense", F, H)
        linear(f"{layer}output_query.dense", H, F)
        norm(f"{layer}output_query.LayerNorm", H)
    for n in range(layers):
        for target in ("q_proj", "v_proj"):
            name = f"llama_model.base_model.model.model.layers.{n}.self_attn.{target}.lora_"
            wanted[f"{name}A.default.weight"] = [R, width]
            wanted[f"{name}B.default.weight"] = [width, R]
    return wanted


@pytest.mark.parametrize("variant", SIZES)
def test_names_and_shapes(variant: str) -> None:
    width, layers, _ = SIZES[variant]
    state = model(variant).state_dict()
    ours = {theirs: list(t.shape) for name, t in state.items() if (theirs := their_name(name)) is not None}
    assert ours == published(width, layers)


@pytest.mark.parametrize("variant", SIZES)
def test_trained_parameters(variant: str) -> None:
    named = model(variant).named_parameters()
    assert sum(p.numel() for name, p in named if their_name(name) is not None) == SIZES[variant][2]


@pytest.mark.parametrize("variant", SIZES)
def test_frozen_parts(variant: str) -> None:
    """The parts have the sizes of the published ones."""
    whole = model(variant)
    assert whole.audio_encoder.streams == (1280, 768)
    assert sum(p.numel() for p in whole.audio_encoder.second.parameters()) == 90_717_055
    whisper = whole.audio_encoder.first.encoder.config
    assert (whisper.encoder_layers, whisper.num_mel_bins, whisper.max_source_positions) == (32, 80, 1500)
    assert whole.audio_encoder.longest == 480_000
    lengths = torch.tensor([16_000, 480_000])
    frames = whole.audio_encoder.num_frames(lengths)
    assert frames[:, 0].tolist() == [1500, 1500] and int(frames[1, 1]) == 1496
    assert whole.connector.num_tokens(frames).tolist() == [88, 88]


@pytest.mark.parametrize(
    ("variant", "reference"), [("13b", "lmsys/vicuna-13b-v1.1"), ("7b", "lmsys/vicuna-7b-v1.5")]
)
def test_config(variant: str, reference: str) -> None:
    config = SALMONN.full_size(variant)
    assert config.text_model_ref == reference
    lora = config.lora["language_model"]
    assert (lora.rank, lora.alpha, lora.targets, lora.dropout) == (8, 32.0, ("q_proj", "v_proj"), 0.1)
    assert config.audio_in.clip_before == "<Speech>" and config.audio_in.clip_after == "</Speech>"
    assert config.audio_in.text_apart and config.audio_token_id == config.vocab_size == 32_000
    again = type(config)(**config.to_dict())
    assert again.to_dict() == config.to_dict()


def test_a_frozen_beats_has_no_dropout() -> None:
    """The published cfg has some, which would act whenever the whole model is trained."""
    cfg = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "dropout_input"), 0.1)
    record = beats_record(BeatsConfig(**cfg, encoder_layerdrop=0.05, predictor_dropout=0.1), "beats.pt")
    assert record["ref"] == "beats.pt" and record["type"] == "beats"
    drops = {name: value for name, value in record.items() if "drop" in name}
    assert len(drops) == 6 and set(drops.values()) == {0.0}


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="'13b' or '7b'"):
        SALMONN.full_size("70b")
