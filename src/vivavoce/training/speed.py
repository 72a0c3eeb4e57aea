"""What a token costs and what a device could do: model FLOP utilisation."""

from __future__ import annotations

from typing import Any

import torch

# dense bfloat16 peak, FLOP/s, by a part of the device's name; makers' data sheets
PEAKS = (
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("A6000", 155e12),
)


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 peak of a device, FLOP/s; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS if part in name), None)


def flops_per_token(model: Any, length: int) -> float:
    """What one position costs forwards and backwards in full training.

    ``6 * (parameters without input embeddings) + 12 * layers * heads * head size * length``; frozen parts save up to a
    third of it, which is not counted off.

    Args:
        model: A causal LM, or a speech LM around one.
        length: Mean length of a document.

    Source: the convention of torchtitan and PaLM's appendix B.
    """
    language_model = getattr(model, "language_model", model)
    config = language_model.config.get_text_config()
    embeddings = language_model.get_input_embeddings().weight
    tied = language_model.get_output_embeddings().weight is embeddings
    parameters = sum(p.numel() for p in language_model.parameters()) - (0 if tied else embeddings.numel())
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 6.0 * parameters + 12.0 * config.num_hidden_layers * config.num_attention_heads * head_dim * length
