"""Two processes with four rows each are one with eight: gradients, norms, weights, with ears on one of them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file
from tests.models.tiny import hearing_batch, hearing_model
from tests.training.parallel_ranks import CASES, CLIP, STEPS, build, run_process, train
from torch import nn

from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.training.checkpoints import load_checkpoint
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.parallel import World, finish_gradients, gradient_norm, spread
from vivavoce.training.recompute import compile_layers, recompute_layers
from vivavoce.training.trainable import decoder_layers

ALONE = World()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_process, (made,), nprocs=2)
    return made


@pytest.fixture(scope="module")
def facts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"facts-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one(folder, facts, case):
    wanted, alone, _ = train(case, ALONE, 8)
    found = load_file(folder / f"{case}.safetensors")
    assert found.keys() == wanted.keys()  # and so the same parameters have no gradient
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() < 1e-5, name
    assert alone["mode"] == "none" and alone["norms"][0] > CLIP  # clipping took place
    for rank in range(2):
        assert facts[rank][case]["norms"] == pytest.approx(alone["norms"], rel=1e-5)
        assert facts[rank][case]["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert facts[rank][case]["mode"] == case.partition(",")[0]
        assert facts[rank][case]["finite"] == [False, False]  # one NaN on one rank


@pytest.mark.parametrize("case", [case for case in CASES if "fsdp" in case])
def test_one_process_goes_on_from_two(folder, case):
    model, optimizer, _ = build(case, ALONE)
    load_checkpoint(folder / case / f"step-{STEPS:06d}", model, optimizer)
    found = load_file(folder / f"{case}.safetensors")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, found[f"parameter {name}"]), name


def test_what_processes_tell_each_other(facts):
    for told in facts:
        assert told["world"]["sum"] == {"a": 3.0, "b": [1.0, 4.0], "only": 3.0}
        assert told["world"]["most"] == 4 and told["world"]["any"] == [True, False]
        assert told["world"]["gather"] == ["x", "xxxx"]
    assert ALONE.sum({"a": torch.tensor(2.0), "b": (1, 2)}) == {"a": 2.0, "b": (1.0, 2.0)}


def test_clipping_is_torchs():
    model = hearing_model()
    model(**hearing_batch()).logits.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    wanted = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    clipped = [p.grad for p in model.parameters() if p.grad is not None]
    for p, gradient in zip((p for p in model.parameters() if p.grad is not None), gradients, strict=True):
        p.grad = gradient.clone()
    assert finish_gradients(model, ALONE) == pytest.approx(float(wanted), rel=1e-6)
    assert all(map(torch.equal, (p.grad for p in model.parameters() if p.grad is not None), gradients))
    assert finish_gradients(model, ALONE, CLIP) > CLIP
    now = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, rtol=1e-6, atol=0) for a, b in zip(now, clipped, strict=True))
    assert gradient_norm(model.parameters()) == pytest.approx(CLIP, rel=1e-5)
    now[0].view(-1)[0] = float("inf")
    assert finish_gradients(model, ALONE, CLIP) == math.inf


@pytest.mark.parametrize(("how", "runs"), [("none", 2), ("selective", 3), ("full", 4)])
def test_recomputed_layers_give_the_same_and_keep_less(how, runs):
    model, plain = hearing_model(), hearing_model()
    counted, kept = [], {}
    for layer in decoder_layers(model):
        layer.mlp.register_forward_pre_hook(lambda *_: counted.append(1))
    recompute_layers(list(decoder_layers(model)), how)
    for one in (plain, model):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.append(t.nbytes) or t, lambda t: t
        ):
            loss = one(**hearing_batch(), use_cache=True).logits.square().sum()
        loss.backward()
        kept[one] = sum(sizes)
    assert len(counted) == runs
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad)
    assert (kept[model] < kept[plain]) == (how != "none")
    with torch.no_grad():
        ids = torch.tensor([[1, 2, 3]])
        assert torch.equal(model.generate(ids, max_new_tokens=4), plain.generate(ids, max_new_tokens=4))


@pytest.mark.parametrize("how", ["none", "full"])
def test_compiled_layers_give_the_same(how):
    model, plain = hearing_model(), hearing_model()
    compile_layers(list(decoder_layers(model)), backend="aot_eager")
    recompute_layers(list(decoder_layers(model)), how)
    for one in (plain, model):
        one(**hearing_batch()).logits.square().mean().backward()
    assert {n for n, _ in model.named_parameters()} == {n for n, _ in plain.named_parameters()}
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert (a.grad is None and b.grad is None) or torch.allclose(a.grad, b.grad, atol=1e-6)


def test_a_world_is_told_by_torchrun(monkeypatch):
    for name in list(os.environ):
        if name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name)
    assert World.from_environment("cpu") == World()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"):
        World.from_environment("cpu")


def test_refused():
    for settings, message in (
        ({"mode": "ddp"}, "parallel.mode is 'ddp'"),
        ({"activation_checkpointing": "some"}, "activation_checkpointing is 'some'"),
        ({"mode": "none", "world": World(0, 2)}, "'none' for 2 processes"),
    ):
        world = settings.pop("world", ALONE)
        with pytest.raises(ConfigError, match=message):
            spread(hearing_model(), world, **settings)


@pytest.mark.parametrize("name", ["adamw_8bit", "adamw_8bit_bitsandbytes"])
def test_optimizers_of_eight_bits_say_what_is_missing(name, monkeypatch):
    monkeypatch.setattr("vivavoce.training.optimizers.eight_bits.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=f"'{name}' needs .*pip install"):
        build_optimizer(name, nn.Linear(2, 2), lr=1e-3)
