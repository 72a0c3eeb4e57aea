"""Distillation as Ultravox does it: rows, masks and losses against reference numbers, for every stored model."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.goldens.discovery import golden_folders, label
from tests.goldens.ultravox_models import load_golden_model, our_name
from tests.goldens.ultravox_toy import AUDIO, AUDIO_TOKEN, toy_tokenizer
from torch import Tensor

from vivavoce.training.distillation import distillation_loss, last_prediction_mask, prediction_mask
from vivavoce.training.distillation_rows import collate_rows, distillation_row


def kd_folders() -> list[Path]:
    """Folders of tiny models that store a distillation batch."""
    found = []
    for root in golden_folders("ultravox"):
        for path in sorted(root.glob("*/goldens.safetensors")):
            with safe_open(path, "pt") as file:
                if "kd/input_ids" in file.keys():  # noqa: SIM118  (not a dict)
                    found.append(path.parent)
    return found


def name(folder: Path) -> str:
    return f"{label(folder.parent)}-{folder.name}"


FOLDERS = kd_folders()
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=name)


@functools.cache
def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "goldens.safetensors")


def losses(folder: Path) -> list[str]:
    with safe_open(folder / "goldens.safetensors", "pt") as file:
        return sorted(key for key in file.keys() if key.startswith("kd/loss_"))  # noqa: SIM118


every_loss = pytest.mark.parametrize(
    ("folder", "key"),
    [(folder, key) for folder in FOLDERS for key in losses(folder)],
    ids=[f"{name(folder)}-{key}" for folder in FOLDERS for key in losses(folder)],
)


def with_parts(text: str, transcript: str) -> str | list[dict[str, str]]:
    """A golden's content, where audio is written out, as parts."""
    first, *others = text.split(AUDIO_TOKEN)
    parts = [{"type": "text", "text": first}]
    for other in others:
        parts += [{"type": "audio", "path": "unread.wav", "transcript": transcript}]
        parts += [{"type": "text", "text": other}]
    return parts if others else text


def rows(folder: Path, **options: Any) -> dict[str, Tensor]:
    """The stored conversations as our batch, with the filler of the goldens in place of our placeholder."""
    tokenizer, golden = toy_tokenizer(folder.parent), tensors(folder)
    filler = json.loads((folder / "config.json").read_text())["pad_token_id"]
    counts = list(torch.split(golden["kd/audio_token_len"], golden["kd/audio_batch_size"].flatten().tolist()))
    made = []
    texts = json.loads((folder / "summary.json").read_text())["kd_texts"]
    for chat, chunks in zip(texts, counts, strict=True):
        messages = [{**m, "content": with_parts(m["content"], chat["transcript"])} for m in chat["messages"]]
        clips = sum(m["content"].count(AUDIO_TOKEN) for m in chat["messages"])
        positions = chunks.tolist() if clips == len(chunks) else [int(chunks.sum())]
        made.append(distillation_row(tokenizer, messages, positions, AUDIO, **options))
    batch = collate_rows(made, tokenizer.pad_token_id)
    return {**batch, "filled_ids": batch["input_ids"].masked_fill(batch["input_ids"] == AUDIO, filler)}


def assert_same_rows(batch: dict[str, Tensor], golden: dict[str, Tensor], case: str) -> None:
    """Every id tensor that the goldens store of ``case``."""
    fields = {"input_ids": "filled_ids", "alt_input_ids": "teacher_input_ids"}
    fields |= {"attention_mask": "attention_mask", "alt_attention_mask": "teacher_attention_mask"}
    fields |= {"labels": "labels", "alt_labels": "teacher_labels"}
    stored = [field for field in fields if f"{case}/{field}" in golden]
    assert stored
    wrong = [field for field in stored if not torch.equal(batch[fields[field]], golden[f"{case}/{field}"])]
    assert not wrong, f"{case}: {', '.join(wrong)}"


def test_some_model_is_stored() -> None:
    assert FOLDERS


@every_folder
def test_rows(folder: Path) -> None:
    assert_same_rows(rows(folder), tensors(folder), "kd")


@every_folder
def test_truncated_rows(folder: Path) -> None:
    cases = {key.partition("/")[0] for key in tensors(folder) if key.startswith("kd_trunc")}
    for case in sorted(cases):
        limit = int(case.removeprefix("kd_trunc"))
        assert_same_rows(rows(folder, max_response_tokens=limit), tensors(folder), case)


