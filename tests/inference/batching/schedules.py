"""Tiny random models of several architectures, and schedules of what is fed to their sequences."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from tests.models.tiny import text_config
from transformers import AutoConfig, AutoModelForCausalLM

V = 60
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, tied, biased": {"tie": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    "llama 3.1 positions": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1e4,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        "head_dim": 16,
    },
    "linear positions": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": False},
    "qwen3": {"model_type": "qwen3", "head_dim": 16, "num_key_value_heads": 1},
    # by modules
    "gemma2": {"model_type": "gemma2", "head_dim": 8, "sliding_window": 4096},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "olmo2": {"model_type": "olmo2"},
    "falcon with alibi": {"model_type": "falcon", "alibi": True, "new_decoder_architecture": False},
    "dynamic positions": {
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        "max_position_embeddings": 24,
    },
    "sliding window": {"model_type": "mistral", "sliding_window": 8},
}
LEAN = list(KINDS)[:8]
BY_MODULES = list(KINDS)[8:]


def build(kind: str, seed: int = 0) -> Any:
    """A new model."""
    torch.manual_seed(seed)
    given = dict(KINDS[kind])
    config = text_config(V, given.pop("tie", False), **{"pad_token_id": None, **given})
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()


@lru_cache(maxsize=16)
def made(kind: str) -> Any:
    """A model of ``KINDS``, made once; its weights must not be changed."""
    return build(kind)


def random_ids(count: int, seed: int) -> list[int]:
    return torch.randint(0, V, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def whole(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits [L, V] of one pass over a whole sequence, without a cache."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
