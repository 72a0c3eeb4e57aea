"""Documents and tiny language models for tests of packed training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tests.models.tiny import text_config
from transformers import AutoConfig, AutoModelForCausalLM

from vivavoce.models.clips import ClipInputs
from vivavoce.training.documents import Document

VOCABULARY = 60
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, all heads": {"num_key_value_heads": 4},
    "llama, tied": {"tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "gpt_neox": {"model_type": "gpt_neox"},
    "phi3": {"model_type": "phi3", "pad_token_id": 0},
}


def language_model(seed: int = 0, **more: Any) -> Any:
    """A random two-layer causal LM."""
    torch.manual_seed(seed)
    values = text_config(VOCABULARY, **more)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    return AutoModelForCausalLM.from_config(config).eval()


def document(
    length: int, seed: int = 0, learned: float = 0.6, slots: int = 0, vocabulary: int = 50
) -> Document:
    """Random tokens, of which about so many are learned with weights that are not all one; the last one always."""
    rng = np.random.default_rng(seed)
    weights = ((rng.random(length) < learned) * rng.choice([0.5, 1.0, 2.0], length)).astype(np.float32)
    weights[-1:] = 1.0
    weights[:1] = 0.0
    kinds = rng.integers(0, slots + 2, length) if slots else np.zeros(length)
    ids = rng.integers(0, vocabulary, length)
    return Document(f"d{seed}", "set", ids, weights, kinds.astype(np.int8))


def hearing(
    made: Document, counts: list[int], lengths: list[int], placeholder: int, mels: int = 80
) -> Document:
    """The document with clips at its beginning, apart by one token each.

    Args:
        made: Changed in place.
        counts: Embeddings of each clip.
        lengths: Mel frames of each clip.
        placeholder: Id at their positions.
        mels: Mel bins.
    """
    at = 1
    for count in counts:
        made.input_ids[at : at + count] = placeholder
        made.kinds[at : at + count], made.weights[at : at + count] = -1, 0.0
        at += count + 1
    torch.manual_seed(len(made))
    features = torch.randn(len(lengths), mels, max(lengths))
    for row, length in zip(features, lengths, strict=True):
        row[:, length:] = 0
    made.features = ClipInputs(features, torch.tensor(lengths), [1] * len(lengths), counts)
    made.audio_s = sum(lengths) / 100
    return made


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """Gradients by name, taken away from the model."""
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_same_gradients(one: dict[str, Any], other: dict[str, Any], within: float = 1e-5) -> None:
    assert one.keys() == other.keys() and one
    assert any(float(g.abs().max()) > 1e-3 for g in one.values())
    for name, gradient in one.items():
        size = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(
            gradient, other[name], rtol=0, atol=within * size, msg=lambda m, n=name: f"{n}: {m}"
        )
