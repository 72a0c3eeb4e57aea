"""SALMONN's own files and ours: there and back with equal tensors and equal logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.goldens.salmonn_parts import STORED_WHOLE, Parts, make_parts
from torch import Tensor

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.config import Lora
from vivavoce.models.lora import add_lora, merge_lora, set_lora_scale
from vivavoce.models.presets.preset import Imported, Sources
from vivavoce.models.presets.salmonn.checkpoint import read_checkpoint
from vivavoce.models.presets.salmonn.preset import SALMONN
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(STORED_WHOLE, tmp_path_factory.mktemp("parts"))


@pytest.fixture
def folder(parts: Parts, tmp_path: Path) -> Path:
    return parts.checkpoint("checkpoint_layout.pth", tmp_path / "theirs", lora_alpha=16)


@pytest.fixture
def found(parts: Parts, folder: Path) -> Imported:
    return SALMONN.read(folder, parts.sources)


def logits(model: Any, processor: Any) -> Tensor:
    torch.manual_seed(0)
    part = {"type": "audio", "array": torch.randn(20_000).numpy(), "sampling_rate": 16_000}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "who speaks ?"}]}]
    with torch.no_grad():
        found: Tensor = model(**processor.apply_chat_template([messages], add_generation_prompt=True)).logits
    return found


@pytest.mark.parametrize("backbone", ["reference", "merged"])
@pytest.mark.parametrize("with_parts", [True, False])
def test_theirs_ours_theirs(
    backbone: str, with_parts: bool, parts: Parts, folder: Path, found: Imported, tmp_path: Path
) -> None:
    wanted = logits(found.model, found.processor)
    if backbone == "merged" and not with_parts:
        return  # nothing to merge
    first = found if with_parts else SALMONN.read(folder, parts.sources, with_parts=False)
    first.model.save_pretrained(tmp_path / "ours", backbone=backbone)
    first.processor.save_pretrained(tmp_path / "ours")
    model = SpeechLM.from_pretrained(tmp_path / "ours")
    processor = SpeechProcessor.from_pretrained(tmp_path / "ours")
    assert torch.equal(logits(model, processor), wanted)
    assert model.generation_config.num_beams == 4
    if backbone == "merged":
        model.config.text_model_ref = str(parts.text_model)
    [file] = SALMONN.write(model, processor, tmp_path / "again")
    theirs, original = read_checkpoint(file), read_checkpoint(folder)
    assert theirs.tensors.keys() == original.tensors.keys()
    assert all(torch.equal(theirs.tensors[n], t) for n, t in original.tensors.items())
    again = SALMONN.read(file, parts.sources)
    assert torch.equal(logits(again.model, again.processor), wanted)
    assert again.model.config.lora == found.model.config.lora
    assert again.model.config.audio_in.connector == found.model.config.audio_in.connector


def test_by_reference_only_the_own_tensors_are_written(found: Imported, tmp_path: Path) -> None:
    found.model.save_pretrained(tmp_path / "ours")
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as stored:
        names = set(stored.keys())
    assert names == {n for n in found.model.state_dict() if n.startswith("connector.") or ".lora_" in n}


def test_the_written_file_holds_plain_tensors(parts: Parts, found: Imported, tmp_path: Path) -> None:
    [file] = SALMONN.write(found.model, found.processor, tmp_path / "again")
    stored = torch.load(file, weights_only=True)
    assert stored.keys() == {"model", "config"}
    assert all(type(t) is Tensor and t.device.type == "cpu" for t in stored["model"].values())
    assert stored["model"].keys() == set(json.loads((STORED_WHOLE / "config.json").read_text())["trainable"])
    settings = stored["config"]["model"]
    assert (settings["lora_rank"], settings["lora_alpha"], settings["second_per_window"]) == (
        8,
        16.0,
        0.333333,
    )
    assert settings["llama_path"] == str(parts.text_model.resolve())
    assert SALMONN.recognises(file) and SALMONN.read(file, Sources(), with_parts=False)


def test_the_scale_of_adapters_can_be_changed(parts: Parts, folder: Path, found: Imported) -> None:
    """Lowering alpha discounts the adapters; 0 is the language model alone."""
    wanted = logits(found.model, found.processor)
    other = SALMONN.read(parts.checkpoint("checkpoint_layout.pth", folder, lora_alpha=32), parts.sources)
    assert not torch.allclose(logits(other.model, other.processor), wanted)
    set_lora_scale(other.model, "language_model", 16)
    assert torch.equal(logits(other.model, other.processor), wanted)


def test_a_merged_model_is_not_written(found: Imported, tmp_path: Path) -> None:
    wanted = logits(found.model, found.processor)
    merge_lora(found.model)
    torch.testing.assert_close(logits(found.model, found.processor), wanted, rtol=0, atol=1e-4)
    with pytest.raises(ModelError, match="does not hold a language model"):
        SALMONN.write(found.model, found.processor, tmp_path / "again")


def test_adapters_of_the_encoder_are_not_written(found: Imported, tmp_path: Path) -> None:
    add_lora(found.model, "audio_encoder", Lora(targets=("k_proj",)))
    with pytest.raises(ModelError, match=r"no place for audio_encoder\."):
        SALMONN.write(found.model, found.processor, tmp_path / "again")


def test_another_kind_of_model_is_not_written(tmp_path: Path) -> None:
    from tests.models.tiny import hearing_model

    with pytest.raises(ModelError, match="a Q-Former on Whisper and BEATs, this model has stack, mel_ctc"):
        SALMONN.write(hearing_model(), None, tmp_path)


def test_another_language_model_is_noticed(parts: Parts, found: Imported, tmp_path: Path) -> None:
    """Of the same sizes; saved by reference, its fingerprint is remembered."""
    found.model.save_pretrained(tmp_path / "ours")
    record = json.loads((tmp_path / "ours" / "config.json").read_text())
    other = make_parts(STORED_WHOLE, tmp_path / "other").text_model
    model = SpeechLM.from_pretrained(tmp_path / "ours").language_model
    stranger = type(model)(model.config)
    stranger.save_pretrained(other)
    (tmp_path / "ours" / "config.json").write_text(json.dumps({**record, "text_model_ref": str(other)}))
    with pytest.raises(CheckpointError, match="language_model"):
        SpeechLM.from_pretrained(tmp_path / "ours")


def test_half_precision(parts: Parts, folder: Path, found: Imported) -> None:
    half = SALMONN.read(folder, parts.sources, dtype=torch.float16)
    assert half.model.language_model.lm_head.weight.dtype == torch.float16
    close = logits(half.model, half.processor).float()
    torch.testing.assert_close(close, logits(found.model, found.processor), rtol=0, atol=0.05)
