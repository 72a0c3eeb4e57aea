"""Adam-mini under FSDP2: every number of processes gives the weights of one, and reads what another number saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file
from tests.training.sharded_llama import (
    CASES,
    SETTINGS,
    everything,
    push,
    resume,
    run_process,
    shard,
    tiny_llama,
    train,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from vivavoce.base.errors import ConfigError
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.optimizers.adam_mini import AdamMini

MESHES = [(2,), (4,), (2, 2)]  # the last: two replicas of two shards
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, ...], Path]:
    """The folder of every mesh; each after the first also goes on from what the one before it saved."""
    folders: dict[tuple[int, ...], Path] = {}
    earlier = None
    for mesh in MESHES:
        folder = tmp_path_factory.mktemp("mesh")
        world = mesh[0] * mesh[-1] if len(mesh) > 1 else mesh[0]
        torch.multiprocessing.spawn(run_process, (world, mesh, folder, earlier), nprocs=world)
        folders[mesh] = earlier = folder
    return folders


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Tensor]]:
    """What one process gets, for every case."""
    found = {}
    for case, settings in CASES.items():
        model = tiny_llama()
        optimizer = build_optimizer("adam_mini", model, **SETTINGS, **settings)
        train(model, optimizer, 0, 5)
        found[case] = everything(model, optimizer)
    return found


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], most: float = TOLERANCE) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        difference = float((found[name] - value).abs().max())
        assert difference <= most, f"{name}: {difference}"


@pytest.fixture
def group_of_one() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("case", CASES)
def test_a_mesh_of_one_is_one_process(group_of_one, case):
    found = []
    for model in (tiny_llama(), shard(tiny_llama(), (1,))):
        optimizer = build_optimizer("adam_mini", model, **SETTINGS, **CASES[case])
        push(model, optimizer, 2)
        found.append(everything(model, optimizer))
    assert_same(found[1], found[0], 0)


def test_columns_spread_over_processes_are_refused(group_of_one):
    weight = nn.Parameter(distribute_tensor(torch.ones(4, 4), init_device_mesh("cpu", (1,)), [Shard(1)]))
    with pytest.raises(ConfigError, match=r"^mlp\.weight is placed as .*fully_shard"):
        AdamMini([("mlp.weight", weight)], lr=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_sharded_equals_one_process(runs, alone, mesh, case):
    assert_same(load_file(runs[mesh] / f"{case}-trained.safetensors"), alone[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_equal_gradients_give_equal_bits(runs, mesh, case):
    model = tiny_llama()
    optimizer = build_optimizer("adam_mini", model, **SETTINGS, **CASES[case])
    push(model, optimizer, 4)
    assert_same(load_file(runs[mesh] / f"{case}-pushed.safetensors"), everything(model, optimizer), 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mesh", MESHES[1:], ids=str)
def test_going_on_with_another_number_of_processes(runs, alone, mesh, case):
    assert_same(load_file(runs[mesh] / f"{case}-resumed.safetensors"), alone[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_going_on_alone_from_four_processes(runs, alone, case):
    model = tiny_llama()
    optimizer = build_optimizer("adam_mini", model, **SETTINGS, **CASES[case])
    resume(runs[4,] / f"{case}-checkpoint", model, optimizer, no_dist=True)
    train(model, optimizer, 3, 5)
    assert_same(everything(model, optimizer), alone[case])
