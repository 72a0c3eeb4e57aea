"""Published sizes of Ultravox, of the Whisper encoders it uses and of the language models it was made for.

Source: configs and cards of the hub repositories. Left out is what is not known for sure: v0.1, v0.2, and v0.7, whose
number of projector layers is not public here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from transformers import AutoConfig, PreTrainedConfig

from vivavoce.base.errors import ConfigError

# hub id -> fields of transformers' WhisperConfig that the encoder reads
WHISPERS: dict[str, dict[str, Any]] = {
    "openai/whisper-small": {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12,
                             "encoder_ffn_dim": 3072, "num_mel_bins": 80},
    "openai/whisper-medium": {"d_model": 1024, "encoder_layers": 24, "encoder_attention_heads": 16,
                              "encoder_ffn_dim": 4096, "num_mel_bins": 80},
    "openai/whisper-large-v3-turbo": {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20,
                                      "encoder_ffn_dim": 5120, "num_mel_bins": 128},
}  # fmt: skip

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _llama3(factor: float = 8.0, **sizes: Any) -> dict[str, Any]:
    """Llama 3.1 to 3.3."""
    return {
        "model_type": "llama",
        "vocab_size": 128_256,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {**_LLAMA3_ROPE, "factor": factor},
        "bos_token_id": 128_000,
        "eos_token_id": [128_001, 128_008, 128_009],
        **sizes,
    }


_8B = _llama3(hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32)
_70B = _llama3(hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80, num_attention_heads=64)

# hub id -> fields of transformers' config
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.2-1B-Instruct": _llama3(
        32.0,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        head_dim=64,
        tie_word_embeddings=True,
    ),
    "meta-llama/Llama-3.1-8B-Instruct": _8B,
    "meta-llama/Llama-3.1-70B-Instruct": _70B,
    "meta-llama/Llama-3.3-70B-Instruct": _70B,
    "mistralai/Mistral-Nemo-Instruct-2407": {
        "model_type": "mistral",
        "vocab_size": 131_072,
        "hidden_size": 5120,
        "intermediate_size": 14_336,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "sliding_window": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "Qwen/Qwen3-32B": {
        "model_type": "qwen3",
        "vocab_size": 151_936,
        "hidden_size": 5120,
        "intermediate_size": 25_600,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40_960,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
    },
    "google/gemma-3-27b-it": {  # its text part
        "model_type": "gemma3_text",
        "vocab_size": 262_208,
        "hidden_size": 5376,
        "intermediate_size": 21_504,
        "num_hidden_layers": 62,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "query_pre_attn_scalar": 168,
        "sliding_window": 1024,
        "max_position_embeddings": 131_072,
    },
}


class Release(NamedTuple):
    """One published model.

    Attributes:
        encoder: Hub id of the Whisper model.
        text_model: Hub id of the language model.
        audio_token_id: ``<|audio|>``, the old length of the tokenizer.
        norm_mid: The norm stands before ``linear_2`` (v0.5 on) and not after it.
        holds_encoder: The release has the encoder's weights, which were trained with the projector.
        holds_text_model: The release has the language model's weights.
    """

    encoder: str
    text_model: str
    audio_token_id: int = 128_256
    norm_mid: bool = False
    holds_encoder: bool = False
    holds_text_model: bool = False


_SMALL, _MEDIUM, _TURBO = WHISPERS
_LLAMA_1B, _LLAMA_8B, _LLAMA_70B, _LLAMA_33_70B, _NEMO, _QWEN, _GEMMA = LANGUAGE_MODELS

RELEASES: dict[str, Release] = {
    "v0_3-8b": Release(_SMALL, _LLAMA_8B, holds_text_model=True),
    "v0_4-8b": Release(_MEDIUM, _LLAMA_8B, holds_text_model=True),
    "v0_4-70b": Release(_MEDIUM, _LLAMA_70B),
    "v0_4_1-8b": Release(_TURBO, _LLAMA_8B),
    "v0_4_1-70b": Release(_TURBO, _LLAMA_70B),
    "v0_4_1-mistral-nemo": Release(_TURBO, _NEMO, 131_072),
    **{
        f"{version}-{size}": Release(_TURBO, text_model, token, norm_mid=True, holds_encoder=True)
        for version, size, text_model, token in (
            ("v0_5", "1b", _LLAMA_1B, 128_256),
            ("v0_5", "8b", _LLAMA_8B, 128_256),
            ("v0_5", "70b", _LLAMA_33_70B, 128_256),
            ("v0_6", "8b", _LLAMA_8B, 128_256),
            ("v0_6", "70b", _LLAMA_33_70B, 128_256),
            ("v0_6", "gemma-27b", _GEMMA, 262_145),
            ("v0_6", "qwen-32b", _QWEN, 151_669),
        )
    },
}


def find_release(variant: str) -> Release:
    """A published model by version and size, such as "v0_5-8b".

    Raises:
        ConfigError: Unknown; names the known ones.
    """
    if variant not in RELEASES:
        raise ConfigError(f"unknown Ultravox {variant!r}; wanted one of {', '.join(RELEASES)}.")
    return RELEASES[variant]


def known_text_config(name: str) -> PreTrainedConfig | None:
    """The config of a language model that a release was made for; None for others."""
    fields = next((v for k, v in LANGUAGE_MODELS.items() if same_name(k, name)), None)
    if fields is None:
        return None
    config: PreTrainedConfig = AutoConfig.for_model(**fields)
    return config


def known_whisper(name: str) -> dict[str, Any] | None:
    """The encoder's config fields of a Whisper that a release uses; None for others."""
    return next((dict(v) for k, v in WHISPERS.items() if same_name(k, name)), None)


def same_name(one: str, other: str) -> bool:
    """Whether two hub ids name the same model, as far as names tell; Meta's first ids say its name twice."""
    first, second = (n.strip("/").lower().replace("/meta-llama-", "/llama-") for n in (one, other))
    if "/" in first and "/" in second:
        return first == second
    return first.rpartition("/")[2] == second.rpartition("/")[2]
