"""Published BEATs weights: finding the file, reading it without running it, filling an encoder."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models.encoders.beats import BeatsEncoder, drop_repeats
from vivavoce.models.encoders.beats_config import BeatsConfig
from vivavoce.models.encoders.references import fill, hub_arguments, locate

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/(.+))?")
_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, EOFError, KeyError, IndexError, AttributeError, TypeError),
    *(pickle.UnpicklingError, SafetensorError),
)


@dataclass(frozen=True)
class BeatsCheckpoint:
    """What a checkpoint holds.

    Attributes:
        path: The file with the tensors, for messages.
        config: Its sizes; ``finetuned_model`` and ``predictor_class`` follow the tensors.
        tensors: State dict under official names.
        labels: Names of the classes, if the file has any.
    """

    path: Path
    config: BeatsConfig
    tensors: dict[str, Tensor]
    labels: dict[int, str] = field(default_factory=dict)


def load_beats(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> BeatsEncoder:
    """Load BEATs, ready for inference.

    Args:
        path: The official ``{cfg, model}`` file, or a folder with ``config.json`` (the cfg, or an object with
            it under "cfg") and one weight file, safetensors or ``.pt``.
        dtype: Of the weights.
        device: Where to put them.

    Returns:
        The encoder in ``eval`` mode, with its classification head if the file has one.

    Raises:
        CheckpointError: The file is missing, damaged, holds code, or has tensors missing, unexpected or of
            another shape.
    """
    found = read_checkpoint(Path(path).expanduser())
    encoder = BeatsEncoder(found.config)
    fill_encoder(encoder, found)
    return encoder.to(device, dtype).eval()


def read_checkpoint(path: Path) -> BeatsCheckpoint:
    """Read a file or folder as ``load_beats`` takes it; nothing in it is ever run.

    Raises:
        CheckpointError: As ``load_beats``, but for tensors that do not fit.
    """
    cfg: Any = None
    labels: Any = None
    if path.is_dir():
        cfg, path = _read_cfg(path / "config.json"), _weight_file(path)
    if path.suffix == ".safetensors":
        tensors: Any = _read(path)
        cfg = _read_cfg(path.parent / "config.json") if cfg is None else cfg
    else:
        whole = _read(path)
        if not isinstance(whole, Mapping) or not {"cfg", "model"} <= whole.keys():
            seen = sorted(map(str, whole))[:5] if isinstance(whole, Mapping) else type(whole).__name__
            raise CheckpointError(
                f"{path} holds {seen}, wanted the keys 'cfg' and 'model' of an official BEATs checkpoint."
            )
        cfg, tensors, labels = whole["cfg"] if cfg is None else cfg, whole["model"], whole.get("label_dict")
    if cfg is None:
        raise CheckpointError(f"{path} has no cfg: wanted config.json with the official cfg beside it.")
    if not isinstance(cfg, Mapping):
        raise CheckpointError(f"{path}: cfg is {type(cfg).__name__}, wanted an object.")
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path}: its model entry is not a table of tensors.")
    head = tensors.get("predictor.weight")
    values = {**cfg, "finetuned_model": head is not None}
    if head is not None and head.dim() == 2:
        values["predictor_class"] = head.shape[0]
    try:
        config = BeatsConfig.from_official(values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    names = {int(i): str(name) for i, name in labels.items()} if isinstance(labels, Mapping) else {}
    return BeatsCheckpoint(path, config, dict(tensors), names)


def fill_encoder(encoder: BeatsEncoder, found: BeatsCheckpoint) -> None:
    """Copy a checkpoint's tensors into an encoder, keeping the encoder's dtype, device and adapters.

    A checkpoint's head is left out if the encoder has none.

    Raises:
        CheckpointError: The sizes differ, or tensors are missing, unexpected or of another shape; names them.
    """
    tensors = dict(found.tensors)
    drop_repeats(encoder, tensors)
    if encoder.predictor is None:
        tensors = {name: t for name, t in tensors.items() if not name.startswith("predictor.")}
    ours, theirs = dataclasses.asdict(encoder.config), dataclasses.asdict(found.config)
    # numbers that no tensor's shape tells, but that change what comes out
    faults = [
        f"{name} is {theirs[name]!r}, wanted {ours[name]!r} as in the encoder's config"
        for name in ("encoder_attention_heads", "activation_fn", "max_distance", "deep_norm")
        if ours[name] != theirs[name]
    ]
    state = {
        name: list(tensor.shape) for name, tensor in encoder.state_dict().items() if ".lora_" not in name
    }
    wanted = {name.replace(".base_layer.", "."): shape for name, shape in state.items()}
    shapes = [
        f"{name} {list(tensors[name].shape)} for {wanted[name]}"
        for name in sorted(wanted.keys() & tensors.keys())
        if list(tensors[name].shape) != wanted[name]
    ]
    for what, names in (
        ("missing", sorted(wanted.keys() - tensors.keys())),
        ("unexpected", sorted(tensors.keys() - wanted.keys())),
        ("of another shape", shapes),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            faults.append(f"{len(names)} tensors {what}: {', '.join(names[:5])}{more}")
    if faults:
        raise CheckpointError(
            f"{found.path} does not fit this BEATs: {'; '.join(faults)}. Give the encoder the sizes of the "
            "checkpoint's cfg (finetuned_model: false for one without a head), or name another checkpoint."
        )
    fill(encoder, tensors, str(found.path))
    encoder.labels = dict(found.labels)


def find(reference: str, folder: Path | None, hub: Mapping[str, Any]) -> Path:
    """The file or folder that a reference names: beside ``folder``, on this machine, or on the hub.

    Raises:
        ModelError: There is none; says where it was looked for.
    """
    path = Path(locate(reference, folder)).expanduser()
    if path.exists():
        return path
    match = _HUB_ID.fullmatch(reference)
    hint = (
        "Set ref to the official file or its folder; for a hub id run `hf download` where there is a network."
    )
    if match is None:
        raise ModelError(f"BEATs weights {reference!r} are no file, folder or hub id. {hint}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    arguments = {name: value for name, value in hub_arguments(hub).items() if name != "subfolder"}
    repository, file = match.groups()
    wanted = [file] if file else ["config.json", "*.safetensors", "*.pt"]
    try:
        snapshot = Path(snapshot_download(repository, allow_patterns=wanted, **arguments))
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"BEATs weights {reference!r} are no file or folder here and cannot be had from the hub ({reason}). "
            f"{hint}"
        ) from error
    found = snapshot / file if file else snapshot
    if not found.exists():
        raise ModelError(f"{repository} on the hub has no {file}. {hint}")
    return found


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is no file; wanted an official BEATs checkpoint ({{cfg, model}}, .pt) or a folder with "
            "config.json and model.safetensors."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0] if str(error) else "not a pickle"
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors and plain values ({reason}). Nothing in it was run. "
            "Get the official file again, or, if you trust this one, save its cfg as config.json and its model "
            "entry as model.safetensors."
        ) from error
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read, it may be cut short ({reason}). Get the file again."
        ) from error


def _weight_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.pt"))
    named = [path for path in found if path.name == "model.safetensors"] or found
    if len(named) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(
            f"{folder} has these weight files: {names}; wanted model.safetensors, or one .pt file. Name the "
            "file itself instead of its folder."
        )
    return named[0]


def _read_cfg(path: Path) -> dict[str, Any] | None:
    """The cfg beside the weights; None if there is no such file (an official .pt has it inside)."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}).") from error
    inner = found.get("cfg", found) if isinstance(found, dict) else found
    if not isinstance(inner, dict):
        raise CheckpointError(f"{path} holds a {type(inner).__name__}, wanted the cfg of a BEATs, an object.")
    return inner
