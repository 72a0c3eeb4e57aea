"""Adapters: no change at first, on and off, merged, stored, under PEFT and generate."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny import embeddings_in, hearing_batch, hearing_model, text_config

from vivavoce.base.errors import CheckpointError, ConfigError, MissingExtraError, ModelError
from vivavoce.models import lora as room
from vivavoce.models.config import Lora, SpeechLMConfig
from vivavoce.models.lora import add_lora, lora_parameters, merge_lora, set_lora_scale
from vivavoce.models.speech_lm import SpeechLM

peft = pytest.importorskip("peft")

PARTS = {"language_model": ("q_proj", "v_proj"), "audio_encoder": ("qkv",)}
Q_PROJ = "language_model.model.layers.0.self_attn.q_proj"


def logits(model):
    with torch.no_grad():
        return model(**hearing_batch()).logits


def adapted(train=True, **more):
    """A model with adapters in both parts, which say something if ``train``."""
    model = hearing_model(**more)
    for part, targets in PARTS.items():
        add_lora(model, part, Lora(rank=2, alpha=8.0, targets=targets))
        if train:
            for parameter in lora_parameters(model, part):
                torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_fresh_adapters_change_nothing_and_only_they_ask_for_gradients():
    plain, model = hearing_model(), adapted(train=False)
    assert torch.equal(logits(model), logits(plain))
    for part in PARTS:
        wanted = {n for n, p in getattr(model, part).named_parameters() if p.requires_grad}
        assert wanted and all(".lora_" in name for name in wanted)
        assert len(lora_parameters(model, part)) == len(wanted)
    assert f"{Q_PROJ}.lora_A.default.weight" in model.state_dict()
    assert f"{Q_PROJ}.base_layer.weight" in model.state_dict()
    model(**hearing_batch(), labels=hearing_batch()["input_ids"]).loss.backward()
    for part in PARTS:
        grads = [p.grad for p in lora_parameters(model, part)]
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


def test_scale_is_alpha_by_rank_and_zero_is_off():
    plain, model = hearing_model(), adapted()
    heard = logits(model)
    assert not torch.allclose(heard, logits(plain), atol=0.1)
    for part in PARTS:
        set_lora_scale(model, part, 0)
    assert torch.equal(logits(model), logits(plain))
    for part in PARTS:
        set_lora_scale(model, part, 8.0)
    assert torch.equal(logits(model), heard)
    layer = model.get_submodule(Q_PROJ)
    x = torch.randn(1, 3, 32)
    set_lora_scale(model, "language_model", 6.0)
    by_hand = layer.base_layer(x) + 3.0 * layer.lora_B["default"](layer.lora_A["default"](x))
    torch.testing.assert_close(layer(x), by_hand)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_gives_the_same_under_plain_names(dtype):
    model = adapted().to(dtype)
    before = logits(model).float()
    merge_lora(model, "audio_encoder")
    assert list(model.config.lora) == ["language_model"]
    merge_lora(model)
    assert model.config.lora == {}
    assert model.state_dict().keys() == hearing_model().state_dict().keys()
    plain = logits(hearing_model().to(dtype)).float()
    assert (logits(model).float() - before).norm() < 0.02 * (before - plain).norm()
    add_lora(model, "language_model", Lora())  # and again


def test_merging_takes_the_present_scale_and_the_reference_out():
    model = adapted()
    model.config.text_model_ref, model.config.fingerprints = "somewhere", {"language_model": "0" * 32}
    set_lora_scale(model, "language_model", 0)
    merge_lora(model, "language_model")
    plain = hearing_model().language_model.state_dict()
    assert all(torch.equal(t, plain[n]) for n, t in model.language_model.state_dict().items())
    assert model.config.text_model_ref is None and model.config.fingerprints == {}


@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_with_adapters_is_bit_equal(tmp_path, shards):
    model = adapted()
    more = {"max_shard_size": "20KB"} if shards else {}
    model.save_pretrained(tmp_path, **more)
    assert (tmp_path / "model.safetensors.index.json").is_file() == shards
    again = SpeechLM.from_pretrained(tmp_path)
    assert again.config.lora == model.config.lora
    assert torch.equal(logits(again), logits(model))
    again.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(SpeechLM.from_pretrained(tmp_path / "again")), logits(model))
    merge_lora(again)
    assert torch.allclose(logits(again), logits(model), atol=1e-4)


def test_stored_base_weights_have_their_plain_names(tmp_path):
    adapted().save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert {f"{Q_PROJ}.weight", f"{Q_PROJ}.lora_B.default.weight"} <= names
    assert not [name for name in names if ".base_layer." in name]


def test_dtype_of_stored_adapters_is_kept_unless_one_is_asked_for(tmp_path):
    model = adapted().to(torch.bfloat16)
    for part in PARTS:
        for parameter in lora_parameters(model, part):
            parameter.data = parameter.data.float()
    model.save_pretrained(tmp_path)
    again = SpeechLM.from_pretrained(tmp_path)
    kept = {p.dtype for n, p in again.named_parameters() if ".lora_" in n}
    base = {p.dtype for n, p in again.named_parameters() if ".lora_" not in n}
    assert (kept, base) == ({torch.float32}, {torch.bfloat16})
    state, loaded = model.state_dict(), again.state_dict()
    assert all(torch.equal(state[name], loaded[name]) for name in state)
    asked = SpeechLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in asked.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_adapters_that_do_not_fit_are_refused(tmp_path, fault):
    from safetensors.torch import save_file

    adapted().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = f"{Q_PROJ}.lora_A.default.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        name = name.replace("q_proj", "k_proj")
        tensors[name] = torch.zeros(2, 32)
    else:
        tensors[name] = torch.zeros(3, 32)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=name):
        SpeechLM.from_pretrained(tmp_path)


def test_adapters_in_a_config_are_built_also_on_the_meta_device():
    lora = {part: {"rank": 3, "targets": list(targets)} for part, targets in PARTS.items()}
    config = SpeechLMConfig(text_config=text_config(), audio_in=embeddings_in(), lora=lora)
    with torch.device("meta"):
        shapes = SpeechLM(config)
    built = SpeechLM(config)
    assert {n: t.shape for n, t in shapes.state_dict().items()} == {
        n: t.shape for n, t in built.state_dict().items()
    }
    assert built.state_dict()[f"{Q_PROJ}.lora_A.default.weight"].shape == (3, 32)


def test_a_text_model_that_comes_later_gets_its_adapters():
    lora = {"language_model": {"targets": ["q_proj"]}}
    config = SpeechLMConfig(text_config=text_config(), audio_in=embeddings_in(), lora=lora)
    model = SpeechLM(config, defer_text_model=True)
    assert not [name for name in model.state_dict() if ".lora_" in name]
    model.attach_text_model(hearing_model().language_model)
    assert f"{Q_PROJ}.lora_A.default.weight" in model.state_dict()


def test_generate_with_beams_uses_the_adapters():
    model, plain = adapted().eval(), hearing_model()
    batch = hearing_batch()
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": 2}
    given = model.generate(**batch, **options)
    assert not torch.equal(given, plain.generate(**batch, **options))
    merge_lora(model)
    assert torch.equal(given, model.generate(**batch, **options))


def test_peft_adapts_the_whole_model_beside_them(tmp_path):
    model = adapted()
    before = logits(model)
    more = peft.LoraConfig(r=2, target_modules=["linear_1", "up_proj"])
    whole = peft.get_peft_model(model, more)
    assert torch.equal(logits(whole), before)
    trained = [n for n, p in whole.named_parameters() if p.requires_grad]
    assert any("connector.linear_1.lora_A" in n for n in trained)
    for name, parameter in whole.named_parameters():
        if "up_proj.lora_B" in name:
            torch.nn.init.normal_(parameter)
    after = logits(whole)
    assert not torch.allclose(after, before, atol=0.1)
    assert torch.allclose(logits(whole.merge_and_unload()), after, atol=1e-3)


def test_targets_that_match_nothing_name_the_nearest():
    model = hearing_model()
    with pytest.raises(ConfigError, match=r"'v_prj' \(nearest: .*v_proj"):
        add_lora(model, "language_model", Lora(targets=("q_proj", "v_prj")))
    assert "lora" not in str(model.language_model)
    with pytest.raises(
        ConfigError, match=r"lora.audio_encoder.targets match no layer.*'xxxxx' \(there are .*qkv"
    ):
        add_lora(model, "audio_encoder", Lora(targets=("xxxxx",)))
    with pytest.raises(ConfigError, match="cannot be adapted at norm"):
        add_lora(model, "language_model", Lora(targets=("norm",)))
    with pytest.raises(ConfigError, match="wanted 'language_model' or 'audio_encoder'"):
        add_lora(model, "voice", Lora())


def test_wrong_order_of_calls():
    model = hearing_model()
    with pytest.raises(ModelError, match="language_model has no adapters"):
        set_lora_scale(model, "language_model", 1.0)
    merge_lora(model)  # all of none
    with pytest.raises(ModelError, match="no adapters"):
        merge_lora(model, "language_model")
    add_lora(model, "language_model", Lora())
    with pytest.raises(ModelError, match="has adapters already"):
        add_lora(model, "language_model", Lora())
    torch.nn.init.constant_(lora_parameters(model, "language_model")[1], torch.nan)
    with pytest.raises(ModelError, match=r"cannot be merged at .*q_proj"):
        merge_lora(model)
    text = SpeechLM(SpeechLMConfig(text_config=text_config()))
    with pytest.raises(ModelError, match="has no audio_encoder"):
        add_lora(text, "audio_encoder", Lora())


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vivavoce\[lora\]'"):
        add_lora(hearing_model(), "language_model", Lora())


def test_adapters_on_a_quantised_base():
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (extra quant)")
    model = hearing_model()
    for layer in model.language_model.model.layers:
        plain = layer.self_attn.q_proj
        packed = bitsandbytes.nn.Linear4bit(32, 32, bias=False, quant_type="nf4")
        packed.load_state_dict(plain.state_dict())
        layer.self_attn.q_proj = packed.to("cuda" if torch.cuda.is_available() else "cpu")
    before = logits(model)
    add_lora(model, "language_model", Lora(targets=("q_proj",)))
    assert torch.equal(logits(model), before)
    with pytest.raises(ModelError, match="is quantised"):
        merge_lora(model)