@every_folder
def test_labels_after_audio(folder: Path) -> None:
    if "labels_after_audio/labels" in tensors(folder):
        assert_same_rows(rows(folder, loss_mask="after_audio"), tensors(folder), "labels_after_audio")


@every_folder
@pytest.mark.parametrize("side", ["", "alt_"])
def test_prediction_positions(folder: Path, side: str) -> None:
    golden = tensors(folder)
    labels = golden[f"kd/{side}labels"]
    assert torch.equal(prediction_mask(labels), golden[f"kd/{side}pred_mask"])
    assert torch.equal(last_prediction_mask(labels), golden[f"kd/{side}eot_mask"])


def both_logits(folder: Path) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Run the tiny model on our rows of the stored conversations, as student and as teacher."""
    golden, batch, model = tensors(folder), rows(folder), load_golden_model(folder)
    student = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        input_features=golden["batch_left/audio_values"],
        feature_lengths=golden["kd/audio_lens"],
    ).logits
    with torch.no_grad():
        teacher = model(
            input_ids=batch["teacher_input_ids"], attention_mask=batch["teacher_attention_mask"]
        ).logits
    return student, teacher, batch


def settings(key: str) -> dict[str, float]:
    """Arguments of the loss that a golden's name tells."""
    if key == "kd/loss_ce":
        return {"ce_weight": 1.0}
    found = re.fullmatch(r"kd/loss_T(\d+(?:\.\d+)?)_eot(\d+(?:\.\d+)?)", key)
    assert found, f"{key} does not tell its temperature and weight"
    return {"temperature": float(found[1]), "eot_weight": float(found[2])}


@every_loss
@pytest.mark.parametrize("form", ["picked", "whole"])
def test_loss_of_stored_logits(folder: Path, key: str, form: str) -> None:
    golden = tensors(folder)
    student, teacher = golden["kd/logits_student_at_pred"], golden["kd/logits_teacher_at_pred"]
    if form == "whole":
        student = spread(student, golden["kd/pred_mask"])
        teacher = spread(teacher, golden["kd/alt_pred_mask"])
    if key == "kd/loss_ce":  # the rows learn alike, so the student can be its own teacher: no divergence
        teacher = golden["kd/logits_student_at_pred"]
    loss = distillation_loss(student, teacher, golden["kd/labels"], golden["kd/alt_labels"], **settings(key))
    assert float(loss) == pytest.approx(float(golden[key]), abs=1e-5)


def spread(picked: Tensor, mask: Tensor) -> Tensor:
    """Logits [B, L, V] that are ``picked`` where ``mask`` is, and must not matter elsewhere."""
    whole = torch.full((*mask.shape, picked.shape[-1]), 1e4)
    whole[mask] = picked
    return whole


@every_folder
def test_logits_of_the_model(folder: Path) -> None:
    golden = tensors(folder)
    with torch.no_grad():
        student, teacher, batch = both_logits(folder)
    for logits, labels, side in ((student, "labels", "student"), (teacher, "teacher_labels", "teacher")):
        picked = logits[prediction_mask(batch[labels])]
        torch.testing.assert_close(picked, golden[f"kd/logits_{side}_at_pred"], rtol=0, atol=2e-4)


@every_loss
def test_loss_of_the_model(folder: Path, key: str) -> None:
    with torch.no_grad():
        student, teacher, batch = both_logits(folder)
    labels = batch["labels"], batch["teacher_labels"]
    if key == "kd/loss_ce":
        teacher, labels = student, (batch["labels"], batch["labels"])
    loss = distillation_loss(student, teacher, *labels, **settings(key))
    assert float(loss) == pytest.approx(float(tensors(folder)[key]), abs=1e-5)


@every_folder
def test_gradients_of_the_model(folder: Path) -> None:
    golden, model = tensors(folder), load_golden_model(folder)
    parameters = dict(model.named_parameters())
    cases: dict[str, dict[str, Tensor]] = {}
    for key in golden:
        if key.startswith("kd/grad_"):
            _, case, name = key.split("/")
            cases.setdefault(case, {})[name] = golden[key]
    for case, wanted in cases.items():
        student, teacher, batch = both_logits(folder)
        options = settings(f"kd/loss_{case.removeprefix('grad_')}")
        loss = distillation_loss(student, teacher, batch["labels"], batch["teacher_labels"], **options)
        found = torch.autograd.grad(loss, [parameters[our_name(name)] for name in wanted])
        far = {n: float((a - b).abs().max()) for (n, a), b in zip(wanted.items(), found, strict=True)}
        assert max(far.values()) <= 1e-5, f"{case}: {far}"
