"""Tiny Ultravox checkpoints of every published form, made of a stored model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tests.goldens.discovery import STORED
from tests.goldens.ultravox_models import Taken, take_apart
from torch import Tensor

from vivavoce.models.presets.preset import Imported, Sources
from vivavoce.models.presets.ultravox.preset import ULTRAVOX

WHOLE = STORED / "ultravox" / "v0_5_lnmid"
EVERYTHING = ("audio_tower.", "language_model.")


def parts(to: Path, also: tuple[str, ...] = (), **fields: Any) -> Taken:
    """A checkpoint with the projector and what ``also`` begins; the other parts beside it."""
    return take_apart(WHOLE, to, also, **fields)


def read(taken: Taken, with_parts: bool = True, **sources: Any) -> Imported:
    """Read a checkpoint; its parts are where they were put, unless ``sources`` say otherwise."""
    given = {"accept_other": True, **sources}
    return ULTRAVOX.read(taken.checkpoint, taken.sources(**given), with_parts=with_parts)


def read_alone(taken: Taken, with_parts: bool = True, **sources: Any) -> Imported:
    """Read a checkpoint, told nothing but where the tokenizer is."""
    places = Sources(tokenizer=taken.sources().tokenizer, **sources)
    return ULTRAVOX.read(taken.checkpoint, places, with_parts=with_parts)


def tensors(taken: Taken) -> dict[str, Tensor]:
    return load_file(taken.checkpoint / "model.safetensors")


def store(taken: Taken, changed: dict[str, Tensor]) -> None:
    """Write the checkpoint's tensors anew."""
    save_file(changed, taken.checkpoint / "model.safetensors", {"format": "pt"})


def shard(folder: Path) -> None:
    """Cut a checkpoint's file into two, with an index."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, index = sorted(whole), {}
    for i, own in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({n: whole[n] for n in own}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(own, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def set_fields(taken: Taken, **fields: Any) -> None:
    """Change config.json; None as a whole value stays, ``...`` takes a field out."""
    path = taken.checkpoint / "config.json"
    record = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))


def logits(imported: Imported) -> Tensor:
    """What a model says to a fixed clip and text."""
    torch.manual_seed(3)
    clip = torch.randn(1, imported.model.config.audio_in.features.get("num_mels", 80), 40)
    token = imported.model.config.audio_token_id
    ids = torch.tensor([[1, 2, token, token, token, 3]])
    with torch.no_grad():
        found: Tensor = imported.model(input_ids=ids, input_features=clip).logits
    return found
