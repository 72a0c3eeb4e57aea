"""The tiny models of the Ultravox goldens, read by the importer, and their parts as folders of their own."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from tests.goldens.discovery import STORED, golden_folders
from tests.goldens.ultravox_toy import toy_tokenizer
from torch import Tensor

from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.presets.preset import Sources
from vivavoce.models.presets.ultravox.keys import our_name
from vivavoce.models.presets.ultravox.preset import ULTRAVOX
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

__all__ = ["Golden", "load_golden", "load_golden_model", "our_name", "tokenizer_folder"]

_SCRATCH = tempfile.TemporaryDirectory(prefix="ultravox-goldens-")  # gone when the process ends


class Golden(NamedTuple):
    """A golden model and its processor; shared, so leave both as they are."""

    model: SpeechLM
    processor: SpeechProcessor


@cache
def tokenizer_folder() -> Path:
    """The toy tokenizer, saved."""
    folder = Path(_SCRATCH.name) / "tokenizer"
    root = next(f for f in kind_folders() if (f / "processor" / "counts.json").is_file())
    toy_tokenizer(root).save_pretrained(folder)
    return folder


def kind_folders() -> list[Path]:
    """Golden folders of this kind, the stored one last."""
    found = golden_folders("ultravox")
    stored = STORED / "ultravox"
    return [*found, stored] if stored not in found else found


def files_of(folder: Path) -> tuple[Path, Path]:
    """config.json and model.safetensors of a golden folder.

    A folder without weights has those of the model whose name its own begins with (``v0_5_lnmid_block20`` has
    ``v0_5_lnmid``'s), else those of ``v0_5_lnmid``; one without a config has that model's config.
    """
    config, weights = folder / "config.json", folder / "model.safetensors"
    siblings = [p for root in (folder.parent, *kind_folders()) for p in sorted(root.iterdir())]
    models = [p for p in siblings if (p / "model.safetensors").is_file() and p != folder]
    alike = [p for p in models if folder.name.startswith(p.name)] + [
        p for p in models if p.name == "v0_5_lnmid"
    ]
    if not weights.is_file():
        weights = alike[0] / "model.safetensors"
    if not config.is_file():
        config = weights.parent / "config.json"
    return config, weights


@cache
def model_folder(folder: Path) -> Path:
    """A folder that has config and weights of a golden folder."""
    config, weights = files_of(folder)
    if config.parent == weights.parent:
        return config.parent
    made = Path(_SCRATCH.name) / f"{folder.parent.name}-{folder.name}-{abs(hash(folder))}"
    made.mkdir()
    (made / "config.json").write_text(config.read_text())
    (made / "model.safetensors").symlink_to(weights.resolve())
    return made


@lru_cache(maxsize=8)
def load_golden(folder: Path, reference_padding: bool = False) -> Golden:
    """The model of a golden folder in float32 with its processor.

    Args:
        folder: With goldens of one tiny model.
        reference_padding: Batches behave as in the reference.
    """
    read = ULTRAVOX.read(model_folder(folder), Sources(tokenizer=str(tokenizer_folder())))
    assert not read.notes
    return with_padding(Golden(read.model, read.processor), reference_padding)


def with_padding(golden: Golden, reference_padding: bool) -> Golden:
    """The same weights, with batches padded as the reference does or not."""
    config = copy.deepcopy(golden.model.config)
    assert isinstance(config.audio_in, EmbeddingsIn)
    config.audio_in = dataclasses.replace(config.audio_in, reference_padding=reference_padding)
    model = SpeechLM(config).eval()
    model.load_state_dict(golden.model.state_dict())
    model.generation_config = golden.model.generation_config
    return Golden(model, SpeechProcessor.for_config(golden.processor.tokenizer, config))


def load_golden_model(folder: Path) -> SpeechLM:
    """The model of a golden folder, padding as the reference does; it is shared, so leave its weights alone."""
    return load_golden(folder, reference_padding=True).model


class Taken(NamedTuple):
    """The parts of a golden model in folders of their own, and a checkpoint that holds only the projector."""

    text_model: Path
    encoder: Path
    checkpoint: Path

    def sources(self, **more: Any) -> Sources:
        """Where an importer finds the parts."""
        places = {"text_model": str(self.text_model), "encoder": str(self.encoder)}
        return Sources(**{**places, "tokenizer": str(tokenizer_folder()), **more})


def take_apart(folder: Path, to: Path, also: tuple[str, ...] = (), **fields: Any) -> Taken:
    """Write a golden model as its parts.

    Args:
        folder: The golden folder.
        to: Where to.
        also: Prefixes of tensors, in their names, that the checkpoint holds beside the projector.
        fields: To change in config.json.
    """
    source = model_folder(folder)
    record = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    taken = Taken(to / "text", to / "whisper", to / "checkpoint")
    for path, config, prefix, new in (
        (taken.text_model, record["text_config"], "language_model.", ""),
        (taken.encoder, record["audio_config"], "audio_tower.", "model.encoder."),
    ):
        path.mkdir(parents=True)
        kept = {k: v for k, v in config.items() if k != "_name_or_path"}
        (path / "config.json").write_text(json.dumps(kept))
        save_file(dict(renamed(tensors, prefix, new)), path / "model.safetensors", {"format": "pt"})
    taken.checkpoint.mkdir()
    (taken.checkpoint / "config.json").write_text(json.dumps({**record, **fields}))
    held = {n: t for n, t in tensors.items() if n.startswith(("multi_modal_projector.", *also))}
    save_file(held, taken.checkpoint / "model.safetensors", {"format": "pt"})
    return taken


def renamed(tensors: dict[str, Tensor], prefix: str, new: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors under a prefix, under another one."""
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            yield new + name.removeprefix(prefix), tensor
