"""Every backbone gives what one pass over the whole sequence gives, whoever else is in the forward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tests.inference.batching import schedules
from tests.inference.batching.schedules import BY_MODULES, KINDS, LEAN, V, made, random_ids, whole
from transformers import DynamicCache

from vivavoce.base.errors import SessionError
from vivavoce.inference.batching.choose import backbone_of
from vivavoce.inference.batching.growing import GrowingLayer
from vivavoce.inference.batching.lean import LeanBackbone
from vivavoce.inference.batching.lean_weights import why_not
from vivavoce.inference.batching.modules import ModuleBackbone
from vivavoce.inference.batching.rows import SMALLEST, Row

TOGETHER = {"gpt2", "olmo2"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_backbone_is_the_one_that_is_right(kind: str):
    backbone = backbone_of(made(kind))
    if kind in LEAN:
        assert isinstance(backbone, LeanBackbone)
    else:
        assert isinstance(backbone, ModuleBackbone)
        sequence = backbone.open()
        with torch.inference_mode():
            backbone.forward([Row(sequence, [1, 2, 3])])
        assert backbone.joins(Row(sequence, [4])) == (kind in TOGETHER)


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k != "dynamic positions"]
)  # they follow the whole length
@torch.inference_mode()
def test_rows_of_any_lengths_give_what_each_gives_alone(kind: str):
    model, feed = made(kind), [(3, 1, 70, 5), (9, 1, 1, 1), (1, 30, 2, 20)]
    backbone = backbone_of(model)
    sequences, known = [backbone.open() for _ in feed], [[] for _ in feed]
    for turn in range(4):
        rows = []
        for i, counts in enumerate(feed):
            ids = random_ids(counts[turn], 10 * i + turn)
            known[i] += ids
            rows.append(Row(sequences[i], ids, keep=min(2, len(ids))))
        joint = [row for row in rows if backbone.joins(row)]
        results = (
            {id(row): out for row, out in zip(joint, backbone.forward(joint), strict=True)} if joint else {}
        )
        for row in rows:
            if row not in joint:
                results[id(row)] = backbone.forward([row])[0]
        for row, ids in zip(rows, known, strict=True):
            wanted = whole(model, ids)[-row.keep :]
            assert wanted.std() > 0.05
            assert (results[id(row)] - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))
            assert row.sequence.length == len(ids)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "gemma2"])
@torch.inference_mode()
def test_states_are_those_of_the_decoder(kind: str):
    model = made(kind)
    backbone = backbone_of(model)
    ids = random_ids(9, 0)
    wanted = model.get_decoder()(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    rows = [Row(backbone.open(), ids[:8]), Row(backbone.open(), ids[:4])]
    for row in rows:
        backbone.forward([row])
    table = model.get_input_embeddings()
    steps = [Row(rows[0].sequence, ids[8:], logits=False)]
    steps.append(Row(rows[1].sequence, embeddings=table(torch.tensor(ids[4:5])), logits=False))
    first, second = backbone.forward(steps)
    assert (first - wanted[8]).abs().max() < 1e-5
    assert (second - wanted[4]).abs().max() < 1e-5


@settings(max_examples=12)
@given(
    kind=st.sampled_from(["llama", "qwen3", "gpt2"]),
    actions=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["feed", "feed", "crop", "fork"]), st.integers(1, 80)),
        min_size=1,
        max_size=8,
    ),
)
@torch.inference_mode()
def test_any_schedule_of_feeding_cutting_and_forking(kind: str, actions: list[tuple[int, str, int]]):
    model = made(kind)
    backbone = backbone_of(model)
    sequences, known = [backbone.open() for _ in range(3)], [[], [], []]
    for number, (which, action, amount) in enumerate(actions):
        if action == "crop":
            length = amount % (len(known[which]) + 1)
            assert sequences[which].crop(length) == length
            del known[which][length:]
        elif action == "fork" and known[which]:
            other = (which + 1) % 3
            sequences[other], known[other] = sequences[which].fork(), list(known[which])
        else:
            ids = random_ids(amount, number)
            known[which] += ids
            backbone.forward([Row(sequences[which], ids)])
    rows = [Row(sequence, [5]) for sequence, ids in zip(sequences, known, strict=True) if ids]
    if rows:
        results = backbone.forward(rows)
        for result, ids in zip(results, [ids for ids in known if ids], strict=True):
            assert (result[0] - whole(model, [*ids, 5])[-1]).abs().max() < 1e-4


def test_a_growing_layer_is_a_dynamic_layer():
    torch.manual_seed(0)
    grown, plain = GrowingLayer(), DynamicCache(config=made("llama").config).layers[0]
    for size in (3, 1, 1, 100, 1, 40):
        keys, values = torch.randn(1, 2, size, 4), torch.randn(1, 2, size, 4)
        ours, theirs = grown.update(keys, values), plain.update(keys, values)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert grown.get_seq_length() == plain.get_seq_length()
        assert grown.get_mask_sizes(1) == plain.get_mask_sizes(1)
    for layer in (grown, plain):
        layer.crop(-126)
        layer.batch_repeat_interleave(3)
        layer.reorder_cache(torch.tensor([2, 0, 1]))
        layer.update(torch.ones(3, 2, 1, 4), torch.ones(3, 2, 1, 4))
    assert torch.equal(grown.keys, plain.keys)
    assert torch.equal(grown.values, plain.values)


@torch.inference_mode()
def test_cutting_frees_memory_and_a_step_copies_nothing():
    for kind in ("llama", "gpt2"):
        sequence = backbone_of(made(kind)).open()
        sequence.backbone.forward([Row(sequence, random_ids(300, 0))])
        before = _bytes(sequence)
        sequence.crop(10)
        small = _bytes(sequence)
        assert small * 4 < before
        where = _pointers(sequence)
        for _ in range(SMALLEST - 10):
            sequence.backbone.forward([Row(sequence, [1])])
        assert _pointers(sequence) == where
        sequence.close()
        with pytest.raises(SessionError, match="closed"):
            sequence.backbone.forward([Row(sequence, [1])])


def _buffers(sequence) -> list[torch.Tensor]:
    if hasattr(sequence, "_buffer"):
        return [sequence._buffer]
    return [layer._key_buffer for layer in sequence.cache.layers]


def _bytes(sequence) -> int:
    return sum(buffer.untyped_storage().nbytes() for buffer in _buffers(sequence))


def _pointers(sequence) -> list[int]:
    return [buffer.data_ptr() for buffer in _buffers(sequence)]


def test_fused_weights_are_the_models_own():
    model = schedules.build("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    backbone = backbone_of(model)
    assert isinstance(backbone, LeanBackbone)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    projection = model.model.layers[0].self_attn.k_proj.weight
    with torch.no_grad():
        projection.mul_(2)  # as an optimizer does
    model(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()
    assert projection.grad is not None
    ids = random_ids(5, 0)
    with torch.inference_mode():
        result = backbone.forward([Row(backbone.open(), ids)])[0]
    assert (result[0] - whole(model, ids)[-1]).abs().max() < 1e-5
    assert backbone_of(model) is backbone


def test_a_model_that_changes_gets_another_backbone(tmp_path):
    model = schedules.build("llama")
    first = backbone_of(model)
    model.save_pretrained(tmp_path)  # parts of one storage are saved one by one
    model.double()
    second = backbone_of(model)
    assert second is not first
    assert isinstance(second, LeanBackbone)
    hook = model.model.layers[1].register_forward_hook(lambda *_: None)
    assert "hook" in why_not(model)
    assert isinstance(backbone_of(model), ModuleBackbone)
    hook.remove()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2))
    assert "adapters" in why_not(adapted.base_model.model)
    assert isinstance(backbone_of(adapted.base_model.model), ModuleBackbone)


@torch.inference_mode()
def test_a_lean_step_with_other_numbers_is_not_taken(caplog):
    model = schedules.build("llama")
    model.model.layers[1].self_attn.scaling = 0.1  # nobody looks for this
    assert not why_not(model)
    assert isinstance(backbone_of(model), ModuleBackbone)
    assert "numbers differ" in caplog.text


@torch.inference_mode()
def test_a_failed_forward_leaves_the_sequences_as_they_were(monkeypatch):
    for kind in ("llama", "gpt2"):
        model = made(kind)
        backbone = backbone_of(model)
        rows = [Row(backbone.open(), random_ids(n, n)) for n in (6, 3)]
        for row in rows:
            backbone.forward([row])
        steps = [Row(rows[0].sequence, [4]), Row(rows[1].sequence, [V + 1000])]
        with pytest.raises(IndexError):
            backbone.forward(steps)
        good = backbone.forward([Row(row.sequence, [4]) for row in rows])
        for row, result in zip(rows, good, strict=True):
            assert (result[0] - whole(model, [*row.ids, 4])[-1]).abs().max() < 1e-5


def test_every_kind_is_tried():
    assert set(LEAN) | set(BY_MODULES) == set(KINDS)
