"""Files of Ultravox, both ways: every stored model through our form and back, and the tensors that each kind of
checkpoint holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.goldens.discovery import golden_folders, label
from tests.goldens.ultravox_cases import Case, all_cases, case_folders, run
from tests.goldens.ultravox_models import (
    Golden,
    Taken,
    files_of,
    kind_folders,
    load_golden,
    take_apart,
    tokenizer_folder,
    with_padding,
)

from vivavoce.models.config import EmbeddingsIn, Lora
from vivavoce.models.lora import add_lora, merge_lora
from vivavoce.models.presets.preset import Imported, Sources
from vivavoce.models.presets.ultravox.preset import ULTRAVOX
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

OURS_TO_ADD = {"auto_map", "custom_pipelines"}  # we ship no code, and name the repository that has it

FOLDERS = case_folders()
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{label(p.parent)}-{p.name}")
every_padding = pytest.mark.parametrize("padded", [False, True], ids=["alone", "reference_padding"])


def header(folder: Path) -> dict[str, list[Any]]:
    """Name -> [shape, dtype] of the tensors of a folder."""
    found = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (not a dict)
                piece = opened.get_slice(name)
                found[name] = [piece.get_shape(), piece.get_dtype()]
    return found


def assert_same_files(written: Path, config: Path, weights: Path) -> None:
    first, second = json.loads(config.read_text()), json.loads((written / "config.json").read_text())
    assert {k: v for k, v in second.items() if k not in OURS_TO_ADD} == first
    theirs, ours = load_file(weights), load_file(written / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        assert tensor.dtype == ours[name].dtype and torch.equal(tensor, ours[name]), name


def through_our_form(golden: Golden, folder: Path) -> Golden:
    """Save as ours and load again."""
    golden.model.save_pretrained(folder)
    golden.processor.save_pretrained(folder)
    return Golden(SpeechLM.from_pretrained(folder), SpeechProcessor.from_pretrained(folder))


@every_folder
@every_padding
def test_theirs_to_ours_to_theirs(folder: Path, padded: bool, tmp_path: Path) -> None:
    golden = through_our_form(with_padding(load_golden(folder), padded), tmp_path / "ours")
    ears = golden.model.config.audio_in
    assert isinstance(ears, EmbeddingsIn) and ears.reference_padding is padded
    files = ULTRAVOX.write(golden.model, golden.processor, tmp_path / "theirs")
    assert_same_files(tmp_path / "theirs", *files_of(folder))
    assert all(file.is_file() for file in files)
    assert {file.name for file in files} >= {
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
    }


@every_folder
@every_padding
def test_our_form_computes_the_same(folder: Path, padded: bool, tmp_path: Path) -> None:
    """Logits of every case are equal, to the bit, in the model that was stored; and in one that went through theirs."""
    cases = [case for case in all_cases() if case.folder == folder]
    stored = through_our_form(with_padding(load_golden(folder), padded), tmp_path / "ours")
    ULTRAVOX.write(stored.model, stored.processor, tmp_path / "theirs")
    read = ULTRAVOX.read(tmp_path / "theirs", Sources())
    again = with_padding(Golden(read.model, read.processor), padded)
    assert read.processor.tokenizer.get_vocab() == stored.processor.tokenizer.get_vocab()
    assert read.processor.tokenizer.chat_template == stored.processor.tokenizer.chat_template
    for case in cases:
        for golden in (stored, again):
            with torch.no_grad():
                assert torch.equal(golden.model(**case.inputs()).logits, run(case, padded).logits), case


@every_folder
def test_listed_tensors(folder: Path, tmp_path: Path) -> None:
    """keys.json, where a folder has one."""
    golden = load_golden(folder)
    ULTRAVOX.write(golden.model, golden.processor, tmp_path)
    path = folder / "keys.json"
    if path.is_file():
        names = {"F32": "torch.float32", "F16": "torch.float16", "BF16": "torch.bfloat16"}
        wanted = {k: [shape, dtype] for k, (shape, dtype) in json.loads(path.read_text()).items()}
        found = {k: [shape, dtype] for k, (shape, dtype) in header(tmp_path).items()}
        assert found.keys() == wanted.keys()
        assert all(s == wanted[k][0] and wanted[k][1] in (d, names[d]) for k, (s, d) in found.items())


class Listed(NamedTuple):
    """A kind of checkpoint that checkpoint_keys.json lists."""

    root: Path
    name: str

    @property
    def wanted(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "checkpoint_keys.json").read_text())[self.name]
        return found

    def golden(self) -> Path:
        """The stored model it is of; the lists are of v0.5's layout where they do not say."""
        name = "v0_4_lnpost" if "lnpost" in self.name else "v0_5_lnmid"
        return next(root / name for root in (self.root, *kind_folders()) if (root / name).is_dir())


