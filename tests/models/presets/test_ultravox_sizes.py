"""Published sizes of Ultravox, without weights: names, shapes and numbers of parameters."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from vivavoce.base.errors import ConfigError
from vivavoce.models.presets.ultravox.keys import our_name, their_name
from vivavoce.models.presets.ultravox.preset import ULTRAVOX
from vivavoce.models.presets.ultravox.sizes import LANGUAGE_MODELS, RELEASES, WHISPERS, known_text_config
from vivavoce.models.references import references
from vivavoce.models.speech_lm import SpeechLM

# published numbers of parameters; Gemma's is of its text part
TEXT_MODELS = {
    "meta-llama/Llama-3.2-1B-Instruct": (2048, 1_235_814_400),
    "meta-llama/Llama-3.1-8B-Instruct": (4096, 8_030_261_248),
    "meta-llama/Llama-3.1-70B-Instruct": (8192, 70_553_706_496),
    "meta-llama/Llama-3.3-70B-Instruct": (8192, 70_553_706_496),
    "mistralai/Mistral-Nemo-Instruct-2407": (5120, 12_247_782_400),
    "Qwen/Qwen3-32B": (5120, 32_762_123_264),
    "google/gemma-3-27b-it": (5376, 27_009_346_304),
}
ENCODERS = {  # width, inner width, layers, bins, parameters of the encoder alone
    "openai/whisper-small": (768, 3072, 12, 80, 88_154_112),
    "openai/whisper-medium": (1024, 4096, 24, 80, 307_216_384),
    "openai/whisper-large-v3-turbo": (1280, 5120, 32, 128, 636_968_960),
}


def build(variant: str) -> SpeechLM:
    """Ears, and the language model where the release holds it."""
    config = ULTRAVOX.full_size(variant)
    with torch.device("meta"):
        return SpeechLM(config, defer_text_model=config.text_model_ref is not None)


def shapes(model: SpeechLM) -> dict[str, list[int]]:
    """What a release stores, under its own names."""
    elsewhere = tuple(references(model))
    held = {n: t for n, t in model.state_dict().items() if not n.startswith(elsewhere or "-")}
    return {their_name(n): list(t.shape) for n, t in held.items()}


def projector(encoder: int, text: int, mid: bool) -> dict[str, list[int]]:
    return {
        "multi_modal_projector.ln_pre.weight": [8 * encoder],
        "multi_modal_projector.linear_1.weight": [4096, 8 * encoder],
        "multi_modal_projector.linear_2.weight": [text, 2048],
        **(
            {"multi_modal_projector.ln_mid.weight": [2048]}
            if mid
            else {"multi_modal_projector.ln_post.weight": [text]}
        ),
    }


def audio_tower(width: int, inner: int, layers: int, bins: int) -> dict[str, list[int]]:
    """Whisper's encoder as transformers names it; keys have no bias."""
    layer = {
        **{f"self_attn.{n}_proj.weight": [width, width] for n in ("q", "k", "v", "out")},
        **{f"self_attn.{n}_proj.bias": [width] for n in ("q", "v", "out")},
        **{
            f"{n}.{k}": [width]
            for n in ("self_attn_layer_norm", "final_layer_norm")
            for k in ("weight", "bias")
        },
        **{
            "fc1.weight": [inner, width],
            "fc1.bias": [inner],
            "fc2.weight": [width, inner],
            "fc2.bias": [width],
        },
    }
    return {
        "audio_tower.conv1.weight": [width, bins, 3],
        "audio_tower.conv1.bias": [width],
        "audio_tower.conv2.weight": [width, width, 3],
        "audio_tower.conv2.bias": [width],
        "audio_tower.embed_positions.weight": [1500, width],
        **{f"audio_tower.layers.{i}.{n}": s for i in range(layers) for n, s in layer.items()},
        "audio_tower.layer_norm.weight": [width],
        "audio_tower.layer_norm.bias": [width],
    }


@pytest.mark.parametrize("variant", RELEASES)
def test_names_shapes_and_numbers(variant: str) -> None:
    release, model = RELEASES[variant], build(variant)
    width, inner, layers, bins, encoder_size = ENCODERS[release.encoder]
    text_width, _ = TEXT_MODELS[release.text_model]
    wanted = projector(width, text_width, release.norm_mid)
    if release.holds_encoder:
        wanted |= audio_tower(width, inner, layers, bins)
    found = shapes(model)
    assert {n: s for n, s in found.items() if not n.startswith("language_model.")} == wanted
    assert release.holds_text_model is any(n.startswith("language_model.") for n in found)
    assert sum(p.numel() for p in model.audio_encoder.parameters()) == encoder_size
    assert model.config.text_model_ref in (None, release.text_model)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert all(our_name(n) in model.state_dict() for n in found)
    ears = model.config.audio_in
    assert ears.features == {"num_mels": bins, "ending": "hop"} and model.audio_encoder.longest == 3000
    assert model.config.audio_token_id >= LANGUAGE_MODELS[release.text_model]["vocab_size"] - 400


@pytest.mark.parametrize("name", [n for n in LANGUAGE_MODELS if n != "meta-llama/Llama-3.3-70B-Instruct"])
def test_language_models(name: str) -> None:
    config = known_text_config(name)
    assert config is not None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert (config.hidden_size, sum(p.numel() for p in model.parameters())) == TEXT_MODELS[name]


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("v0_4-8b", 41_955_328), ("v0_4_1-8b", 50_345_984), ("v0_4_1-70b", 58_738_688), ("v0_5-8b", 50_343_936)],
)
def test_projectors(variant: str, parameters: int) -> None:
    """Published as 42M (with whisper-medium), 50.3M (101 MB in bfloat16) and 58.7M (117 MB)."""
    assert sum(p.numel() for p in build(variant).connector.parameters()) == parameters


def test_release_files() -> None:
    """v0.5 8B: 0.7B parameters, 1.37 GB in bfloat16; v0.3: 16 GB with its language model."""
    counts = {
        v: sum(torch.Size(s).numel() for s in shapes(build(v)).values()) for v in ("v0_5-8b", "v0_3-8b")
    }
    assert counts["v0_5-8b"] == 687_312_896 and round(2 * counts["v0_5-8b"] / 1e9, 2) == 1.37
    assert round(2 * counts["v0_3-8b"] / 1e9) == 16


def test_every_size_is_of_something_listed() -> None:
    assert {r.encoder for r in RELEASES.values()} == set(WHISPERS) == set(ENCODERS)
    assert {r.text_model for r in RELEASES.values()} == set(LANGUAGE_MODELS) == set(TEXT_MODELS)
    with pytest.raises(ConfigError, match=r"unknown Ultravox 'v9'; wanted one of v0_3-8b, .*v0_6-qwen-32b"):
        ULTRAVOX.full_size("v9")
