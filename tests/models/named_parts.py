"""Tiny published parts as folders, and models that name them: a language model, Whisper, WavLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.models.tiny import NUM_MELS, PLACEHOLDER, TEXT_VOCAB, text_config
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

from vivavoce.models.config import Lora, SpeechLMConfig
from vivavoce.models.encoders.references import feature_settings
from vivavoce.models.lora import add_lora, lora_parameters
from vivavoce.models.speech_lm import SpeechLM

WHISPER = {
    "num_mel_bins": NUM_MELS,
    "max_source_positions": 50,
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
}
WAVLM = {
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8, 8],
    "conv_stride": [20, 16],
    "conv_kernel": [40, 16],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
KINDS = ("whisper", "huggingface", "two", "one of two")
TARGETS = {"whisper": ("k_proj", "q_proj")}  # of the encoder's adapters


def language_model(rows: int = TEXT_VOCAB, seed: int = 7, **more: Any) -> Any:
    """A random language model of the sizes of ``tiny.text_config``."""
    torch.manual_seed(seed)
    fields = {k: v for k, v in text_config(rows, **more).items() if k != "model_type"}
    return AutoModelForCausalLM.from_config(LlamaConfig(**fields)).eval()


def make_parts(folder: Path, rows: int = TEXT_VOCAB, **text: Any) -> Path:
    """Write ``llm``, ``whisper`` and ``wavlm`` into a folder, as others publish them."""
    torch.manual_seed(8)
    decoder = {"vocab_size": 20, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8}
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
    models = {
        "llm": language_model(rows, **text),
        "whisper": WhisperModel(WhisperConfig(**WHISPER, **decoder, **ends)),
        "wavlm": WavLMModel(WavLMConfig(**WAVLM)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return folder


def encoder_of(parts: Path, kind: str) -> tuple[dict[str, Any], int]:
    """Record and width of an encoder that names its weights; "one of two" stores the second."""
    whisper = {"type": "whisper", "model": WHISPER, "ref": str(parts / "whisper")}
    wavlm = {"type": "huggingface", "model": {"model_type": "wavlm", **WAVLM}, "ref": str(parts / "wavlm")}
    if kind == "whisper":
        return whisper, 16
    if kind == "huggingface":
        return wavlm, 12
    if kind == "one of two":
        del wavlm["ref"]
    return {"type": "dual", "first": whisper, "second": wavlm}, 28


def naming_model(
    parts: Path,
    kind: str = "whisper",
    lora: bool = True,
    text: bool = True,
    rows: int = TEXT_VOCAB,
    placeholder: int = PLACEHOLDER,
) -> SpeechLM:
    """A model whose named parts are loaded, with a random connector and adapters that say something."""
    torch.manual_seed(1)
    encoder, size = encoder_of(parts, kind)
    stack = {"type": "stack", "encoder_size": size, "text_size": 32, "stack_factor": 2, "hidden_size": 24}
    side = {"type": "embeddings", "encoder": encoder, "connector": stack, "audio_token_id": placeholder}
    side |= {"features": feature_settings(encoder), "shortest_samples": 320, "text_apart": True}
    config = SpeechLMConfig(
        text_config=text_config(rows), audio_in=side, text_model_ref=str(parts / "llm") if text else None
    )
    model = SpeechLM(config, text_model=AutoModelForCausalLM.from_pretrained(parts / "llm"))
    for prefix in model.audio_encoder.references():
        model.audio_encoder.load_reference(prefix)
    if lora:
        add_lora(model, "language_model", Lora(rank=2))
        add_lora(model, "audio_encoder", Lora(rank=2, targets=TARGETS.get(kind, ("k_proj",))))
        for part in model.config.lora:
            for parameter in lora_parameters(model, part):
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def logits(model: SpeechLM) -> torch.Tensor:
    """What a model answers to one clip."""
    torch.manual_seed(3)
    waves = model.audio_encoder.takes == "waveform"
    features = torch.randn(1, 6400) if waves else torch.randn(1, NUM_MELS, 40)
    with torch.no_grad():
        count, placeholder = int(model.hear(features).counts), model.config.audio_token_id
        ids = torch.tensor([[1, *[placeholder] * count, 2, 3]])
        answer: torch.Tensor = model(input_ids=ids, input_features=features).logits
    return answer
