"""Published encoders: the record of one in a line of code, and its weights into a part that is built."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils.hub import cached_file

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models.lora import is_adapter, plain_name

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

# what Whisper's encoder reads of its config; the rest is about the decoder
_WHISPER_FIELDS = (
    *("num_mel_bins", "max_source_positions", "d_model", "encoder_layers", "encoder_attention_heads"),
    *("encoder_ffn_dim", "encoder_layerdrop", "activation_function", "dropout", "attention_dropout"),
    *("activation_dropout", "scale_embedding", "init_std"),
)
# what a config says about its file, and what concerns heads that an encoder does not have
_NOT_THE_ENCODER = (
    *("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype"),
    *("id2label", "label2id", "auto_map", "tokenizer_class", "vocab_size", "final_dropout"),
)


def encoder_record(name_or_path: str | Path, **hub: Any) -> dict[str, Any]:
    """Write the record of a published encoder, for ``audio_in.encoder``.

    Only the config is read; the weights come with ``load_reference``.

    Args:
        name_or_path: Hub id or folder of a Whisper model, or of an encoder of waveforms that transformers
            knows (wav2vec 2.0, HuBERT, WavLM, ...), with whatever head.
        hub: ``cache_dir``, ``local_files_only``, ``token``, ``revision``, ``subfolder``.

    Returns:
        ``{"type": "whisper" or "huggingface", "model": {...}, "ref": name, ...}``, all of it JSON.

    Raises:
        ModelError: It is neither a folder nor on the hub, or has no readable config.
        ConfigError: It is no encoder of speech that this package can build.
    """
    from vivavoce.models.encoders.huggingface import MODEL_TYPES

    hub = hub_arguments(hub)
    try:
        config = AutoConfig.from_pretrained(name_or_path, **hub)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no config of an encoder at {str(name_or_path)!r}: {_first_line(error)} Give a folder with "
            "config.json or a hub id; without a network, `hf download` it elsewhere and give that folder."
        ) from error
    if config.model_type == "whisper":
        return {"type": "whisper", "model": whisper_fields(config), "ref": str(name_or_path)}
    if config.model_type not in MODEL_TYPES:
        raise ConfigError(
            f"{str(name_or_path)!r} is a {config.model_type!r} model; wanted 'whisper' or one of "
            f"{', '.join(MODEL_TYPES)}. An encoder of another form needs a part of its own in ENCODERS."
        )
    record: dict[str, Any] = {"type": "huggingface", "model": encoder_fields(config.to_diff_dict())}
    if not _normalises(name_or_path, hub):
        record["normalise"] = False
    return {**record, "ref": str(name_or_path)}


def feature_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Say which log-mel features an encoder was trained on: arguments of ``audio.features.LogMel``.

    Args:
        record: An encoder's record. Encoders that take waveforms need none, so theirs is empty.
    """
    if record["type"] == "mel_ctc":
        return {"num_mels": record.get("num_mels", 80)}
    if record["type"] != "whisper":
        return {}
    model = record.get("model", {})
    settings = {"num_mels": model.get("num_mel_bins", 80), "ending": "hop"}
    if record.get("pad_to_longest", False):
        settings["multiple"] = 2 * model.get("max_source_positions", 1500)
    return settings


def whisper_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Pick what Whisper's encoder reads of a ``WhisperConfig``."""
    return {name: getattr(config, name) for name in _WHISPER_FIELDS}


def encoder_fields(model: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a config dict what is not about the encoder: heads, file names, the stored dtype."""
    return {name: value for name, value in model.items() if name not in _NOT_THE_ENCODER}


def hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments that say how to reach the hub."""
    return {name: arguments[name] for name in HUB_ARGUMENTS if arguments.get(name) is not None}


def locate(reference: str, folder: Path | None) -> str:
    """A reference as a path, if it is one beside the files of ``folder`` or anywhere, else as it stands."""
    beside = folder / reference if folder is not None else None
    return str(beside) if beside is not None and beside.exists() else reference


def find_weights(source: str, hub: Mapping[str, Any]) -> list[Path]:
    """Find the weight files of a file, folder or hub id; a model in pieces has several.

    Raises:
        ModelError: There are none, or the hub cannot be reached.
    """
    if Path(source).is_file():
        return [Path(source)]
    try:
        for name in WEIGHT_FILES:
            whole = _file(source, name, hub)
            if whole is not None:
                return [whole]
            index = _file(source, f"{name}.index.json", hub)
            if index is not None:
                pieces = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                files = [_file(source, Path(piece).name, hub) for piece in pieces]
                if None in files:
                    lost = [piece for piece, file in zip(pieces, files, strict=True) if file is None]
                    raise ModelError(f"{source} lacks {', '.join(lost)}, which its {index.name} names.")
                return [file for file in files if file is not None]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the weights of {source!r} cannot be had: {_first_line(error)} Without a network, run "
            f"`hf download {source}` elsewhere and set ref to that folder."
        ) from error
    raise ModelError(
        f"{source!r} has neither {' nor '.join(WEIGHT_FILES)}; set ref to a hub id, a folder or a file with "
        "the encoder's weights."
    )


