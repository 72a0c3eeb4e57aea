"""The tiny SALMONN of the goldens as folders: its frozen parts as other programs store them, its checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from tests.goldens.discovery import STORED

from vivavoce.models.presets.preset import Sources

STORED_WHOLE = STORED / "salmonn" / "whole"


class Parts(NamedTuple):
    """Where the parts are.

    Attributes:
        whole: The golden folder they are made from.
        text_model, encoder, sound_encoder: Folders with config.json and model.safetensors.
        settings: What a config.json beside a checkpoint must say, as no tensor tells it.
    """

    whole: Path
    text_model: Path
    encoder: Path
    sound_encoder: Path
    settings: dict[str, Any]

    @property
    def sources(self) -> Sources:
        return Sources(
            text_model=str(self.text_model), encoder=str(self.encoder), sound_encoder=str(self.sound_encoder)
        )

    def checkpoint(self, name: str, folder: Path, **settings: Any) -> Path:
        """A folder with one of the golden checkpoints and its settings."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.whole / name, folder / name)
        (folder / "config.json").write_text(json.dumps({**self.settings, **settings}))
        return folder


def facts_of(whole: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((whole / "config.json").read_text())
    return facts


def make_parts(whole: Path, into: Path) -> Parts:
    """Write the frozen parts as folders."""
    facts = facts_of(whole)
    configs = {
        "llama": {**facts["llama"], "vocab_size": facts["vocab_with_pad"]},
        "whisper_encoder": {**facts["whisper"], "model_type": "whisper"},
        "beats": facts["beats"],
    }
    for name, config in configs.items():
        folder = into / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(whole / f"{name}.safetensors")
        kept = {key: value for key, value in tensors.items() if not key.endswith("rotary_emb.inv_freq")}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(whole / "tokenizer.model", into / "llama" / "tokenizer.model")
    return Parts(whole, *(into / name for name in configs), {"bert": facts["bert"]})