LISTED = [
    Listed(root, name)
    for root in golden_folders("ultravox")
    if (root / "checkpoint_keys.json").is_file()
    for name in json.loads((root / "checkpoint_keys.json").read_text())
]
LORA = re.compile(r"(audio|text)_lora_r(\d+)_(unmerged|after_merge)\w*")
PARTS = {"audio": "audio_encoder", "text": "language_model"}


def read_parts(listed: Listed, to: Path, also: tuple[str, ...] = (), **fields: Any) -> tuple[Imported, Taken]:
    """A checkpoint of the projector alone (and what ``also`` begins), its language model and encoder beside it."""
    taken = take_apart(listed.golden(), to, also, **fields)
    return ULTRAVOX.read(taken.checkpoint, taken.sources(accept_other=True)), taken


def made_like(listed: Listed, to: Path) -> Imported:
    """A model built, or adapted, as the name of the kind says."""
    if listed.name.startswith("frozen_both"):
        return read_parts(listed, to)[0]
    if listed.name == "config_after_merge":
        read, _ = read_parts(listed, to, ("language_model.",))
        add_lora(read.model, "audio_encoder", Lora(rank=8, alpha=8, targets=("k_proj", "q_proj")))
        merge_lora(read.model, "audio_encoder")
        return read
    layers = re.fullmatch(r"audio_unfreeze_layers_(\d+)", listed.name)
    if layers:
        lora = {"r": 0, "unfreeze_layers": [f"layers.{layers[1]}"]}
        return read_parts(listed, to, (f"audio_tower.layers.{layers[1]}.",), audio_model_lora_config=lora)[0]
    found = LORA.fullmatch(listed.name)
    assert found, f"{listed.root}/checkpoint_keys.json: no test makes {listed.name}"
    read, part = read_parts(listed, to)[0], PARTS[found[1]]
    add_lora(read.model, part, Lora(rank=int(found[2]), alpha=8, targets=("k_proj", "q_proj")))
    shake(read.model)
    if found[3] == "after_merge":
        merge_lora(read.model, part)
    return read


def shake(model: SpeechLM) -> None:
    """Let adapters do something: their second half begins at zero."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("listed", LISTED, ids=[f"{label(x.root)}-{x.name}" for x in LISTED])
def test_tensors_of_each_kind_of_checkpoint(listed: Listed, tmp_path: Path) -> None:
    read = made_like(listed, tmp_path)
    ULTRAVOX.write(read.model, read.processor, tmp_path / "written")
    found = header(tmp_path / "written")
    if listed.name == "config_after_merge":
        config = json.loads((tmp_path / "written" / "config.json").read_text())
        assert {name: config.get(name, "<absent>") for name in listed.wanted} == listed.wanted
    elif "n_keys_by_prefix" in listed.name:
        counts = Counter(name.partition(".")[0] for name in found)
        assert {prefix: counts[prefix] for prefix in listed.wanted} == listed.wanted
    else:
        assert found == listed.wanted


KINDS = [x for x in LISTED if x.name != "config_after_merge"]


@pytest.mark.parametrize("listed", KINDS, ids=[f"{label(x.root)}-{x.name}" for x in KINDS])
def test_each_kind_of_checkpoint_is_read_back(listed: Listed, tmp_path: Path) -> None:
    """With what it does not hold from the parts beside it; and written once more with equal tensors and config."""
    read = made_like(listed, tmp_path)
    ULTRAVOX.write(read.model, read.processor, tmp_path / "written")
    parts = Taken(tmp_path / "text", tmp_path / "whisper", tmp_path / "written")
    again = ULTRAVOX.read(parts.checkpoint, parts.sources(accept_other=True))
    case = Case(listed.golden(), "single")
    with torch.no_grad():
        wanted, found = (one.model(**case.inputs()).logits for one in (read, again))
    assert torch.equal(found, wanted)
    if "lora" in listed.name:
        assert not torch.allclose(found, run(case, False).logits, atol=1e-2), "the adapters do nothing"
    ours = through_our_form(Golden(again.model, again.processor), tmp_path / "ours")
    ULTRAVOX.write(ours.model, ours.processor, tmp_path / "third")
    first, third = (load_file(tmp_path / name / "model.safetensors") for name in ("written", "third"))
    assert first.keys() == third.keys() and all(torch.equal(first[k], third[k]) for k in first)
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("written", "third")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(dtype: torch.dtype, tmp_path: Path) -> None:
    taken = take_apart(FOLDERS[0], tmp_path, ("audio_tower.", "language_model."))
    path = taken.checkpoint / "model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(path).items()}, path, {"format": "pt"})
    config = json.loads((taken.checkpoint / "config.json").read_text())
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    (taken.checkpoint / "config.json").write_text(json.dumps(config))
    read = ULTRAVOX.read(taken.checkpoint, Sources(tokenizer=str(tokenizer_folder())))
    assert read.model.dtype == dtype
    ULTRAVOX.write(read.model, read.processor, tmp_path / "written")
    assert_same_files(tmp_path / "written", taken.checkpoint / "config.json", path)
