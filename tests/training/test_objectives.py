"""Losses and gradients are those of every document alone, however documents are packed and cut into batches."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from tests.inference import tiny
from tests.training.packed_cases import assert_same_gradients, document, gradients, language_model
from tests.training.row_cases import heard, row, spoken_answer
from tests.training.test_documents import dialogue, sample
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.training.distillation import distillation_loss, prediction_mask
from vivavoce.training.distillation_rows import DistillationRow, collate_rows
from vivavoce.training.documents import Document, make_document
from vivavoce.training.objectives import (
    OBJECTIVES,
    CrossEntropyConfig,
    Distill,
    DistillConfig,
    NextToken,
    Sft,
    Totals,
)
from vivavoce.training.packed_attention import use_packed_attention
from vivavoce.training.packing import blank, make_batch

FORMS = {
    "embeddings to text": tiny.embeddings_to_text,
    "embeddings to tokens": tiny.embeddings_to_tokens,
    "tokens to text": tiny.tokens_to_text,
    "tokens to tokens": tiny.tokens_to_tokens,
    "text to tokens": tiny.text_to_tokens,
}
CUTS = ([8], [1] * 8, [2, 5, 1])


@cache
def assistant_of(form: str) -> Any:
    """A model of that form; what it hears at first is too little to make gradients, so its ears are turned up."""
    made = FORMS[form]()
    use_packed_attention(made.model.language_model)
    for parameter in made.model.parameters():
        parameter.requires_grad_()
    return made


@cache
def documents_of(form: str, objective: str) -> tuple[Document, ...]:
    """Eight documents of different lengths, one of them of two turns and several clips."""
    processor = assistant_of(form).processor
    if objective == "distill":
        processor.tokenizer.chat_template = tiny.LLAMA3
    rows = [
        row(f"Number {i}: ", heard(0.3 + 0.2 * i, seed=i), answer=f"it is {i}" * (i + 1)) for i in range(7)
    ]
    rows.append(dialogue() if objective != "distill" else row(heard(0.5), heard(0.8, seed=8), "both?"))
    if form == "text to tokens":
        rows = [row("Say", answer=spoken_answer(0.2 + 0.1 * i)[1:]) for i in range(8)]
    elif form.endswith("tokens") and objective != "distill":
        rows[1] = row(heard(0.4), answer=spoken_answer(), loss={"text": 1.0, "audio": 0.25})
    return tuple(make_document(sample(one), processor, objective) for one in rows)


def learn(
    objective: Any, model: Any, documents: Any, cut: list[int], **options: Any
) -> tuple[float, dict[str, Tensor], dict[str, tuple[float, float]]]:
    """Loss, gradients and metrics of documents in batches of so many each."""
    start, batches = 0, []
    for count in cut:
        batches.append(make_batch(documents[start : start + count], **options))
        start += count
    totals = sum((objective.totals([b]) for b in batches), Totals())
    assert totals == objective.totals(batches)
    loss, metrics = 0.0, dict[str, tuple[float, float]]()
    for batch in batches:
        part, told = objective(model, batch, totals)
        part.backward()
        loss += float(part.detach())
        for name, (total, count) in told.items():
            before = metrics.get(name, (0.0, 0.0))
            assert not total.requires_grad
            metrics[name] = (before[0] + float(total), before[1] + float(count))
    return loss, gradients(model), metrics


def by_hand(model: Any, documents: Any) -> tuple[float, dict[str, Tensor]]:
    """Weighted cross entropy of each document alone by a model as transformers has it."""
    total = sum(float(d.weights.sum()) for d in documents)
    model.language_model.set_attn_implementation("eager")
    value = 0.0
    for one in documents:
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(one.input_ids)[None]}
        if one.features is not None:
            inputs |= {"input_features": one.features.features, "feature_lengths": one.features.lengths}
        logits = model(**inputs).logits[0, :-1]
        nll = F.cross_entropy(logits, inputs["input_ids"][0, 1:], reduction="none")
        loss = (nll * torch.from_numpy(one.weights[1:])).sum() / total
        loss.backward()
        value += float(loss.detach())
    use_packed_attention(model.language_model)
    return value, gradients(model)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["sft", "next_token"])
def test_packed_is_every_document_alone(form: str, name: str) -> None:
    model, documents = assistant_of(form).model, documents_of(form, name)
    slots = 7 if "tokens" in form else 0
    objective = OBJECTIVES.get(name)(num_slots=slots)
    assert objective.rendering == name
    wanted, slopes = by_hand(model, documents)
    told: list[Any] = []
    for cut in CUTS:
        loss, found, metrics = learn(objective, model, documents, cut)
        assert loss == pytest.approx(wanted, abs=1e-5)
        assert_same_gradients(found, slopes)
        told.append(metrics)
        assert loss == pytest.approx(metrics["loss"][0] / metrics["loss"][1], abs=1e-5)
    if form.startswith("embeddings"):
        assert any(key.startswith("connector") for key in slopes)
    for metrics in told[1:]:
        assert metrics.keys() == told[0].keys()
        for key, (total, count) in metrics.items():
            assert (total, count) == pytest.approx(told[0][key], rel=1e-4, abs=1e-4)


DISTILL = [{}, {"eot_weight": 0.0}, {"temperature": 1.5, "t_squared": True, "ce_weight": 0.3, "chunk": 5}]


@pytest.mark.parametrize("settings", DISTILL, ids=json.dumps)
def test_distillation_is_that_of_a_padded_batch(settings: dict[str, Any]) -> None:
    assistant = assistant_of("embeddings to text")
    model, documents = assistant.model, documents_of("embeddings to text", "distill")
    rows = []
    for one in documents:
        assert one.teacher is not None and one.features is not None
        sides = [(one.input_ids, one.weights), one.teacher]
        (ids, labels), (read, taught) = (
            (i.tolist(), [int(t) if x > 0 else -100 for t, x in zip(i, w, strict=True)]) for i, w in sides
        )
        rows.append(DistillationRow(ids, labels, read, taught))
    padded = collate_rows(rows, assistant.processor.pad_id)
    heard_all = [make_batch([d]) for d in documents]
    features = make_batch(documents)
    index = [i for i, b in enumerate(heard_all) for _ in range(len(b.feature_lengths))]  # type: ignore[arg-type]
    model.language_model.set_attn_implementation("eager")
    student = model(
        input_ids=padded["input_ids"], attention_mask=padded["attention_mask"],
        input_features=features.input_features, feature_lengths=features.feature_lengths,
        audio_batch_index=torch.tensor(index),
    ).logits  # fmt: skip
    with torch.no_grad():
        teacher = model.language_model(
            input_ids=padded["teacher_input_ids"], attention_mask=padded["teacher_attention_mask"]
        ).logits
    masks = prediction_mask(padded["labels"]), prediction_mask(padded["teacher_labels"])
    likeliest = [logits.argmax(dim=-1)[mask] for logits, mask in zip((student, teacher), masks, strict=True)]
    agreed = float((likeliest[0] == likeliest[1]).float().mean())
    assert 0 < agreed < 1
    plain = {k: v for k, v in settings.items() if k != "chunk"}
    wanted = distillation_loss(student, teacher, padded["labels"], padded["teacher_labels"], **plain)
    wanted.backward()
    slopes = gradients(model)
    use_packed_attention(model.language_model)
    objective = Distill(DistillConfig(**settings))
    for cut in CUTS:
        loss, found, metrics = learn(objective, model, documents, cut)
        assert loss == pytest.approx(float(wanted.detach()), abs=1e-5)
        assert_same_gradients(found, slopes)
        squared = objective.config.temperature**2 if objective.config.t_squared else 1.0
        mean = {name: total / count for name, (total, count) in metrics.items()}
        parts = squared * (mean["kl"] + objective.config.eot_weight * mean["eot"])
        assert loss == pytest.approx(parts + objective.config.ce_weight * mean["ce"], abs=1e-4)
        assert metrics["eot"][1] == 8
        assert mean["agreement"] == pytest.approx(agreed)


def taught(seed: int) -> Document:
    """Random documents whose teacher reads something else before the same answer."""
    made = document(8, seed)
    made.weights[:] = [0, 0, 0, 0, 1, 1, 1, 1]
    ids, weights = document(6, seed + 100).input_ids, made.weights[2:].copy()
    ids[2:] = made.input_ids[4:]
    made.teacher = (ids, weights)
    return made


@pytest.mark.parametrize("target", ["q_proj", "lm_head"])
def test_the_teacher_has_no_adapters(target: str) -> None:
    model, plain = language_model(), language_model()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=[target], init_lora_weights=False), model)
    for one in (model, plain):
        use_packed_attention(one)
    documents = [taught(1), taught(2)]
    batch = make_batch(documents)
    student = model(**batch.inputs()).logits[0, batch.learned - 1]
    teacher = plain(**batch.teacher.inputs()).logits[0, batch.teacher.learned - 1]  # type: ignore[union-attr]
    kl = F.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).log_softmax(-1), log_target=True, reduction="none"
    )
    kl = kl.sum(-1)
    wanted = kl.mean() + kl[[3, 7]].mean()
    wanted.backward()
    slopes = gradients(model)
    loss, found, _ = learn(Distill(), model, documents, [2])
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert_same_gradients(found, slopes)
    assert all("lora" in name for name in found)


def test_models_that_cap_logits_are_distilled_as_well() -> None:
    more = {"model_type": "gemma2", "head_dim": 8, "attn_logit_softcapping": None, "sliding_window": 64}
    model = language_model(final_logit_softcapping=2.0, **more)
    use_packed_attention(model)
    documents = [taught(1), taught(2)]
    batch = make_batch(documents)
    student = model(**batch.inputs()).logits[0, batch.learned - 1]
    teacher = model(**batch.teacher.inputs()).logits[0, batch.teacher.learned - 1].detach()  # type: ignore[union-attr]
    kl = F.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).log_softmax(-1), log_target=True, reduction="none"
    )
    kl = kl.sum(-1)
    (kl.mean() + kl[[3, 7]].mean()).backward()
    slopes = gradients(model)
    loss, found, _ = learn(Distill(), model, documents, [1, 1])
    assert loss == pytest.approx(float((kl.mean() + kl[[3, 7]].mean()).detach()), rel=1e-5)
    assert_same_gradients(found, slopes)


def test_weights_of_slots_and_sides_by_hand() -> None:
    model = language_model()
    use_packed_attention(model)
    documents = [document(30, i, slots=3) for i in range(3)]
    config = CrossEntropyConfig(text_weight=0.5, audio_weight=2.0, slot_weights=(1.0, 0.0, 3.0), z_loss=0.1)
    objective = Sft(config, num_slots=3)
    factors = [0.5, 2.0, 2.0, 0.0, 6.0]
    value = total = 0.0
    sums = dict.fromkeys(range(5), (0.0, 0.0, 0))
    for one in documents:
        logits = model(input_ids=torch.from_numpy(one.input_ids)[None]).logits[0].detach().double()
        for at in range(1, 30):
            kind, token = int(one.kinds[at]), int(one.input_ids[at])
            weight = float(one.weights[at])
            normaliser = float(logits[at - 1].logsumexp(-1))
            nll = normaliser - float(logits[at - 1, token])
            value += factors[kind] * weight * (nll + 0.1 * normaliser**2)
            total += factors[kind] * weight
            if weight:
                a, b, n = sums[kind]
                sums[kind] = (a + nll, b + float(logits[at - 1].argmax() == token), n + 1)
    batch = make_batch(documents, pad_to=32)
    loss, metrics = objective(model, batch, objective.totals([batch]))
    assert float(loss.detach()) == pytest.approx(value / total, rel=1e-5)
    names = {"text": [0], "audio": [1, 2, 3, 4], "slot_0": [2], "slot_1": [3], "slot_2": [4]}
    for name, kinds in names.items():
        nll, right, count = (sum(sums[k][i] for k in kinds) for i in range(3))
        assert count > 5
        assert [float(x) for x in metrics[f"loss/{name}"]] == pytest.approx([nll, count], rel=1e-5)
        assert [float(x) for x in metrics[f"accuracy/{name}"]] == [right, count]
    assert float(metrics["loss"][1]) == pytest.approx(total)


def test_a_chain_learns_the_same_tokens_by_more_context() -> None:
    model = language_model()
    use_packed_attention(model)
    documents = [document(12, i) for i in range(4)]
    apart, _, told = learn(NextToken(), model, documents, [4])
    chained, _, told_chained = learn(NextToken(), model, documents, [4], chain=True)
    assert told["loss"][1] == told_chained["loss"][1]
    assert abs(apart - chained) > 1e-3


def test_blank_batches_add_nothing() -> None:
    model = assistant_of("embeddings to text").model
    for name in ("sft", "distill"):
        documents, objective = documents_of("embeddings to text", name), OBJECTIVES.get(name)()
        batch = make_batch(documents)
        totals = objective.totals([batch])
        nothing = blank(3, teacher=name == "distill")
        assert objective.totals([nothing]) == Totals()
        loss, metrics = objective(model, nothing, totals)
        loss.backward()
        found = gradients(model)
        assert float(loss.detach()) == 0 and found and not any(bool(g.any()) for g in found.values())
        assert all(float(total) == float(count) == 0 for total, count in metrics.values())
        assert metrics.keys() == objective(model, batch, totals)[1].keys()
        layers = [n for n in found if n.startswith("language_model.model.layers.")]
        assert len(layers) == 18  # every layer runs backwards


def test_what_cannot_be_learned_is_said() -> None:
    model = language_model()
    batch = make_batch([document(6, slots=3)])
    with pytest.raises(ConfigError, match="the objective was made for 0 slots"):
        Sft().totals([make_batch([document(30, slots=3)])])
    with pytest.raises(ConfigError, match="2 slot_weights for audio of 3"):
        Sft(CrossEntropyConfig(slot_weights=(1.0, 2.0)), num_slots=3)
    with pytest.raises(ConfigError, match="all weights are 0"):
        Sft()(model, batch, Totals())
    with pytest.raises(ConfigError, match="teacher missing"):
        Distill()(model, batch, Totals(1.0, 1, 1))
    with pytest.raises(ConfigError, match=r"temperature is 0\.0"):
        DistillConfig(temperature=0.0)
    with pytest.raises(ConfigError, match=r"audio_weight -1\.0"):
        CrossEntropyConfig(audio_weight=-1.0)
    with pytest.raises(ConfigError, match="unknown objective 'stf'"):
        OBJECTIVES.get("stf")
