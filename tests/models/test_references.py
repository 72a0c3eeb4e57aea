"""Parts by name: left out when saved, brought back when loaded, never another than in training, never lost."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.named_parts import KINDS, language_model, logits, make_parts, naming_model
from transformers import AutoModelForCausalLM

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.lora import merge_lora
from vivavoce.models.reading import assemble
from vivavoce.models.speech_lm import SpeechLM

LEFT_OUT = {
    "whisper": ("audio_encoder.",),
    "huggingface": ("audio_encoder.",),
    "two": ("audio_encoder.",),
    "one of two": ("audio_encoder.first.",),
}


@pytest.fixture
def parts(tmp_path):
    return make_parts(tmp_path)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_named_parts_are_left_out_and_come_back_bit_equal(parts, kind, lora):
    model = naming_model(parts, kind, lora)
    model.save_pretrained(parts / "ours")
    stored = load_file(parts / "ours" / "model.safetensors")
    base = [name for name in stored if ".lora_" not in name]
    assert not [n for n in base if n.startswith(("language_model.", *LEFT_OUT[kind]))]
    assert [n for n in base if n.startswith("audio_encoder.second.")] or kind != "one of two"
    assert bool([n for n in stored if ".lora_" in n]) == lora
    again, info = SpeechLM.from_pretrained(parts / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(logits(again), logits(model))
    again.save_pretrained(parts / "twice")
    assert torch.equal(logits(SpeechLM.from_pretrained(parts / "twice")), logits(model))
    named = again.config.fingerprints
    assert sorted(named) == sorted(["language_model", *(p.rstrip(".") for p in _prefixes(model))])
    assert named["language_model"].endswith(f" {parts / 'llm'}")


def _prefixes(model):
    return ["audio_encoder." + prefix for prefix in model.audio_encoder.references()]


@pytest.mark.parametrize("kind", KINDS)
def test_merged_folders_need_nothing_else(parts, kind):
    naming_model(parts, kind).save_pretrained(parts / "ours")
    model = SpeechLM.from_pretrained(parts / "ours")
    live = copy.deepcopy(model.config.to_dict())
    model.save_pretrained(parts / "all", backbone="merged")
    assert {**model.config.to_dict(), "dtype": None} == {**live, "dtype": None}
    (parts / "llm").rename(parts / "gone")
    (parts / "whisper").rename(parts / "gone too")
    (parts / "wavlm").rename(parts / "gone as well")
    again = SpeechLM.from_pretrained(parts / "all")
    assert again.config.text_model_ref is None and again.config.fingerprints == {}
    assert again.audio_encoder.references() == {} if hasattr(again.audio_encoder, "references") else True
    assert torch.equal(logits(again), logits(model))
    with pytest.raises(ModelError, match="needs the text model"):
        SpeechLM.from_pretrained(parts / "ours")


@pytest.mark.parametrize("shards", [False, True])
def test_only_the_encoder_is_named(parts, shards):
    model = naming_model(parts, text=False)
    more = {"max_shard_size": "30KB"} if shards else {}
    model.save_pretrained(parts / "ours", **more)
    assert bool(list((parts / "ours").glob("*.index.json"))) == shards
    assert torch.equal(logits(SpeechLM.from_pretrained(parts / "ours")), logits(model))


def test_relative_names_and_hub_ids(parts, monkeypatch):
    from huggingface_hub import constants

    model = naming_model(parts)
    model.save_pretrained(parts / "ours")
    config = json.loads((parts / "ours" / "config.json").read_text())
    (parts / "llm").rename(parts / "ours" / "text")
    (parts / "whisper").rename(parts / "ours" / "ears")
    config["text_model_ref"], config["audio_in"]["encoder"]["ref"] = "text", "ears"
    (parts / "ours" / "config.json").write_text(json.dumps(config))
    assert torch.equal(logits(SpeechLM.from_pretrained(parts / "ours")), logits(model))
    # the same from the hub's cache
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(parts / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, folder in (("me/ours", "ours"), ("me/llm", "ours/text"), ("me/ears", "ours/ears")):
        cache = parts / "hub" / f"models--{name.replace('/', '--')}"
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / "main").write_text("b" * 40)
        (cache / "snapshots").mkdir()
        (cache / "snapshots" / ("b" * 40)).symlink_to(parts / folder)
    config["text_model_ref"], config["audio_in"]["encoder"]["ref"] = "me/llm", "me/ears"
    (parts / "ours" / "config.json").write_text(json.dumps(config))
    assert torch.equal(logits(SpeechLM.from_pretrained("me/ours")), logits(model))


def test_dtype_and_device_reach_the_named_parts(parts):
    naming_model(parts).save_pretrained(parts / "ours")
    again = SpeechLM.from_pretrained(parts / "ours", dtype=torch.bfloat16, device_map={"": "cpu"})
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert logits(again).dtype == torch.bfloat16


def test_the_text_model_is_loaded_once(parts, monkeypatch):
    naming_model(parts).save_pretrained(parts / "ours")
    calls = []
    plain = AutoModelForCausalLM.from_pretrained
    made = AutoModelForCausalLM.from_config
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *a, **k: calls.append(a) or plain(*a, **k)
    )
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_config", lambda *a, **k: calls.append("built") or made(*a, **k)
    )
    SpeechLM.from_pretrained(parts / "ours")
    assert len(calls) == 1 and calls != ["built"]


@pytest.mark.parametrize("part", ["language_model", "audio_encoder"])
def test_other_parts_than_the_trained_ones_are_refused(parts, part):
    naming_model(parts).save_pretrained(parts / "ours")
    name = "llm" if part == "language_model" else "whisper"
    file = parts / name / "model.safetensors"
    tensors = load_file(file)
    other = {n: t * 1.5 for n, t in tensors.items()}
    save_file(other, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"trained with the {part} .*{name}.*accept_other=True"):
        SpeechLM.from_pretrained(parts / "ours")
    taken = SpeechLM.from_pretrained(parts / "ours", accept_other=True)
    taken.save_pretrained(parts / "new")
    SpeechLM.from_pretrained(parts / "new")  # from now on that one is its own


def test_another_name_for_other_weights_names_both(parts):
    naming_model(parts).save_pretrained(parts / "ours")
    language_model(seed=9).save_pretrained(parts / "vicuna")
    config = json.loads((parts / "ours" / "config.json").read_text())
    config["text_model_ref"] = str(parts / "vicuna")
    (parts / "ours" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        SpeechLM.from_pretrained(parts / "ours")
    assert str(parts / "vicuna") in str(caught.value) and str(parts / "llm") in str(caught.value)


def test_what_was_trained_is_not_left_out(parts):
    model = naming_model(parts)
    model.save_pretrained(parts / "ours")
    trained = SpeechLM.from_pretrained(parts / "ours")
    for name, p in trained.named_parameters():
        p.requires_grad_(".lora_" in name or name.startswith("connector."))
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    trained(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]])).loss.backward()
    optimizer.step()
    trained.save_pretrained(parts / "adapted")  # adapters are kept, so nothing is lost
    assert torch.equal(logits(SpeechLM.from_pretrained(parts / "adapted")), logits(trained))

    table = trained.get_input_embeddings().weight
    table.requires_grad_(True)
    optimizer = torch.optim.SGD([table], lr=1.0)
    table.grad = torch.zeros_like(table)
    table.grad[11, 3] = 0.5  # one value, which no sample sees
    optimizer.step()
    with pytest.raises(ModelError, match=r'weights of language_model were changed.*backbone="merged"'):
        trained.save_pretrained(parts / "lost")
    assert not (parts / "lost" / "model.safetensors").exists()
    trained.save_pretrained(parts / "kept", backbone="merged")
    assert torch.equal(logits(SpeechLM.from_pretrained(parts / "kept")), logits(trained))


def test_a_trained_or_merged_encoder_is_not_left_out(parts):
    naming_model(parts).save_pretrained(parts / "ours")
    model = SpeechLM.from_pretrained(parts / "ours")
    with torch.no_grad():
        for parameter in model.audio_encoder.parameters():
            parameter.add_(0.01)
    with pytest.raises(ModelError, match="weights of audio_encoder were changed"):
        model.save_pretrained(parts / "lost")
    model = SpeechLM.from_pretrained(parts / "ours")
    wanted = logits(model)
    merge_lora(model, "audio_encoder")
    model.save_pretrained(parts / "merged")  # the encoder is now stored, the text model still named
    stored = load_file(parts / "merged" / "model.safetensors")
    assert "audio_encoder.encoder.conv1.weight" in stored
    assert not [n for n in stored if n.startswith("language_model.") and ".lora_" not in n]
    assert torch.allclose(logits(SpeechLM.from_pretrained(parts / "merged")), wanted, atol=1e-4)


def test_a_frozen_encoder_with_adapters_is_not_read_again_to_save_it(parts, monkeypatch):
    from vivavoce.models.encoders.whisper import WhisperEars

    model = naming_model(parts)
    monkeypatch.setattr(WhisperEars, "load_reference", lambda *a, **k: pytest.fail("it was read again"))
    model.save_pretrained(parts / "ours")


def test_an_encoder_that_was_loaded_by_hand_is_compared_with_its_reference(parts):
    model = naming_model(parts, "two", lora=False)
    model.save_pretrained(parts / "ours")
    with torch.no_grad():
        model.audio_encoder.second.encoder.feature_projection.projection.bias.add_(0.1)
    with pytest.raises(ModelError, match=r"weights of audio_encoder\.second were changed"):
        model.save_pretrained(parts / "lost")
    (parts / "wavlm").rename(parts / "gone")
    with pytest.raises(
        ModelError, match=r"whether the weights of audio_encoder\.second .* cannot be checked"
    ):
        model.save_pretrained(parts / "lost")
    model.save_pretrained(parts / "kept", backbone="merged")


def test_a_tensor_that_is_both_stored_and_named_is_refused(parts):
    naming_model(parts, text=False).save_pretrained(parts / "ours")
    file = parts / "ours" / "model.safetensors"
    name = "audio_encoder.encoder.conv1.bias"
    save_file({**load_file(file), name: torch.zeros(16)}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"names .*whisper' for the weights of audio_encoder.*{name}"):
        SpeechLM.from_pretrained(parts / "ours")


@pytest.mark.parametrize("kind", KINDS)
def test_assembled_without_its_parts_a_model_can_be_saved_by_name(parts, kind):
    model = naming_model(parts, kind)
    model.save_pretrained(parts / "ours")
    tensors = load_file(parts / "ours" / "model.safetensors")
    config = SpeechLMConfig.from_pretrained(parts / "ours")
    hollow = assemble(config, tensors, "a checkpoint", with_parts=False)
    assert hollow.get_input_embeddings().weight.is_meta
    hollow.save_pretrained(parts / "again")
    assert torch.equal(logits(SpeechLM.from_pretrained(parts / "again")), logits(model))
    assert SpeechLMConfig.from_pretrained(parts / "again").fingerprints == config.fingerprints
    with pytest.raises(ModelError, match="was read without its weights"):
        hollow.save_pretrained(parts / "all", backbone="merged")
    whole = assemble(config, tensors, "a checkpoint", folder=parts / "ours")
    assert torch.equal(logits(whole), logits(model))
    wrapped = {n.replace("k_proj.weight", "k_proj.base_layer.weight"): t for n, t in tensors.items()}
    assert torch.equal(logits(assemble(config, wrapped, "a checkpoint")), logits(model))


@pytest.mark.parametrize("with_parts", [False, True])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_assembling_refuses_what_does_not_fit(parts, with_parts, fault):
    naming_model(parts).save_pretrained(parts / "ours")
    tensors = load_file(parts / "ours" / "model.safetensors")
    config = SpeechLMConfig.from_pretrained(parts / "ours")
    name = "connector.linear_2.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        name = "connector.extra.weight"
        tensors[name] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match=f"some.pth does not fit its config: 1 tensors .*{name}"):
        assemble(config, tensors, "some.pth", with_parts=with_parts)
