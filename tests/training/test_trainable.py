"""What is trained: parts, adapters, layers, and rows of new tokens beside rows that stay equal to the bit."""

from __future__ import annotations

import pytest
import torch
from tests.inference.tiny import tokens_to_tokens
from tests.models.tiny import hearing_batch, hearing_model, text_config
from transformers import AutoConfig

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.models.config import Lora, SpeechLMConfig
from vivavoce.models.lora import add_lora, is_adapter
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.parallel import World, finish_gradients
from vivavoce.training.trainable import Trainable, choose, train_mode, without_gradient

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}
FIRST = 50


def trained_names(model) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def names(model, *starts: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(starts)}


def text_model(tie: bool) -> SpeechLM:
    torch.manual_seed(2)
    return SpeechLM(SpeechLMConfig(text_config=text_config(tie=tie)))


def test_parts():
    model = hearing_model()
    done = choose(model, Trainable(language_model="frozen"))
    assert trained_names(model) == names(model, "connector.")
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in done.parts}
    assert done.parts == {
        "language_model": (0, sizes["language_model"]),
        "audio_encoder": (0, sizes["audio_encoder"]),
        "connector": (sizes["connector"], 0),
    }
    assert done.findings == [] and done.num_trained == sizes["connector"]
    choose(model, Trainable(audio_encoder="full", connector="frozen"))
    assert trained_names(model) == names(model, "language_model.", "audio_encoder.")


def test_adapters_are_added_once_and_alone_trained():
    model = hearing_model()
    settings = read_record(
        Trainable,
        {"language_model": "lora", "lora": {"language_model": {"rank": 2, "targets": ["q_proj"]}}},
        "train",
    )
    for _ in range(2):
        done = choose(model, settings)
        adapters = {name for name in names(model, "language_model.") if is_adapter(name)}
        assert trained_names(model) == adapters | names(model, "connector.")
        assert len(adapters) == 4 and done.parts["language_model"][0] == 2 * 2 * (32 + 32)
    assert (
        "language_model has adapters, but they stay"
        in choose(model, Trainable(language_model="frozen")).findings[0]
    )


def test_first_layers_and_patterns_stay():
    model = hearing_model()
    choose(model, Trainable(frozen_layers=1, freeze=("*.k_proj.weight", "connector.*")))
    kept = names(model, "language_model.") - names(model, "language_model.model.layers.0.")
    assert trained_names(model) == {name for name in kept if "k_proj" not in name}


def test_a_batch_reaches_all_that_is_trained():
    model = hearing_model()
    choose(model, Trainable(audio_encoder="full"))
    batch = hearing_batch()
    model(**batch, labels=batch["input_ids"].clamp(max=58)).loss.backward()
    unheard = without_gradient(model)
    assert all(
        name.startswith("audio_encoder.") for name in unheard
    )  # the CTC head, which no embedding needs
    model.zero_grad()
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    assert {*without_gradient(model)} == names(model, "audio_encoder.", "connector.")


def test_frozen_parts_do_not_drop_out():
    model = hearing_model()
    choose(model, Trainable(audio_encoder="frozen", language_model="frozen"))
    train_mode(model)
    assert model.connector.training and not model.audio_encoder.training and not model.language_model.training


# new rows


