"""Read SALMONN's published files: what the trainer keeps, under its names, without running anything in them.

A ``.pth`` holds ``{"model", "optimizer", "config", "scaler", "epoch"}``; two thirds of it are the optimizer's.
``model`` has the trained parameters and all buffers, also those of the frozen parts.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vivavoce.base.errors import CheckpointError, ModelError

MARK = "speech_llama_proj.weight"  # every SALMONN has it, nothing else does
SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
HEADER = 1 << 22  # bytes in which an old file's names are looked for

OURS = "connector."
THEIR_LLM, OUR_LLM = "llama_model.base_model.model.", "language_model."

# buffers and repeats that the trainer kept and that are computed, or held by the frozen parts
IGNORED = (
    r".*\.position_ids",
    r".*\.rotary_emb\.inv_freq",
    r"beats\.encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight",
)
_ADAPTER = re.compile(r"llama_model\..*\.layers\.(\d+)\..*?(\w+)\.lora_([AB])\.default\.weight")

# settings of the published configs that say where the frozen parts are
PART_PATHS = {"llama_path": "text_model", "whisper_path": "encoder", "beats_path": "sound_encoder"}


@dataclass
class Checkpoint:
    """What a published file holds.

    Attributes:
        path: The file with the weights.
        tensors: Trained parameters under the published names.
        settings: Of the model: of ``config.json`` beside it, and of the file's own ``config``.
        ignored: Names of tensors that are not needed.
        extras: Further entries of the file, which are not kept ("optimizer").
    """

    path: Path
    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)


def weight_files(path: Path) -> list[Path]:
    """Files with SALMONN's weights: the path itself, or those directly in the folder; no weights are read."""
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in inside if file.suffix in SUFFIXES and file.is_file() and _names_the_mark(file)]


def _names_the_mark(file: Path) -> bool:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                return any(name.removeprefix("module.") == MARK for name in opened.keys())  # noqa: SIM118
        if not zipfile.is_zipfile(file):
            with file.open("rb") as opened_file:
                return MARK.encode() in opened_file.read(HEADER)
        with zipfile.ZipFile(file) as archive:
            tables = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(MARK.encode() in archive.read(name) for name in tables)
    except (OSError, SafetensorError, zipfile.BadZipFile):
        return False


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file, or the one file of a folder.

    Raises:
        CheckpointError: No or several such files, one that cannot be read without running code, or tensors that
            SALMONN's trainer does not keep.
        ModelError: There is nothing at ``path``.
    """
    if not path.exists():
        raise ModelError(f"{path} does not exist; wanted SALMONN's .pth file or a folder with it.")
    files = weight_files(path)
    if len(files) != 1:
        names = ", ".join(f.name for f in files) or "none"
        raise CheckpointError(
            f"{path} has these files with SALMONN's weights: {names}; wanted one. Give the file itself."
        )
    found = _load(files[0])
    entry = found.get("model", found)
    if not isinstance(entry, Mapping) or not all(isinstance(t, Tensor) for t in entry.values()):
        raise CheckpointError(f"{files[0]}: its model entry is not a table of tensors.")
    tensors, ignored = {}, []
    for name, tensor in entry.items():
        plain = re.sub(r"\.lora_([AB])\.weight$", r".lora_\1.default.weight", name.removeprefix("module."))
        if any(re.fullmatch(pattern, plain) for pattern in IGNORED):
            ignored.append(plain)
        else:
            tensors[plain] = tensor
    extras = sorted(map(str, found.keys() - {"model", "config"})) if entry is not found else []
    settings = {**_own_settings(found, files[0]), **_folder_settings(path)}
    return Checkpoint(files[0], tensors, settings, ignored, extras)


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors and plain values, or is damaged ({_first_line(error)}). Nothing in it "
            'was run. Save its "model" entry as safetensors where you trust it, and give that file.'
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read, it may be cut short: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f'{file} holds a {type(found).__name__}, wanted {{"model": tensors, ...}}.')
    return found


def _own_settings(found: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The model part of the trainer's config; its paths count only where they exist."""
    config = found.get("config")
    model = config.get("model", config) if isinstance(config, Mapping) else {}
    settings = dict(model) if isinstance(model, Mapping) else {}
    for name in PART_PATHS:
        settings[name] = _beside(settings.get(name), file.parent)
    return settings


