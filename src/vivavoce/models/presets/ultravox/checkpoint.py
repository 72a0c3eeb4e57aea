"""The weights of a checkpoint: which parts it holds, which it names, and both under our names; and back."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import PreTrainedConfig

from vivavoce.base.errors import CheckpointError
from vivavoce.models import ENCODERS
from vivavoce.models.config import EmbeddingsIn, Lora, SpeechLMConfig, build_part
from vivavoce.models.fingerprint import fingerprint
from vivavoce.models.lora import is_adapter, plain_name
from vivavoce.models.presets.preset import Sources
from vivavoce.models.presets.ultravox.fields import MODEL_TYPE, connector_record, lora_records, with_blocks
from vivavoce.models.presets.ultravox.keys import (
    NAMED_PARTS,
    holding,
    is_computed,
    listed,
    our_name,
    their_name,
)
from vivavoce.models.presets.ultravox.parts import Place, find_place, read_encoder, read_text_config
from vivavoce.models.saving import stored_form
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.models.weights import load_text_model, raise_on_faults, stored_tensors

SHARD = "5GB"
_WHAT = {"audio_encoder": "speech encoder", "language_model": "language model"}
_IDS = {"audio_encoder": "audio_model_id", "language_model": "text_model_id"}
_GIVEN = {"audio_encoder": "encoder", "language_model": "text_model"}  # fields of Sources
_OPTIONS = {"audio_encoder": "--encoder", "language_model": "--llm"}


@dataclass
class Checkpoint:
    """A published checkpoint, taken apart.

    Attributes:
        encoder, connector: Records; the encoder has a reference if its weights are elsewhere.
        text_config: Of the language model.
        text_model_ref: Where the language model's weights are, if they are elsewhere.
        text_place: Where the language model is, even if its weights are held.
        lora: Adapters that the checkpoint holds.
        tensors: All that it holds, under our names; a part that it holds some of is completed from its place.
        published: For ``SpeechLMConfig``.
        notes: What was left out or assumed.
    """

    encoder: dict[str, Any]
    connector: dict[str, Any]
    text_config: PreTrainedConfig
    text_model_ref: str | None
    text_place: Place
    lora: dict[str, Lora]
    tensors: dict[str, Tensor]
    published: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def read_checkpoint(folder: Path, theirs: Mapping[str, Any], sources: Sources) -> Checkpoint:
    """Read config and weights.

    Raises:
        CheckpointError: Tensors are missing, unexpected or of another shape, or a part is not the one that the
            checkpoint was trained with.
        ModelError: A part that is nowhere to be had.
        ConfigError: Settings that this package does not know.
    """
    readers = {name: read for name, read in stored_tensors(str(folder), {}).items() if not is_computed(name)}
    tensors = {our_name(name): read() for name, read in readers.items()}
    places = {part: _place(part, folder, theirs, sources) for part in NAMED_PARTS}
    held = {p: any(n.startswith(at) and not is_adapter(n) for n in tensors) for p, at in NAMED_PARTS.items()}
    encoder = read_encoder(theirs, places["audio_encoder"], held["audio_encoder"])
    encoder = with_blocks(encoder, theirs)
    text_config = read_text_config(theirs, places["language_model"], held["language_model"])
    with torch.device("meta"):
        width = build_part(ENCODERS, encoder, "audio_in.encoder").hidden_size
    connector = connector_record(theirs, encoder, width, text_config.get_text_config().hidden_size)
    made = Checkpoint(
        encoder,
        connector,
        text_config,
        places["language_model"].at,
        places["language_model"],
        lora_records(theirs),
        tensors,
        {"preset": MODEL_TYPE, "config": dict(theirs), "held": [], "places": {}},
    )
    model = _skeleton(made)
    for part in NAMED_PARTS:
        _settle(part, made, model, places[part], folder)
    _check(made, model, folder)
    return made


def _place(part: str, folder: Path, theirs: Mapping[str, Any], sources: Sources) -> Place:
    named = theirs.get(_IDS[part])
    given, other = getattr(sources, _GIVEN[part]), sources.accept_other
    if named is not None or given is None:
        return find_place(named, given, folder, other, _WHAT[part])
    inside = theirs.get("audio_config" if part == "audio_encoder" else "text_config") or {}
    return find_place(inside.get("_name_or_path") or None, given, folder, other, _WHAT[part])


def _skeleton(made: Checkpoint) -> SpeechLM:
    """The model without weights and adapters, for names and shapes."""
    ears = EmbeddingsIn(encoder=made.encoder, connector=made.connector, audio_token_id=0)
    with torch.device("meta"):
        return SpeechLM(SpeechLMConfig(text_config=copy.deepcopy(made.text_config), audio_in=ears))


def _settle(part: str, made: Checkpoint, model: SpeechLM, place: Place, folder: Path) -> None:
    """Decide whether a part is held, named, or held in part; and which adapters it has."""
    prefix = NAMED_PARTS[part]
    module = model.get_submodule(prefix.rstrip("."))
    names = [prefix + name for name in module.state_dict()]
    found = holding(names, made.tensors, set(model.all_tied_weights_keys))
    adapters = [name for name in made.tensors if name.startswith(prefix) and is_adapter(name)]
    if part in made.lora:
        made.lora[part] = _matching(made.lora[part], module, part)
        if not adapters and found.kind == "whole":
            del made.lora[part]
            made.notes.append(
                f"config.json names adapters of the {_WHAT[part]}, but none are there; left out."
            )
    if found.kind != "whole" and place.at is None:
        raise CheckpointError(
            f"{folder} lacks {len(found.missing)} tensors of its {_WHAT[part]} ({listed(found.missing)}) and does "
            f"not name one ({_IDS[part]} is null); say where it is ({_GIVEN[part]}, {_OPTIONS[part]})."
        )
    if found.kind == "whole" and place.at not in (None, place.named, str(folder / str(place.named))):
        made.notes.append(
            f"the checkpoint holds its {_WHAT[part]}; the weights at {place.at!r} are not used."
        )
    if found.kind == "some":
        _complete(part, made, names, found.missing, str(place.at))
    if found.kind == "none":
        made.published["places"][_IDS[part]] = place.at
        return
    made.published["held"].append(part)
    if part == "language_model":
        made.text_model_ref = None
    else:
        made.encoder = {k: v for k, v in made.encoder.items() if k != "ref"}


def _matching(lora: Lora, module: nn.Module, part: str) -> Lora:
    """Adapters at those targets that the part has; PEFT passes over others, and their defaults have some."""
    names = [name for name, _ in module.named_modules()]
    kept = tuple(t for t in lora.targets if any(n == t or n.endswith("." + t) for n in names))
    if not kept:
        raise CheckpointError(
            f"the adapters of the {_WHAT[part]} are for {list(lora.targets)}, of which it has none."
        )
    return Lora(rank=lora.rank, alpha=lora.alpha, targets=kept, dropout=lora.dropout)


def _complete(part: str, made: Checkpoint, names: Iterable[str], missing: tuple[str, ...], at: str) -> None:
    """Take the weights that a checkpoint does not hold, of a part that it was trained in part, from its place."""
    if part == "language_model":
        text_model = load_text_model(at, dtype="auto")
        base = {f"language_model.{k}": v for k, v in text_model.state_dict().items()}
    else:
        encoder = build_part(ENCODERS, {**made.encoder, "ref": at}, "audio_in.encoder")
        encoder.load_reference("")
        base = {f"audio_encoder.{k}": v for k, v in encoder.state_dict().items()}
    held = [name for name in names if name in made.tensors]
    dtype = made.tensors[held[0]].dtype
    added = {name: base[name].detach().to(dtype) for name in missing}
    made.tensors |= added
    made.published["some"] = {
        **made.published.get("some", {}),
        part: {"names": sorted(held), "others": fingerprint(added)},
    }
    made.published["places"][_IDS[part]] = at
    made.notes.append(
        f"the checkpoint holds {len(held)} tensors of its {_WHAT[part]}; the other {len(missing)} came from {at!r}, "
        "and all of them are stored with the model."
    )


def _check(made: Checkpoint, model: SpeechLM, folder: Path) -> None:
    """Compare names and shapes of what is held with the model, in their words."""
    own = {plain_name(name): tensor for name, tensor in model.state_dict().items()}
    elsewhere = [p for part, p in NAMED_PARTS.items() if part not in made.published["held"]]
    needed = {name for name in own if not name.startswith(tuple(elsewhere))} if elsewhere else set(own)
    held = {name for name in made.tensors if not is_adapter(name)}
    odd = {
        n for n in made.tensors if is_adapter(n) and not any(n.startswith(NAMED_PARTS[p]) for p in made.lora)
    }
    missing = needed - held - set(model.all_tied_weights_keys)
    other = [
        f"{their_name(n)} ({list(made.tensors[n].shape)}, wanted {list(own[n].shape)})"
        for n in sorted(needed & held)
        if own[n].shape != made.tensors[n].shape
    ]
    raise_on_faults(
        {
            "missing_keys": list(map(their_name, missing)),
            "unexpected_keys": list(map(their_name, (held - needed) | odd)),
            "mismatched_keys": other,
        },
        str(folder),
    )


def write_weights(model: Any, folder: Path) -> tuple[SpeechLMConfig, list[Path]]:
    """Write what is not elsewhere, under their names.

    Returns:
        The config as it is stored, and the files.
    """
    with stored_form(model, None, None) as tensors:
        config = copy.deepcopy(model.config)
    tied = set(model.all_tied_weights_keys)
    tensors = {n: t for n, t in tensors.items() if not is_computed(n) and n not in tied}
    for part, some in config.published.get("some", {}).items():
        prefix = NAMED_PARTS[part]
        base = {n for n in tensors if n.startswith(prefix) and not is_adapter(n)}
        others = {n: tensors[n] for n in base - set(some["names"])}
        if base > set(some["names"]) and fingerprint(others) == some["others"]:
            tensors = {n: t for n, t in tensors.items() if n not in others}
    ready = {their_name(name): tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_torch_state_dict(ready, folder, max_shard_size=SHARD)
    return config, sorted(folder.glob("model*.safetensors*"))
