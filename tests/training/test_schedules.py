"""Schedules: values worked out by hand, transformers' own where it has the same, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from vivavoce.base.errors import ConfigError
from vivavoce.training.schedules import SCHEDULES, build_schedule, set_learning_rate

PARAMETER = [torch.nn.Parameter(torch.ones(1))]


def factors(num_steps: int, **record) -> list[float]:
    schedule = build_schedule(record, num_steps)
    return [schedule.factor(step) for step in range(num_steps + 3)]


def test_the_seed_run_of_ten_steps():
    # recorded rates of a run at 5e-5: one warmup step of ten, then a cosine
    recorded = [0.0, 5e-05, 4.849231551964771e-05, 4.415111107797445e-05, 3.7500000000000003e-05]
    found = [5e-5 * f for f in factors(10, type="cosine", warmup_ratio=0.1)[:5]]
    assert found == pytest.approx(recorded, rel=1e-12)


def test_by_hand():
    assert factors(4, type="constant", warmup_steps=2) == [0, 0.5, 1, 1, 1, 1, 1]
    assert factors(4, type="linear") == [1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert factors(4, type="linear", min_ratio=0.5) == [1, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5]
    assert factors(4, type="linear", warmup_steps=2, warmup_from=0.5) == [0.5, 0.75, 1, 0.5, 0, 0, 0]
    quarter = 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))
    wanted = [1, quarter, 0.55, 1.1 - quarter, 0.1, 0.1, 0.1]
    assert factors(4, type="cosine", min_ratio=0.1) == pytest.approx(wanted)
    wanted = [0, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert factors(9, type="wsd", warmup_steps=1, decay_steps=4) == wanted
    assert factors(4, type="wsd", decay_ratio=1.0, decay="sqrt")[:2] == [1, 0.5]
    assert factors(4, type="wsd", decay_steps=2, decay="cosine", min_ratio=0.2)[2:5] == pytest.approx(
        [1, 0.6, 0.2]
    )
    assert factors(3, type="cosine", warmup_ratio=0.34)[:2] == [0, 0.5]  # 1.02 steps are two


def test_salmonn():
    found = [
        3e-5 * build_schedule({"type": "cosine_salmonn"}, 90_000).factor(s)
        for s in (0, 1500, 2999, 3000, 45_000, 90_000)
    ]
    wanted = [
        1e-6,
        1.55e-5,
        1e-6 + 2.9e-5 * 2999 / 3000,
        1e-5 + 2e-5 * 0.5 * (1 + math.cos(math.pi / 30)),
        2e-5,
        1e-5,
    ]
    assert found == pytest.approx(wanted, rel=1e-9)
    assert 1 - found[3] / 3e-5 == pytest.approx(0.0018, abs=1e-4)  # the step down at the end of the warmup
    assert build_schedule({"type": "cosine_salmonn", "warmup_ratio": 0.5}, 100).warmup == 50


THEIRS = {
    "constant": (transformers.get_constant_schedule_with_warmup, {}),
    "linear": (transformers.get_linear_schedule_with_warmup, {"num_training_steps": 23}),
    "cosine": (transformers.get_cosine_schedule_with_warmup, {"num_training_steps": 23}),
}


@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("name", THEIRS)
def test_equal_to_transformers(name, warmup):
    make, settings = THEIRS[name]
    theirs = make(torch.optim.SGD(PARAMETER, lr=1.0), num_warmup_steps=warmup, **settings)
    wanted = [theirs.lr_lambdas[0](step) for step in range(24)]
    assert factors(23, type=name, warmup_steps=warmup)[:24] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_row_is_pure_stays_in_range_and_takes_a_ratio(name):
    schedule = build_schedule({"type": name, "warmup_ratio": 0.25}, 40)
    found = [schedule.factor(step) for step in range(60)]
    assert found[::-1] == [schedule.factor(step) for step in reversed(range(60))]
    assert all(0 <= factor <= 1 for factor in found)
    assert found[:10] == sorted(found[:10]) and found[10:] == sorted(found[10:], reverse=True)
    assert found[10] > 0.85 and len(set(found[40:])) == 1


def test_rates_of_groups_are_multiplied_anew_each_time():
    rate = torch.tensor(4.0)
    others = [torch.nn.Parameter(torch.ones(1))]
    optimizer = torch.optim.AdamW(
        [{"params": PARAMETER, "lr": 2.0}, {"params": others, "lr": rate}], foreach=False
    )
    for factor in (0.5, 0.25, 1.0):
        set_learning_rate(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [2.0 * factor, 4.0 * factor]
    assert optimizer.param_groups[1]["lr"] is rate  # kept as the tensor that the optimizer holds


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"type": "cosin"}, "Did you mean 'cosine'"),
        ({"type": "cosine", "warmup": 3}, "schedule.warmup is unknown, did you mean 'warmup_"),
        ({"type": "cosine", "warmup_ratio": 1.5, "min_ratio": -1}, "warmup_ratio 1.5.*min_ratio is -1"),
        ({"type": "linear", "warmup_steps": 3, "warmup_ratio": 0.1}, "one of the two"),
        ({"type": "wsd", "warmup_steps": 6, "decay_steps": 5}, "a warmup of 6 and a decay of 5 .* 10"),
        ({"type": "wsd", "decay": "cubic"}, "'cubic', wanted one of 'linear', 'cosine', 'sqrt'"),
    ],
)
def test_refused(record, message):
    with pytest.raises(ConfigError, match=message):
        build_schedule(record, 10)


def test_a_run_without_steps_is_refused():
    with pytest.raises(ConfigError, match="num_steps is 0"):
        build_schedule({"type": "constant"}, 0)
