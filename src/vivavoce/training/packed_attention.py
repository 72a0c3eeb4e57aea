"""Attention of several documents in one row, each within itself, for any model of transformers that passes it on.

The implementation is registered with transformers as "vivavoce_packed". It reads the documents' lengths from the
arguments that models hand down to attention; without them, as in generation, it is "sdpa". Letters: B rows, H heads,
L positions, D width of a head, n documents.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from vivavoce.base.errors import ModelError

NAME = "vivavoce_packed"
FALLBACK = "sdpa"
_LENGTHS = ("document_lengths", "cu_seq_lens_q")
_packed: ContextVar[bool] = ContextVar("packed", default=False)


def length_arguments(lengths: tuple[int, ...], borders: Tensor) -> dict[str, Any]:
    """Arguments of a model's forward that tell attention where documents end.

    On a GPU the borders go as a tensor, so that compiled layers are not compiled anew for every batch.

    Args:
        lengths: Of the documents, positions; they follow each other.
        borders: int32 [n + 1], 0 and the sums of lengths, on the model's device.
    """
    if borders.device.type == "cpu":
        return {"document_lengths": lengths}
    longest = max(lengths)
    return {
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each document, causally; transformers calls it for every layer.

    Args:
        module: The attention layer.
        query: float [1, H, L, D].
        key, value: float [1, H_kv, L, D]; H is a multiple of H_kv.
        attention_mask: Only read where no lengths are given.
        dropout: Of attention weights.
        scaling: Of scores; None for ``D ** -0.5``.
        kwargs: ``document_lengths``, or ``cu_seq_lens_q`` int32 [n + 1] with ``max_length_q``.

    Returns:
        float [1, L, H, D], and None for the weights.

    Raises:
        ModelError: The layer wants what this attention does not do, or lengths and row do not fit.
    """
    lengths, borders = kwargs.get("document_lengths"), kwargs.get("cu_seq_lens_q")
    if lengths is None and borders is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if len(query) != 1 or key.shape[2] != query.shape[2]:
        raise ModelError(
            f"packed documents came as {len(query)} rows of {query.shape[2]} positions with {key.shape[2]} keys; "
            "wanted one row and no cache. Give use_cache=False, and every batch as one row."
        )
    longest = max(lengths) if lengths is not None else kwargs.get("max_length_q")
    _refuse(module, kwargs, query.shape[2] if longest is None else longest)
    if borders is not None and longest is not None and _kernel_takes(query, value, dropout):
        made = _by_kernel(query, key, value, borders, longest, scaling)
    else:
        if lengths is None:
            lengths = tuple(borders.diff().tolist())  # type: ignore[union-attr]
        if sum(lengths) != query.shape[2]:
            raise ModelError(f"documents of {sum(lengths)} positions in a row of {query.shape[2]}.")
        made = _by_document(query, key, value, lengths, dropout, scaling)
    return made, None


def _refuse(module: nn.Module, kwargs: Mapping[str, Any], longest: int) -> None:
    """Raise ModelError for kinds of attention that are not done here."""
    window = kwargs.get("sliding_window")
    wanted = {
        f"a sliding window of {window}, and the longest document has {longest} positions": (
            window is not None and longest > window
        ),
        "capped scores": kwargs.get("softcap") is not None,
        "attention sinks": kwargs.get("s_aux") is not None,
        "a position bias": kwargs.get("position_bias") is not None,
        "attention that looks ahead": kwargs.get("is_causal", getattr(module, "is_causal", True)) is False,
    }
    found = [what for what, is_so in wanted.items() if is_so]
    if found:
        raise ModelError(
            f"{type(module).__name__} wants {' and '.join(found)}; packed attention does not do that. Train this model "
            'with attention "sdpa" or "eager", which packs by position_ids.'
        )


