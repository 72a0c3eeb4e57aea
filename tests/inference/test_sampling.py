"""Sampling equals transformers' processors, checks its options, and repeats with a seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from vivavoce.base.errors import ConfigError
from vivavoce.inference.sampling import Sampler, SamplingOptions

SIZE = 40


@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.1, 2.0),
    top_p=st.floats(0.05, 1.0),
    top_k=st.integers(0, SIZE + 5),
    min_p=st.floats(0.0, 0.5),
    penalty=st.floats(0.5, 2.0),
    seen=st.lists(st.integers(0, SIZE - 1), max_size=12),
)
def test_scores_equal_those_of_transformers(seed, temperature, top_p, top_k, min_p, penalty, seen):
    logits = 3 * torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))
    options = SamplingOptions(
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repetition_penalty=penalty
    )
    ours = Sampler(options).scores(logits, seen)
    chain = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if penalty != 1 and seen:
        chain.insert(0, RepetitionPenaltyLogitsProcessor(penalty))
    if top_k:
        chain.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        chain.append(TopPLogitsWarper(top_p))
    if min_p > 0:
        chain.append(MinPLogitsWarper(min_p))
    theirs = chain(torch.tensor([seen], dtype=torch.long), logits[None].clone())[0]
    assert torch.equal(torch.isinf(ours), torch.isinf(theirs))
    assert torch.allclose(ours, theirs)


def test_a_seed_repeats_and_other_seeds_differ():
    logits = torch.randn(200, generator=torch.Generator().manual_seed(3))

    def draw(seed):
        sampler = Sampler(SamplingOptions(temperature=1.0, seed=seed))
        return [sampler(logits, []) for _ in range(40)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)


def test_draws_follow_the_distribution():
    odds = torch.tensor([0.5, 0.3, 0.2])
    sampler = Sampler(SamplingOptions(temperature=1.0, seed=0))
    drawn = torch.tensor([sampler(odds.log(), []) for _ in range(4000)])
    assert torch.allclose(torch.bincount(drawn, minlength=3) / 4000, odds, atol=0.03)


def test_temperature_zero_takes_the_best_and_masks_are_kept():
    logits = torch.tensor([1.0, 5.0, 3.0, 4.0])
    greedy = Sampler(SamplingOptions())
    assert greedy(logits, []) == 1
    assert greedy(logits, [], torch.tensor([True, False, True, True])) == 3
    hot = Sampler(SamplingOptions(temperature=50.0, seed=1))
    only = torch.tensor([True, False, True, False])
    assert {hot(logits, [], only) for _ in range(100)} == {0, 2}


def test_all_faults_at_once_and_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        SamplingOptions(temperature=-1, top_p=0, top_k=1.5, max_new_tokens=0, seed="x", stop=[""])  # type: ignore[arg-type]
    for name in (
        "temperature is -1",
        "top_p is 0",
        "top_k is 1.5",
        "max_new_tokens is 0",
        "seed is 'x'",
        "stop",
    ):
        assert name in str(caught.value)
    with pytest.raises(
        ConfigError, match=r"unknown sampling option 'temprature'. Did you mean 'temperature'"
    ):
        SamplingOptions.merge({"temprature": 1})


def test_later_layers_win_and_none_means_unset():
    merged = SamplingOptions.merge(
        {"temperature": 0.6, "top_p": 0.8}, {"temperature": None, "top_p": 0.9, "stop": "x"}
    )
    assert merged == SamplingOptions(temperature=0.6, top_p=0.9, stop=("x",))
