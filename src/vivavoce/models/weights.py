"""Weights that transformers' loader does not bring: referenced text models, computed buffers of parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models import CONNECTORS, ENCODERS, VOICES
from vivavoce.models.config import EmbeddingsIn, TokensOut, build_part

if TYPE_CHECKING:
    from vivavoce.models.speech_lm import SpeechLM

_ABOUT_WEIGHTS = (
    *("dtype", "torch_dtype", "device_map", "quantization_config", "attn_implementation", "max_memory"),
    *("cache_dir", "local_files_only", "token", "low_cpu_mem_usage"),
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


def restore_buffers(model: SpeechLM) -> None:
    """Compute again the buffers that checkpoints do not hold.

    transformers builds a model without memory before it loads tensors, which leaves computed (non-persistent)
    buffers of parts undefined. Parts that have any are built once more and their buffers copied.
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
        with torch.device("cpu"):
            fresh = dict(build_part(table, record, name).named_buffers())
        device = next(part.parameters()).device
        for key in computed:
            owner_name, _, leaf = key.rpartition(".")
            value = fresh[key].to(device)
            dtype = part.get_buffer(key).dtype
            part.get_submodule(owner_name)._buffers[leaf] = (
                value.to(dtype) if value.is_floating_point() else value
            )