def _by_document(
    query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], dropout: float, scaling: float | None
) -> Tensor:
    """Attend document by document, those of equal length together; float [1, L, H, D]."""
    options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "is_causal": True}
    options["enable_gqa"] = query.shape[1] != key.shape[1]
    if len(lengths) == 1:
        return F.scaled_dot_product_attention(query, key, value, **options).transpose(1, 2)
    pieces = [x[0].split(lengths, dim=1) for x in (query, key, value)]
    alike: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        alike.setdefault(length, []).append(i)
    made: list[Any] = [None] * len(lengths)
    for group in alike.values():
        q, k, v = (torch.stack([side[i] for i in group]) for side in pieces)
        found = F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)
        for i, document in zip(group, found.unbind(), strict=True):
            made[i] = document
    return torch.cat(made)[None]


@cache
def _kernel() -> Any:
    """The kernel of torch for documents of different lengths, and the names of its arguments."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def _kernel_takes(query: Tensor, value: Tensor, dropout: float) -> bool:
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1] <= 256
        and dropout == 0
    )


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, borders: Tensor, longest: int, scaling: float | None
) -> Tensor:
    """Attend in one launch on a GPU; float [1, L, H, D]."""
    attend, takes = _kernel()
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [L, H, D]
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in takes else {"is_causal": True}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in takes:
            options["enable_gqa"] = True
        else:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    if scaling is not None and "scale" not in takes:
        q = q * (scaling * q.shape[-1] ** 0.5)
    elif scaling is not None:
        options["scale"] = scaling
    made: Tensor = attend(q, k, v, borders, borders, longest, longest, **options)
    return made[None]


def packed_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask of "sdpa"; none while lengths are given, which say it all."""
    return None if _packed.get() else sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, packed_mask)


def _note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    _packed.set(any(kwargs.get(name) is not None for name in _LENGTHS))


def use_packed_attention(language_model: PreTrainedModel) -> str:
    """Make a causal LM attend within packed documents, and see that it does.

    Two documents are packed behind each other; what the first one says must not change what the second one gives.
    A model that hands no arguments down to its attention gets "sdpa", for which transformers makes masks from
    position ids: right as well, but slower, as scores across documents are computed and thrown away.

    Args:
        language_model: Any causal LM of transformers; its attention is set for good, and generation still works.

    Returns:
        "vivavoce_packed" or "sdpa".

    Raises:
        ModelError: Documents see each other whatever the attention, as in models with recurrent or convolution layers.
    """
    decoder = language_model.get_decoder()
    if not getattr(decoder, "_tells_packing", False):
        decoder.register_forward_pre_hook(_note, with_kwargs=True)
        decoder._tells_packing = True  # type: ignore[assignment]
    for name in (NAME, FALLBACK):
        language_model.set_attn_implementation(name)
        if not documents_see_each_other(language_model):
            return name
    raise ModelError(
        f"in {type(language_model).__name__} a document sees the one packed before it, by {NAME!r} and by {FALLBACK!r} "
        "attention; such models cannot be trained on packed documents. Take another language model."
    )


@torch.no_grad()
def documents_see_each_other(language_model: PreTrainedModel) -> bool:
    """Whether a document changes what the model gives for the one packed behind it, beyond rounding."""
    lengths = (3, 4)
    device = next(language_model.parameters()).device
    borders = torch.tensor([0, 3, 7], dtype=torch.int32, device=device)
    inputs = length_arguments(lengths, borders) | {"use_cache": False}
    positions = torch.tensor([[*range(3), *range(4)]], device=device)
    with _evaluating(language_model):
        one, other = (
            language_model(
                input_ids=torch.tensor([[*first, 1, 2, 3, 4]], device=device),
                position_ids=positions,
                **inputs,
            )
            .logits[0, 3:]
            .float()
            for first in ((1, 2, 3), (5, 6, 7))
        )
    return not torch.allclose(one, other, rtol=1e-2, atol=1e-3 * float(one.abs().max()))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout; afterwards every module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