def read_tensors(
    files: Sequence[Path], prefixes: Sequence[str], probe: str, source: str
) -> dict[str, Tensor]:
    """Read the tensors under one prefix and leave the others on disk.

    Args:
        files: Safetensors, or PyTorch files that hold tensors only.
        prefixes: Prefixes that the wanted tensors may have, tried in this order.
        probe: Name, without prefix, of a tensor that must be there.
        source: For messages.

    Returns:
        Name without prefix -> tensor.

    Raises:
        CheckpointError: A file cannot be read, or no prefix fits.
    """
    stored: dict[str, Any] = {}
    try:
        for file in files:
            if file.suffix == ".safetensors":
                handle = safe_open(file, framework="pt")
                stored.update({name: (handle, name) for name in handle.keys()})  # noqa: SIM118
            else:
                stored.update(torch.load(file, map_location="cpu", weights_only=True, mmap=True))
    except (SafetensorError, RuntimeError, UnpicklingError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source} cannot be read as a file of tensors: {_first_line(error)} Wanted safetensors, or a "
            "PyTorch file that torch.load(weights_only=True) takes."
        ) from error
    for prefix in prefixes:
        if prefix + probe in stored:
            found = {name.removeprefix(prefix): v for name, v in stored.items() if name.startswith(prefix)}
            return {k: v[0].get_tensor(v[1]) if isinstance(v, tuple) else v for k, v in found.items()}
    wanted = ", ".join(prefix + probe for prefix in prefixes)
    raise CheckpointError(f"{source} has none of {wanted}; it starts with {', '.join(sorted(stored)[:5])}.")


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, may_miss: Collection[str] = ()
) -> None:
    """Copy tensors into a module that has its shapes; adapters and dtypes of the module stay.

    Args:
        module: May be on the meta device, or have adapters around its layers.
        tensors: Name in the plain module -> value; further names are left alone.
        source: For messages.
        may_miss: Names that keep their value if they are not there.

    Raises:
        CheckpointError: A tensor is missing, or has another shape than the config wants.
    """
    own = {
        plain_name(name): (name, value)
        for name, value in module.state_dict(keep_vars=True).items()
        if not is_adapter(name)
    }
    missing = [name for name in own if name not in tensors and name not in may_miss]
    shapes = {n: (list(tensors[n].shape), list(v.shape)) for n, (_, v) in own.items() if n in tensors}
    wrong = [f"{n} is {a}, the config wants {b}" for n, (a, b) in shapes.items() if a != b]
    if missing or wrong:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        faults = [f"{', '.join(missing[:5])}{more} missing"] if missing else []
        raise CheckpointError(f"{source} does not fit the config: {'; '.join(faults + wrong[:5])}.")
    with torch.no_grad():
        for plain, (name, value) in own.items():
            if plain not in tensors:
                continue
            if not value.is_meta:
                value.copy_(tensors[plain])
                continue
            owner = module.get_submodule(name.rpartition(".")[0])
            leaf, new = name.rpartition(".")[2], tensors[plain].to(value.dtype, copy=True)
            if isinstance(value, nn.Parameter):
                owner._parameters[leaf] = nn.Parameter(new, requires_grad=value.requires_grad)
            else:
                owner._buffers[leaf] = new


def _file(source: str, name: str, hub: Mapping[str, Any]) -> Path | None:
    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **hub)
    return Path(found) if found is not None else None


def _normalises(name_or_path: str | Path, hub: dict[str, Any]) -> bool:
    """Whether a model's own extractor scales waveforms to unit variance: unless its file says no."""
    try:
        file = _file(str(name_or_path), "preprocessor_config.json", hub)
        settings = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"preprocessor_config.json of {str(name_or_path)!r} cannot be read: {_first_line(error)}"
        ) from error
    return bool(settings.get("do_normalize", True))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
