"""Tell weights apart at little cost: which language model, which encoder a model was trained with.

Another language model than the trained one loads without a complaint if its sizes fit, and then answers nothing or
nonsense. A fingerprint that is stored with the model turns that into an error.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.lora import is_adapter, plain_name

SAMPLES = 16  # values of each tensor that are looked at
SMALLEST = 2.0**-13  # values below count as zero, as half precision blurs them
_GOLDEN = 0.6180339887498949
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# buffers in old files, and a vector that checkpoints may lack
_NOT_TRAINED = ("inv_freq", "position_ids", "masked_spec_embed")
UNKNOWN = "0" * 16  # instead of a hash


def fingerprint(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """Hash names, shapes and a fixed sample of the values of a part's own weights.

    Adapters do not count, merged ones do. Weights give the same hash in float32 and rounded to bfloat16; those
    that are stored in half precision also in float32 and bfloat16. Float32 weights rounded to half precision are
    other weights. 16 values of each tensor are read, whatever its size: 25 ms for the 291 tensors of
    an 8B Llama on one core.

    Args:
        weights: A module, of which parameters count, or their state dict.

    Returns:
        32 hex digits: the first half of vectors and embeddings, which 4-bit loading leaves as they are, the
        second of all other weights, or zeros if those are quantised.

    Raises:
        ModelError: There are no values (weights on the meta device, or none at all).
    """
    kept: tuple[list[Any], list[Any]] = ([], [])
    quantised = False
    for name, tensor in sorted(_own(weights)):
        if tensor.dtype not in _FLOATS:
            quantised = True
            continue
        kept[tensor.dim() > 1 and "emb" not in name].append((name, tensor))
    halves = [_hash(rows) for rows in kept]
    return halves[0] + (UNKNOWN if quantised else halves[1])


def same_weights(first: str, second: str) -> bool:
    """Whether two fingerprints are of the same weights, as far as both tell."""
    pairs = [(first[:16], second[:16]), (first[16:32], second[16:32])]
    return all(a == b or UNKNOWN in (a, b) for a, b in pairs)


def check_weights(
    recorded: str | None, weights: nn.Module | Mapping[str, Tensor], part: str, given: str, where: str
) -> None:
    """Refuse weights that are not those a model was trained with.

    Args:
        recorded: An entry of ``config.fingerprints``: the hash, a space, and where the weights came from. None if
            nothing was recorded, which accepts any.
        weights: What was loaded. Weights that were offloaded cannot be looked at, and are not checked.
        part: Such as "language_model".
        given: Where it was loaded from.
        where: The model, for the message.

    Raises:
        CheckpointError: Others; names both.
    """
    values = weights.parameters() if isinstance(weights, nn.Module) else weights.values()
    if not recorded or any(value.is_meta for value in values):
        return
    wanted, _, name = recorded.partition(" ")
    found = fingerprint(weights)
    if not same_weights(wanted, found):
        raise CheckpointError(
            f"{where} was trained with the {part} {name or 'of fingerprint ' + wanted!r}; {given!r} holds other "
            f"weights (fingerprint {found[:16]}, wanted {wanted[:16]}), with which it would answer nothing or "
            "nonsense. Give those it was trained with (float32 weights rounded to float16 count as others: load "
            "bfloat16 or float32), or pass accept_other=True (vivavoce convert --accept-other)."
        )


def _own(weights: nn.Module | Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Plain names and values, adapters and repeats (tied weights) left out."""
    items = dict(weights.named_parameters() if isinstance(weights, nn.Module) else weights.items())
    seen = set()
    for name, tensor in items.items():
        if is_adapter(name) or name.endswith(_NOT_TRAINED):
            continue
        if name.rpartition(".")[0] in items:  # how a quantised weight is scaled, beside it in state dicts
            continue
        if tensor.is_meta:
            raise ModelError(
                f"{name} has no values (it is on the meta device); fingerprints need the weights."
            )
        place = (tensor.data_ptr(), tensor.shape)
        if place in seen:
            continue
        seen.add(place)
        yield plain_name(name), tensor


def _hash(rows: list[tuple[str, Tensor]]) -> str:
    if not rows:
        return hashlib.sha256(b"none").hexdigest()[:16]
    digest = hashlib.sha256()
    for name, tensor in rows:
        digest.update(name.encode())
        digest.update(struct.pack(f"<{tensor.dim()}q", *tensor.shape))
    samples = [_sample(tensor.detach()) for _, tensor in rows]
    for device in {sample.device for sample in samples}:  # one transfer from each device
        here = [i for i, sample in enumerate(samples) if sample.device == device]
        pieces = torch.cat([samples[i] for i in here]).cpu().split([len(samples[i]) for i in here])
        for i, piece in zip(here, pieces, strict=True):
            samples[i] = piece
    rounded = torch.cat(samples).to(torch.bfloat16)
    rounded = torch.where(rounded.abs() < SMALLEST, 0.0, rounded).to(torch.bfloat16)
    digest.update(rounded.view(torch.int16).numpy().astype("<i2").tobytes())
    return digest.hexdigest()[:16]


def _sample(tensor: Tensor) -> Tensor:
    """Values at fixed places all over a tensor, float32 [SAMPLES or fewer]."""
    count = tensor.numel()
    places = range(count)
    if count > SAMPLES:
        places = [int(count * (k * _GOLDEN % 1.0)) for k in range(SAMPLES)]  # type: ignore[assignment]
    index = torch.tensor(list(places), device=tensor.device, dtype=torch.long)
    if tensor.dim() == 0:
        return tensor.float().reshape(1)
    return tensor[torch.unravel_index(index, tensor.shape)].float()
