"""Fingerprints tell weights apart, whatever their dtype, adapters or quantised layers."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from tests.models.tiny import hearing_model, text_config
from transformers import AutoModelForCausalLM, LlamaConfig

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.config import Lora
from vivavoce.models.fingerprint import check_weights, fingerprint, same_weights
from vivavoce.models.lora import add_lora, lora_parameters, merge_lora


def language_model(seed=0, tie=False):
    torch.manual_seed(seed)
    config = text_config(tie=tie)
    config.pop("model_type")
    return AutoModelForCausalLM.from_config(LlamaConfig(**config))


def test_the_same_weights_have_the_same_fingerprint_and_others_another():
    first = language_model()
    assert fingerprint(first) == fingerprint(language_model()) == fingerprint(first.state_dict())
    assert fingerprint(first) != fingerprint(language_model(seed=1))
    assert len(fingerprint(first)) == 32 and int(fingerprint(first), 16)


@pytest.mark.parametrize("tie", [False, True])
def test_order_and_repeats_of_a_state_dict_do_not_count(tie):
    model = language_model(tie=tie)
    state = dict(reversed(model.state_dict().items()))
    if tie:
        del state["lm_head.weight"]  # as safetensors are stored
    assert fingerprint(state) == fingerprint(model)


def test_rounding_to_bfloat16_or_holding_half_in_float32_does_not_count():
    model = language_model()
    wanted = fingerprint(model)
    assert fingerprint(language_model().to(torch.bfloat16)) == wanted
    half = language_model().half()
    assert fingerprint(half) == fingerprint(language_model().half().float())
    assert fingerprint(half) == fingerprint(language_model().half().to(torch.bfloat16))
    stored = language_model().to(torch.bfloat16)
    with torch.no_grad():
        stored.model.norm.weight.copy_(torch.linspace(1e-8, 5e-5, 32))  # half precision blurs such values
    assert fingerprint(copy.deepcopy(stored).half()) == fingerprint(stored)


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"]
)
def test_a_step_of_training_on_any_tensor_counts(name):
    model = language_model()
    before = fingerprint(model)
    with torch.no_grad():
        model.get_parameter(name).mul_(1.01)
    assert fingerprint(model) != before
    assert not same_weights(fingerprint(model), before)


def test_adapters_do_not_count_and_merged_ones_do():
    pytest.importorskip("peft")
    model = hearing_model()
    before = fingerprint(model.language_model)
    add_lora(model, "language_model", Lora(rank=2))
    for parameter in lora_parameters(model, "language_model"):
        torch.nn.init.normal_(parameter)
    assert fingerprint(model.language_model) == before
    assert fingerprint(model.language_model.state_dict()) == before
    merge_lora(model)
    assert fingerprint(model.language_model) != before


def test_quantised_layers_leave_the_other_half_to_compare():
    model = language_model()
    state = model.state_dict()
    packed = {n: t.to(torch.uint8) if t.dim() == 2 and "emb" not in n else t for n, t in state.items()}
    assert fingerprint(packed).endswith("0" * 16)
    assert same_weights(fingerprint(packed), fingerprint(state))
    scales = {f"{n}.absmax": torch.ones(3) for n, t in packed.items() if t.dtype == torch.uint8}
    assert fingerprint({**packed, **scales}) == fingerprint(packed)
    packed["model.norm.weight"] = packed["model.norm.weight"] * 2
    assert not same_weights(fingerprint(packed), fingerprint(state))


def test_other_weights_are_refused_by_both_names():
    model = language_model()
    recorded = f"{fingerprint(model)} lmsys/vicuna-7b-v1.5"
    check_weights(recorded, model, "language_model", "here", "ears")
    check_weights(None, language_model(seed=1), "language_model", "anything", "ears")
    with pytest.raises(
        CheckpointError, match=r"ears was trained .* 'lmsys/vicuna-7b-v1\.5'; 'vicuna-1\.1' holds"
    ):
        check_weights(recorded, language_model(seed=1), "language_model", "vicuna-1.1", "ears")


def test_no_values_no_fingerprint_and_offloaded_weights_are_not_checked():
    with torch.device("meta"):
        offloaded = language_model()
    with pytest.raises(ModelError, match="meta device"):
        fingerprint(offloaded)
    check_weights(fingerprint(language_model()), offloaded, "language_model", "here", "ears")


def test_cost_does_not_grow_with_the_weights():
    def seconds(width):
        state = {f"layers.{i}.weight": torch.zeros(width, width) for i in range(40)}
        times = []
        for _ in range(5):
            began = time.process_time()
            fingerprint(state)
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(1500) < 5 * seconds(15) + 0.01