def push(model, optimizer, steps=4):
    """Steps on made-up gradients, with a schedule."""
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for _, p in sorted(model.named_parameters(), key=lambda item: item[0]):
            gradient = torch.randn(p.shape, generator=generator)
            p.grad = gradient if p.requires_grad else None
        for group in optimizer.param_groups:
            group["lr"] = SETTINGS["lr"] / (step + 1)
        optimizer.step()


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "adam_mini", "july2024"])
def test_old_rows_are_equal_to_the_bit_and_new_ones_are_trained_as_ever(optimizer, tie):
    def build(model):
        more = {"rules": "july2024"} if optimizer == "july2024" else {}
        return build_optimizer("adamw" if optimizer == "adamw" else "adam_mini", model, **SETTINGS, **more)

    model, free = text_model(tie), text_model(tie)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = choose(model, Trainable(language_model="new_rows", first_new_row=FIRST))
    tables = {"language_model.model.embed_tokens.weight"} | (
        set() if tie else {"language_model.lm_head.weight"}
    )
    assert trained_names(model) == tables and done.rows == dict.fromkeys(tables, FIRST)
    assert done.num_trained == len(tables) * 10 * 32
    choose(free, Trainable(language_model="frozen", embeddings="full"))
    for one in (model, free):
        push(one, build(one))
    theirs = dict(free.named_parameters())
    for name, p in model.named_parameters():
        old = FIRST if name in tables else len(p)
        assert torch.equal(p[:old], before[name][:old]), name
        if name in tables:  # as if the whole table were trained: same decay, same second moments
            assert (
                torch.equal(p[old:], theirs[name][old:]) or (p[old:] - theirs[name][old:]).abs().max() < 1e-6
            )
            assert not torch.equal(p[old:], before[name][old:])


def test_masked_rows_do_not_count_for_the_norm():
    model = text_model(tie=False)
    done = choose(model, Trainable(language_model="new_rows", first_new_row=FIRST))
    table = model.get_input_embeddings().weight
    table.grad = torch.ones_like(table)
    assert finish_gradients(model, World()) == pytest.approx(((60 - FIRST) * 32) ** 0.5)
    assert done.rows == model.trained_rows and not table.grad[:FIRST].any() and table.grad[FIRST:].all()


def test_adapters_with_new_rows_of_the_models_own_vocabulary():
    model = tokens_to_tokens().model
    record = model.config.audio_out.vocabulary
    done = choose(model, Trainable(language_model="lora", embeddings="new_rows"))
    assert set(done.rows.values()) == {min(record["start_id"], record["first_code_id"])}
    assert {name for name in trained_names(model) if not is_adapter(name)} == {*done.rows}
    assert done.findings == []
    assert "rows of audio tokens stay" in choose(model, Trainable(language_model="lora")).findings[0]


def test_half_precision_is_found():
    model = text_model(tie=False).to(torch.bfloat16)
    assert "small steps are rounded away" in choose(model, Trainable()).findings[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"language_model": "frozen", "connector": "frozen"},
            "nothing is left to train: language_model: 0 of",
        ),
        ({"freeze": ("*",)}, "nothing is left to train"),
        ({"freeze": ("*.qproj.*",)}, r"freeze: '\*\.qproj\.\*' matches no parameter"),
        ({"frozen_layers": 3}, "frozen_layers is 3, the language model has 2"),
        ({"language_model": "new_rows"}, "no audio tokens; set first_new_row"),
        (
            {"embeddings": "new_rows", "first_new_row": 60},
            "first_new_row is 60, the language model has 60 rows",
        ),
    ],
)
def test_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        choose(hearing_model(), Trainable(**settings))


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"frozen_layers is -1.*lora has settings for audio_encoder"):
        Trainable(frozen_layers=-1, lora={"audio_encoder": {}})


def test_layers_are_found_below_adapters_and_in_other_families():
    for kind in ("gpt2", "gpt_neox", "qwen3"):
        text = AutoConfig.for_model(
            kind, vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
        )
        if kind != "gpt2":
            text.intermediate_size, text.head_dim, text.num_key_value_heads = 48, 8, 2
        else:
            text.n_head = 4
        text.bos_token_id = text.eos_token_id = text.pad_token_id = None
        model = SpeechLM(SpeechLMConfig(text_config=text))
        if kind == "qwen3":
            add_lora(model, "language_model", Lora(rank=2))
        choose(model, Trainable(frozen_layers=2))
        assert all("layers." not in name and ".h." not in name for name in trained_names(model))
