"""Reading and writing SNAC folders: ``config.json`` beside ``model.safetensors`` or ``pytorch_model.bin``."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vivavoce.base.errors import CheckpointError, ConfigError
from vivavoce.codecs.snac.config import SNACConfig

_NORM, _DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"


def read_config(folder: Path) -> SNACConfig:
    """Read ``config.json`` of a codec folder.

    Raises:
        CheckpointError: The file is missing, is not JSON, or its settings are not those of a SNAC codec.
    """
    from vivavoce.codecs.folders import read_json

    values = read_json(folder)
    try:
        return SNACConfig.from_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weight file; a ``.bin`` with ``weights_only=True``, so nothing in it is ever run.

    Raises:
        CheckpointError: The file cannot be read as a table of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} does not hold a plain table of tensors.")
    return tensors


def load_weights(network: nn.Module, folder: Path) -> str:
    """Fill a weight-normed network from a folder; every key and shape must agree.

    Returns:
        The fingerprint of the weights.

    Raises:
        CheckpointError: No weights, an unreadable file, or tensors missing, unexpected or of a wrong shape.
    """
    from vivavoce.codecs.folders import check_tensors, weight_file

    path = weight_file(folder)
    tensors, wanted = read_tensors(path), network.state_dict()
    check_tensors(
        path,
        wanted.keys() - tensors.keys(),
        tensors.keys() - wanted.keys(),
        [
            (key, tensors[key].shape, wanted[key].shape)
            for key in wanted.keys() & tensors.keys()
            if wanted[key].shape != tensors[key].shape
        ],
    )
    network.load_state_dict(tensors)
    return fingerprint(tensors)


def published_form(network: nn.Module) -> dict[str, Tensor]:
    """The state dict under published key names, whether weight norm is folded or not.

    A folded weight is its own direction and its norm the magnitude, so loading and folding give it back exactly.
    """
    out: dict[str, Tensor] = {}
    folded = {
        f"{name}.weight": part
        for name, part in network.named_modules()
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d) and not parametrize.is_parametrized(part)
    }
    for key, value in network.state_dict().items():
        value = value.detach().cpu().contiguous()
        if key in folded:
            stem = key.removesuffix("weight")
            out[stem + _NORM] = torch.norm_except_dim(value, 2, 0)
            out[stem + _DIRECTION] = value
        else:
            out[key] = value
    return out


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Name a set of weights by 16 hex digits of a SHA-256.

    Covers every tensor that folding leaves alone (codebooks, biases, slopes, attention), so that the ``.bin`` form,
    the safetensors form and a folded copy saved again all have one name, on every machine.
    """
    digest = hashlib.sha256()
    for key in sorted(tensors):
        if key.endswith((_NORM, _DIRECTION)):
            continue
        value = tensors[key].detach().cpu().float().contiguous()
        digest.update(f"{key}{list(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def write_folder(folder: Path, config: SNACConfig, network: nn.Module) -> None:
    """Write ``config.json`` and ``model.safetensors`` in published key names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", encoding="utf-8")
    save_file(published_form(network), folder / "model.safetensors", metadata={"format": "pt"})
