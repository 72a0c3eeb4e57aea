"""Checkpoints: equal bits at any number of processes, and never one that is not whole."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny import hearing_model
from tests.training.checkpoint_ranks import OPTIMIZERS, everything, resave
from tests.training.sharded_llama import SETTINGS, push, tiny_llama

from vivavoce.base.errors import CheckpointError
from vivavoce.training import checkpoints, pieces
from vivavoce.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from vivavoce.training.optimizers import build_optimizer


def trained(name: str = "adamw", steps: int = 3):
    model = tiny_llama()
    optimizer = build_optimizer(name, model, **SETTINGS)
    push(model, optimizer, steps)
    return model, optimizer


def fresh(name: str = "adamw"):
    model = tiny_llama()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model, build_optimizer(name, model, **SETTINGS)


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_going_on_is_never_having_stopped(tmp_path, name, monkeypatch):
    monkeypatch.setattr(pieces, "FILE_BYTES", 5000)  # many files
    model, optimizer = trained(name)
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    path = save_checkpoint(tmp_path, 3, model, optimizer, reader={"next": 4}, counters={"rows": 9})
    assert path == tmp_path / "step-000003" and len(list(path.glob("*.safetensors"))) > 3
    drawn = random.random(), np.random.rand(), np.random.randn(), torch.rand(1)
    saved = everything(model, optimizer)
    push(model, optimizer, 2)

    other, its_optimizer = fresh(name)
    its_optimizer.param_groups[0]["lr"] = 0.5  # settings are the recipe's, not the checkpoint's
    loaded = load_checkpoint(latest_checkpoint(tmp_path), other, its_optimizer)
    assert (loaded.step, loaded.readers, loaded.counters) == (3, [{"next": 4}], {"rows": 9})
    assert loaded.same_random
    assert (random.random(), np.random.rand(), np.random.randn(), torch.rand(1)) == drawn
    assert_equal(everything(other, its_optimizer), saved)
    assert its_optimizer.param_groups[0]["lr"] == 0.5
    its_optimizer.param_groups[0]["lr"] = SETTINGS["lr"]
    push(other, its_optimizer, 2)
    assert_equal(everything(other, its_optimizer), everything(model, optimizer))


def test_two_processes_take_over_from_one_and_one_from_two(tmp_path):
    for name in OPTIMIZERS:
        save_checkpoint(tmp_path / name, 3, *trained(name))
    torch.multiprocessing.spawn(resave, (tmp_path,), nprocs=2)
    for name in OPTIMIZERS:
        model, optimizer = trained(name)
        assert_equal(load_file(tmp_path / f"{name}-loaded.safetensors"), everything(model, optimizer))
        other, its_optimizer = fresh(name)
        loaded = load_checkpoint(latest_checkpoint(tmp_path / name), other, its_optimizer)
        assert (loaded.step, loaded.world_size, loaded.same_random) == (5, 2, False)
        assert_equal(everything(other, its_optimizer), load_file(tmp_path / f"{name}-trained.safetensors"))


def test_a_parameter_that_never_had_a_gradient_has_no_state(tmp_path):
    model, optimizer = fresh()
    for p in [*model.parameters()][:3]:
        p.grad = torch.ones_like(p)
    optimizer.step()
    save_checkpoint(tmp_path, 1, model, optimizer)
    other, its_optimizer = trained()
    load_checkpoint(tmp_path / "step-000001", other, its_optimizer)
    assert len(its_optimizer.state) == len(optimizer.state) == 3
    assert_equal(everything(other, its_optimizer), everything(model, optimizer))


def test_frozen_parts_that_are_elsewhere_are_left_out(tmp_path):
    model = hearing_model()
    everything_stays = {name for name, _ in checkpoints._model_tensors(model)}
    assert {name for name, _ in model.named_parameters()} <= everything_stays
    model.config.text_model_ref = "some/llm"
    model.language_model.requires_grad_(False)
    model.language_model.model.norm.requires_grad_(True)
    kept = {name for name, _ in checkpoints._model_tensors(model)}
    assert {name for name in kept if name.startswith("language_model.")} == {
        "language_model.model.norm.weight"
    }
    assert {name for name in everything_stays if not name.startswith("language_model.")} < kept
    save_checkpoint(tmp_path, 1, model)
    model.language_model.requires_grad_(True)
    with pytest.raises(CheckpointError, match=r"lacks \d+ tensors \(such as model/language_model"):
        load_checkpoint(tmp_path / "step-000001", model)


# whole, or not there


def two_checkpoints(folder: Path) -> None:
    model, optimizer = trained()
    for step in (10, 20):
        save_checkpoint(folder, step, model, optimizer, counters=step)


FILES = ("manifest.json", "rank-00000.json", "rank-00000-000.safetensors")


@pytest.mark.parametrize("how", ["cut", "emptied", "removed", "a bit"])
@pytest.mark.parametrize("name", FILES)
def test_torn_in_any_file(tmp_path, name, how):
    two_checkpoints(tmp_path)
    file = tmp_path / "step-000020" / name
    data = file.read_bytes()
    if how == "removed":
        file.unlink()
    else:
        changed = bytes([data[len(data) // 2] ^ 0x80])
        middle = data[: len(data) // 2] + changed + data[len(data) // 2 + 1 :]
        file.write_bytes({"cut": data[:-1], "emptied": b"", "a bit": middle}[how])
    with pytest.warns(UserWarning, match=r"^step-000020: .*; using step-000010\.$"):
        assert latest_checkpoint(tmp_path) == tmp_path / "step-000010"
    if how != "a bit":
        with pytest.warns(UserWarning, match=r"^step-000020: "):
            assert latest_checkpoint(tmp_path, check_hashes=False) == tmp_path / "step-000010"


def test_none_whole_is_an_error_and_none_at_all_is_not(tmp_path):
    assert latest_checkpoint(tmp_path / "nowhere") is None
    assert latest_checkpoint(tmp_path) is None
    two_checkpoints(tmp_path)
    for step in (10, 20):
        (tmp_path / f"step-0000{step}" / FILES[2]).unlink()
    with (
        pytest.warns(UserWarning),
        pytest.raises(CheckpointError, match="no checkpoint that is whole: step-000020"),
    ):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("after", range(5))
def test_killed_anywhere(tmp_path, after, monkeypatch):
    """A real exit after each file, in the middle of the next, and before the folder gets its name."""
    model, optimizer = trained()
    save_checkpoint(tmp_path, 10, model, optimizer)
    write, rename, done = checkpoints._write, Path.rename, []

    def dying(path, data):
        if len(done) == after:
            path.write_bytes(data[: len(data) // 2])
            os._exit(9)
        done.append(path)
        return write(path, data)

    def no_name(self, target):
        os._exit(9)

    child = os.fork()
    if child == 0:
        checkpoints._write = dying
        if after == 3:
            Path.rename = no_name
        save_checkpoint(tmp_path, 20, model, optimizer)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert Path.rename is rename
    if after == 4:  # nothing to die of
        assert status == 0 and latest_checkpoint(tmp_path) == tmp_path / "step-000020"
        return
    assert status == 9
    with pytest.warns(UserWarning, match="step-000020.part was never finished; using step-000010"):
        assert latest_checkpoint(tmp_path) == tmp_path / "step-000010"
    save_checkpoint(tmp_path, 20, model, optimizer)
    assert latest_checkpoint(tmp_path) == tmp_path / "step-000020"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("at", range(3))
def test_no_space_keeps_the_last(tmp_path, at, monkeypatch):
    two_checkpoints(tmp_path)
    model, optimizer = trained()
    write, done = checkpoints._write, []

    def full(path, data):
        if len(done) == at:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(path)
        return write(path, data)

    monkeypatch.setattr(checkpoints, "_write", full)
    wanted = "step 30 could not be written.*No space left.*the last one is still step-000020. Make room"
    with pytest.raises(CheckpointError, match=wanted):
        save_checkpoint(tmp_path, 30, model, optimizer, keep_last=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-000020"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-000020"


def test_the_last_few_are_kept(tmp_path):
    model, optimizer = trained()
    for step in (1, 2, 9, 1_000_000, 1_000_001):
        save_checkpoint(tmp_path, step, model, optimizer, keep_last=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1000000", "step-1000001"]
    assert latest_checkpoint(tmp_path).name == "step-1000001"
    save_checkpoint(tmp_path, 9, model, optimizer, keep_last=1)  # a run that went back
    assert [p.name for p in tmp_path.iterdir()] == ["step-000009"]


def test_saving_a_step_again_replaces_it(tmp_path):
    two_checkpoints(tmp_path)
    (tmp_path / "step-000020" / FILES[2]).write_bytes(b"torn")
    model, optimizer = trained(steps=1)
    save_checkpoint(tmp_path, 20, model, optimizer, counters="again")
    assert load_checkpoint(latest_checkpoint(tmp_path), model, optimizer).counters == "again"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-000020"]


def test_another_optimizer_model_or_type_is_refused(tmp_path):
    save_checkpoint(tmp_path, 1, *trained())
    path = tmp_path / "step-000001"
    model, optimizer = fresh("adam_mini")
    with pytest.raises(CheckpointError, match="the state of AdamW, wanted AdamMini"):
        load_checkpoint(path, model, optimizer)
    with pytest.raises(CheckpointError, match=r"float32 in .*, wanted torch.bfloat16"):
        load_checkpoint(path, tiny_llama().to(torch.bfloat16))
    model.resize_token_embeddings(70)
    with pytest.raises(CheckpointError, match=r"of shape \[61, 32\] in .*, wanted \[70, 32\]"):
        load_checkpoint(path, model)
    save_checkpoint(tmp_path, 2, *trained("adam_mini"))
    model = tiny_llama()
    july = build_optimizer("adam_mini", model, **SETTINGS, rules="july2024")
    with pytest.raises(CheckpointError, match=r"optimizer/.*/v is of shape"):
        load_checkpoint(tmp_path / "step-000002", model, july)


def test_names_in_a_manifest_do_not_lead_elsewhere(tmp_path):
    two_checkpoints(tmp_path)
    manifest = tmp_path / "step-000020" / "manifest.json"
    record = json.loads(manifest.read_text())
    shutil.copy(tmp_path / "step-000020" / FILES[1], tmp_path / FILES[1])
    record["files"][f"../{FILES[1]}"] = record["files"].pop(FILES[1])
    manifest.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="is missing"):
        assert latest_checkpoint(tmp_path) == tmp_path / "step-000010"