def _folder_settings(path: Path) -> dict[str, Any]:
    """``config.json`` of a folder; its paths may be hub ids, or relative to the folder."""
    file = path / "config.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds a {type(found).__name__}, wanted an object.")
    settings = dict(found["model"]) if isinstance(found.get("model"), dict) else found
    named = {name: settings.pop(name) for name in PART_PATHS if name in settings}
    return {**settings, **{name: _beside(value, path) or value for name, value in named.items() if value}}


def _beside(value: Any, folder: Path) -> str:
    """A path as it stands or within ``folder``, made absolute; "" if there is nothing."""
    if not isinstance(value, str) or not value:
        return ""
    tried = (folder / value, Path(value).expanduser())
    return next((str(p.resolve()) for p in tried if p.exists()), "")


@dataclass(frozen=True)
class Shapes:
    """What the tensors' names and shapes tell.

    Attributes:
        text_size: Width of the language model.
        speech_size, sound_size: Widths of Whisper and BEATs; 0 for a model of speech alone.
        query_size: Width of the Q-Former.
        queries: Of each window.
        layers: Of the Q-Former.
        intermediate_size: Of its feed-forward parts.
        adapted_layers: Layers of the language model that have adapters.
        rank: Of the adapters, 0 without any.
        targets: Linear layers that have one.
    """

    text_size: int
    speech_size: int
    sound_size: int
    query_size: int
    queries: int
    layers: int
    intermediate_size: int
    adapted_layers: int
    rank: int
    targets: tuple[str, ...]


def shapes_of(found: Checkpoint) -> Shapes:
    """Read sizes off the tensors.

    Raises:
        CheckpointError: Tensors that tell them are missing or have the wrong number of axes.
    """
    axes = {
        "speech_llama_proj.weight": 2,
        "speech_query_tokens": 3,
        "speech_Qformer.bert.encoder.layer.0.intermediate_query.dense.weight": 2,
        "ln_speech.weight": 1,
    }
    if any(name.startswith("ln_audio.") for name in found.tensors):
        axes["ln_audio.weight"] = 1
    missing = [name for name in axes if name not in found.tensors]
    wrong = [
        f"{name} {list(found.tensors[name].shape)}"
        for name, count in axes.items()
        if name not in missing and found.tensors[name].dim() != count
    ]
    if missing or wrong:
        raise CheckpointError(
            f"{found.path} is no complete SALMONN: missing {', '.join(missing) or 'nothing'}; of a strange shape "
            f"{', '.join(wrong) or 'nothing'}."
        )
    layers = [re.match(r"speech_Qformer\.bert\.encoder\.layer\.(\d+)\.", name) for name in found.tensors]
    adapters = [(m, t) for name, t in found.tensors.items() if (m := _ADAPTER.fullmatch(name))]
    ranks = {t.shape[0] if m[3] == "A" else t.shape[-1] for m, t in adapters}
    if len(ranks) > 1:
        raise CheckpointError(f"{found.path} has adapters of ranks {sorted(ranks)}, wanted one rank.")
    project, query, wide, *norms = (found.tensors[name] for name in axes)
    return Shapes(
        text_size=project.shape[0],
        speech_size=norms[0].shape[0],
        sound_size=norms[1].shape[0] if len(norms) > 1 else 0,
        query_size=project.shape[1],
        queries=query.shape[1],
        layers=1 + max(int(m[1]) for m in layers if m),
        intermediate_size=wide.shape[0],
        adapted_layers=1 + max((int(m[1]) for m, _ in adapters), default=-1),
        rank=max(ranks, default=0),
        targets=tuple(sorted({m[2] for m, _ in adapters})),
    )


def our_name(theirs: str) -> str:
    """The name in a ``SpeechLM`` of a published name."""
    return OUR_LLM + theirs.removeprefix(THEIR_LLM) if theirs.startswith(THEIR_LLM) else OURS + theirs


def their_name(ours: str) -> str | None:
    """The published name of a tensor of a ``SpeechLM``; None if the published form does not keep it."""
    if ours.startswith(OUR_LLM) and ".lora_" in ours:
        return THEIR_LLM + ours.removeprefix(OUR_LLM)
    if ours.startswith(OURS):
        theirs = ours.removeprefix(OURS)
        return None if any(re.fullmatch(pattern, theirs) for pattern in IGNORED) else theirs
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
