"""Codec folders: reading their config and weights without ever running what is in them."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from vivavoce.base.errors import CheckpointError, CodecError
from vivavoce.codecs.hub import WEIGHT_FILES


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from ``seed`` inside, and leave the generator outside as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back the library's warnings and progress bars inside."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def read_json(folder: str | Path) -> dict[str, Any]:
    """Read ``folder/config.json``.

    Raises:
        CheckpointError: The file is missing or is not a JSON object.
    """
    path = Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is not a codec folder: {path.name}: {error}.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, wanted a JSON object.")
    return found


def read_config(folder: str | Path, model_type: str) -> dict[str, Any]:
    """Read the config of a folder in transformers' form.

    Raises:
        CheckpointError: No readable config.
        CodecError: The folder holds another kind of model.
    """
    config = read_json(folder)
    found = config.get("model_type")
    if found != model_type:
        raise CodecError(
            f"{folder} holds a model of type {found!r}, wanted {model_type!r}; "
            f"load_codec({str(folder)!r}) finds the right codec by itself."
        )
    return config


def build_config(config_class: type[PretrainedConfig], values: dict[str, Any], folder: str | Path) -> Any:
    """Make a config of transformers from a folder's values.

    Raises:
        CheckpointError: A value is missing, of the wrong type or out of range.
    """
    try:
        return config_class(**values)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{Path(folder) / 'config.json'} is not a {config_class.__name__}: {reason}"
        ) from error


def weight_file(folder: str | Path) -> Path:
    """The file with the weights; safetensors first.

    Raises:
        CheckpointError: Neither file is there.
    """
    for name in WEIGHT_FILES:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise CheckpointError(f"{folder} has no weights: wanted {' or '.join(WEIGHT_FILES)} beside config.json.")


def load_pretrained(
    model_class: type[PreTrainedModel], config: PretrainedConfig, folder: str | Path
) -> tuple[Any, str]:
    """Load a transformers model in float32 and check that every tensor found its place.

    Returns:
        The model and the first 16 hex digits of the SHA-256 of the weight file.

    Raises:
        CheckpointError: The file is missing or damaged, or tensors are missing, unexpected or of a wrong
            shape.
    """
    path = weight_file(folder)
    with quiet_transformers():  # what it would print about tensors becomes the error below
        model, report = _from_pretrained(model_class, config, path)
    check_tensors(path, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])
    with path.open("rb") as file:
        return model, hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _from_pretrained(
    model_class: type[PreTrainedModel], config: PretrainedConfig, path: Path
) -> tuple[Any, Any]:
    try:
        found: Any = model_class.from_pretrained(
            str(path.parent),
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            weights_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        return found
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def save_pretrained(model: PreTrainedModel, folder: str | Path) -> None:
    """Write config.json and model.safetensors."""
    with quiet_transformers():
        model.save_pretrained(str(folder))


def check_tensors(path: Path, missing: Any, unexpected: Any, misshaped: Any) -> None:
    """Refuse weights that do not fit their config.

    Raises:
        CheckpointError: names the first tensors of each fault.
    """
    faults = []
    for what, names in (("missing", missing), ("unexpected", unexpected), ("of a wrong shape", misshaped)):
        found = sorted(
            str(n) if isinstance(n, str) else f"{n[0]} {list(n[1])} for {list(n[2])}" for n in names
        )
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            faults.append(f"{what}: {', '.join(found[:3])}{more}")
    if faults:
        raise CheckpointError(f"{path} does not fit its config.json; tensors {'; '.join(faults)}.")
