"""New rows of a language model's input and output embeddings: how many, and what is in them at first.

Letters: V rows, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INITS = ("mean", "normal", "copy")
_CHUNK_ROWS = 4096


def num_embedding_rows(model: PreTrainedModel) -> int:
    """Rows of the input embedding of a Hugging Face model.

    Raises:
        ModelError: the model has no input embedding.
    """
    embedding = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    weight = getattr(embedding, "weight", None)
    if not isinstance(weight, Tensor):
        raise ModelError(
            f"{type(model).__name__} has no input embedding; wanted a Hugging Face language model."
        )
    return weight.shape[0]


def padded_rows(rows: int, multiple: int | None) -> int:
    """Round ``rows`` up to a multiple (128 suits tensor cores and tensor parallelism).

    Raises:
        ConfigError: the multiple is not positive.
    """
    if multiple is None:
        return rows
    if multiple < 1:
        raise ConfigError(f"pad_to_multiple_of is {multiple}, wanted 1 or more, such as 64 or 128.")
    return -(-rows // multiple) * multiple


def check_init(init: str) -> None:
    """Refuse an unknown initialisation.

    Raises:
        ConfigError: not one of ``INITS``.
    """
    if init not in INITS:
        raise ConfigError(f"unknown initialisation {init!r}; known: {', '.join(INITS)}.")


def grow_embeddings(
    model: PreTrainedModel, *, num_text_rows: int, num_tokens: int, num_rows: int, init: str, seed: int
) -> dict[str, Any]:
    """Resize the embeddings and fill the rows of new tokens and of padding.

    ``mean``: the mean of the text rows plus 1 % of their spread, so that new tokens start unlikely, equal in
    effect and yet not identical. ``normal``: N(0, ``config.initializer_range``), what plain resizing gave in
    2024.
    ``copy``: each new row is a text row drawn at random. Rows are drawn in float32 on the CPU from ``seed``
    and then cast, so they do not depend on the device; input and output rows come from different draws.

    Args:
        model: A Hugging Face causal LM; changed in place. Tied embeddings stay tied.
        num_text_rows: Rows [0, num_text_rows) belong to the text tokens.
        num_tokens: Rows [num_text_rows, num_tokens) belong to the new tokens.
        num_rows: Rows afterwards, at least those the model has; rows from ``num_tokens`` on that are new get
            the same filling, those the model had are left alone.
        init: One of ``INITS``.
        seed: For the draws.

    Returns:
        What was done, for the record: method, seed, tied, rows.

    Raises:
        ConfigError: unknown ``init``.
    """
    check_init(init)
    had_rows = num_embedding_rows(model)
    if num_rows != had_rows:
        model.resize_token_embeddings(num_rows, pad_to_multiple_of=1, mean_resizing=False)
    fill = list(range(num_text_rows, num_tokens)) + list(range(max(had_rows, num_tokens), num_rows))
    source: Any = model.get_input_embeddings().weight
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    target = getattr(head, "weight", None)
    tied = target is source
    std = float(getattr(model.config.get_text_config(), "initializer_range", None) or 0.02)
    rows = torch.tensor(fill, dtype=torch.long)
    with torch.no_grad():
        _fill(source, rows, num_text_rows, init, std, torch.Generator().manual_seed(seed))
        if isinstance(target, Tensor) and not tied:
            _fill(target, rows, num_text_rows, init, std, torch.Generator().manual_seed(seed + 1))
        bias = getattr(head, "bias", None)
        if isinstance(bias, Tensor):
            bias[rows.to(bias.device)] = bias[:num_text_rows].float().mean().to(bias.dtype)
    return {"method": init, "seed": seed, "tied": tied, "rows": [num_text_rows, num_tokens, num_rows]}


def _fill(weight: Tensor, rows: Tensor, text: int, init: str, std: float, generator: torch.Generator) -> None:
    """Write rows [R] of ``weight`` [V, D] in place, a few thousand at a time to bound memory."""
    if weight.is_meta:
        return
    width = weight.shape[1]
    if init == "mean":
        mean, spread = _moments(weight[:text])
    for chunk in rows.split(_CHUNK_ROWS):
        if init == "copy":
            picked = torch.randint(text, (len(chunk),), generator=generator)
            values = weight[picked.to(weight.device)]
        elif init == "normal":
            values = torch.randn(len(chunk), width, generator=generator) * std
        else:
            values = mean + 0.01 * spread * torch.randn(len(chunk), width, generator=generator)
        weight[chunk.to(weight.device)] = values.to(weight.device, weight.dtype)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] over rows [V, D], float32 on the CPU, summed in float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    square = torch.zeros_like(total)
    for chunk in rows.split(_CHUNK_ROWS):
        values = chunk.detach().to("cpu", torch.float64)
        total += values.sum(0)
        square += values.square().sum(0)
    mean = total / len(rows)
    return mean.float(), (square / len(rows) - mean.square()).clamp_min(0).sqrt().float()
