"""Weights that transformers' loader does not bring: referenced parts, adapters, computed buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models import CONNECTORS, ENCODERS, VOICES
from vivavoce.models.config import EmbeddingsIn, TokensOut, build_part
from vivavoce.models.encoders.references import find_weights
from vivavoce.models.lora import is_adapter

if TYPE_CHECKING:
    from vivavoce.models.speech_lm import SpeechLM

HUB_ARGUMENTS = ("cache_dir", "local_files_only", "token")  # those that hold for any repository
_ABOUT_WEIGHTS = (
    *("dtype", "torch_dtype", "device_map", "quantization_config", "attn_implementation", "max_memory"),
    *(*HUB_ARGUMENTS, "low_cpu_mem_usage"),
)


def load_text_model(source: str | Path, **arguments: Any) -> PreTrainedModel:
    """Load a causal LM and check that every tensor of the model was there.

    Args:
        source: Folder or hub id.
        arguments: Of transformers' ``from_pretrained``.

    Raises:
        CheckpointError: Tensors are missing or of another shape; more tensors than needed are ignored.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
    )
    model, info = loaded
    raise_on_faults({k: info[k] for k in ("missing_keys", "mismatched_keys") if k in info}, str(source))
    found: PreTrainedModel = model
    return found


def raise_on_faults(info: dict[str, Any], where: str) -> None:
    """Refuse a checkpoint that does not cover the model exactly.

    Args:
        info: transformers' loading info.
        where: Folder or hub id, for the message.

    Raises:
        CheckpointError: Names up to five tensors of each kind of fault.
    """
    faults = []
    for key, word in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unexpected"),
        ("mismatched_keys", "of another shape"),
    ):
        names = sorted(str(k[0] if isinstance(k, tuple) else k) for k in info.get(key, ()))
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            faults.append(f"{len(names)} tensors {word}: {', '.join(names[:5])}{more}")
    if faults:
        raise CheckpointError(f"{where} does not fit its config: {'; '.join(faults)}.")


def load_reference(reference: str, folder: Path, arguments: dict[str, Any]) -> PreTrainedModel:
    """Load the text model that a folder names instead of storing.

    Args:
        reference: Hub id or folder; a relative folder is looked for beside the files of ``folder`` first.
        folder: The speech LM's own folder.
        arguments: Arguments of ``from_pretrained``; those about weights are used.

    Raises:
        ModelError: It is neither a folder nor in the hub cache, and the hub cannot be reached.
    """
    local = folder / reference
    source = str(local) if local.is_dir() else reference
    passed = {name: arguments[name] for name in _ABOUT_WEIGHTS if name in arguments}
    try:
        return load_text_model(source, **passed)
    except OSError as error:
        raise ModelError(
            f"{folder} needs the text model {reference!r}, which is neither a folder nor in the hub cache. "
            "Download it "
            f"where there is a network (`hf download {reference}`), or set text_model_ref in config.json to "
            "its folder."
        ) from error


def stored_tensors(source: str, hub: dict[str, Any]) -> dict[str, Callable[[], Tensor]]:
    """Name -> function that reads the tensor, of a model in one file or several; nothing is read before.

    Raises:
        ModelError: There are no weights.
        CheckpointError: They are not safetensors.
    """
    found: dict[str, Callable[[], Tensor]] = {}
    for file in find_weights(source, hub):
        if file.suffix != ".safetensors":
            raise CheckpointError(f"{file} is not safetensors, in which models of this package are stored.")
        handle = safe_open(file, framework="pt")
        found |= {name: partial(handle.get_tensor, name) for name in handle.keys()}  # noqa: SIM118
    return found


def load_adapters(
    model: nn.Module, stored: Mapping[str, Callable[[], Tensor]], where: str, keep_dtype: bool
) -> None:
    """Copy adapters into a model that has them in place already.

    Args:
        model: With fresh adapters.
        stored: Name -> function that gives the tensor; what is no adapter is left alone.
        where: For messages.
        keep_dtype: Keep the dtype that they are stored in (float32 adapters on a half-precision model train better)
            instead of taking that of the layers they adapt.

    Raises:
        CheckpointError: Adapters are missing, unexpected or of another shape.
    """
    own = {name: p for name, p in model.named_parameters() if is_adapter(name)}
    given = {name: read() for name, read in stored.items() if is_adapter(name)}
    other = [n for n, tensor in given.items() if n in own and own[n].shape != tensor.shape]
    names = {
        "missing_keys": own.keys() - given,
        "unexpected_keys": given.keys() - own,
        "mismatched_keys": other,
    }
    raise_on_faults(names, where)
    for name, parameter in own.items():
        dtype = given[name].dtype if keep_dtype else parameter.dtype
        parameter.data = given[name].to(parameter.device, dtype, copy=True)


def restore_buffers(model: SpeechLM) -> None:
    """Compute again the buffers that checkpoints do not hold.

    transformers builds a model without memory before it loads tensors, which leaves computed (non-persistent)
    buffers of parts undefined. Parts that have any are built once more, without weights, and their buffers copied.
    """
    ears = model.config.audio_in if isinstance(model.config.audio_in, EmbeddingsIn) else None
    mouth = model.config.audio_out if isinstance(model.config.audio_out, TokensOut) else None
    sources: list[tuple[str, Any, dict[str, Any] | None]] = [
        ("audio_encoder", ENCODERS, ears.encoder if ears else None),
        ("connector", CONNECTORS, ears.connector if ears else None),
        ("voice", VOICES, mouth.voice if mouth else None),
    ]
    for name, table, record in sources:
        part = getattr(model, name)
        if part is None or record is None:
            continue
        stored = set(part.state_dict())
        computed = [key for key, _ in part.named_buffers() if key not in stored]
        if not computed:
            continue
        with torch.device("cpu"), init_empty_weights(include_buffers=False):  # no second copy of the weights
            fresh = dict(build_part(table, record, name).named_buffers())
        device = next(part.parameters()).device
        for key in computed:
            owner_name, _, leaf = key.rpartition(".")
            value = fresh[key.replace(".base_layer.", ".")].to(device)
            dtype = part.get_buffer(key).dtype
            part.get_submodule(owner_name)._buffers[leaf] = (
                value.to(dtype) if value.is_floating_point() else value
            )
