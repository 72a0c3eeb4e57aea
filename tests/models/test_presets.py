"""Presets: full-size configs on the meta device, and which checkpoint gets which preset."""

from __future__ import annotations

import pytest
import torch
from tests.models.tiny import text_config
from transformers import LlamaConfig

from vivavoce.base.errors import ModelError
from vivavoce.codecs.contract import CodecSpec
from vivavoce.models.presets import PRESETS
from vivavoce.models.presets.preset import find_preset
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.tokens.vocabulary import plan_vocabulary

ENCODEC = CodecSpec("encodec_24khz", 24_000, 320, (1, 1), 1024, 0, True)
SNAC = CodecSpec("snac_24khz", 24_000, 2048, (4, 2, 1), 4096, 0, False)

# Llama 3 8B has 8,030,261,248 parameters, Llama 3.2 3B 3,212,749,824 (tied); each added row costs its width,
# twice if the head is not tied
JAN_PARAMETERS = 8_030_261_248 + 2 * 1026 * 4096
ORPHEUS_PARAMETERS = 3_212_749_824 + (156_940 - 128_256) * 3072


def vocabulary_of(name):
    spec, layout = (ENCODEC, "interleaved") if name == "jan_llama3" else (SNAC, "orpheus")
    return plan_vocabulary(layout, spec, num_text_tokens=128_256)


@pytest.mark.parametrize(
    ("name", "rows", "parameters"),
    [
        ("jan_llama3", None, JAN_PARAMETERS),
        (
            "jan_llama3",
            129_408,
            JAN_PARAMETERS + 2 * (129_408 - 129_282) * 4096,
        ),  # padded to a multiple of 128
        ("orpheus", None, ORPHEUS_PARAMETERS),
    ],
)
def test_full_size_builds_from_config_alone_on_the_meta_device(name, rows, parameters):
    preset = PRESETS.get(name)
    text = preset.text_config()
    if rows:
        text.vocab_size = rows
    config = preset.config(text, vocabulary_of(name), preset.codec)
    with torch.device("meta"):
        model = SpeechLM(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert "language_model.model.layers.27.self_attn.q_proj.weight" in model.state_dict()
    assert not [n for n, _ in model.named_parameters() if not n.startswith("language_model.")]


@pytest.mark.parametrize("name", ["jan_llama3", "orpheus"])
def test_audio_tokens_choose_the_preset(name):
    preset = find_preset(vocabulary_of(name), "folder")
    assert preset.name == name
    config = preset.config(preset.text_config(), vocabulary_of(name), "codec")
    assert config.audio_in.type == ("tokens" if name == "jan_llama3" else "none")
    assert config.audio_out.type == ("none" if name == "jan_llama3" else "tokens")
    if name == "orpheus":
        wanted = {"temperature": 0.6, "top_p": 0.8, "repetition_penalty": 1.1}
        assert {k: config.sampling[k] for k in wanted} == wanted


def test_audio_tokens_without_preset_and_too_few_rows_are_refused():
    level_codec = CodecSpec("other", 24_000, 2048, (4, 2, 1), 64, 0, False)
    odd = plan_vocabulary("orpheus", level_codec, style="sound", num_text_tokens=100)
    with pytest.raises(ModelError, match="which no preset"):
        find_preset(odd, "folder")
    small = LlamaConfig(**{k: v for k, v in text_config(128_256).items() if k != "model_type"})
    with pytest.raises(ModelError, match=r"128256 embedding rows, its tokenizer's audio tokens need 129282"):
        PRESETS.get("jan_llama3").config(small, vocabulary_of("jan_llama3"), "codec")
