"""Adam-mini on one process: the formula, the blocks of many kinds of models, exact resume, and what is refused."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from tests.models.tiny import hearing_batch, hearing_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vivavoce.base.errors import CheckpointError, ConfigError
from vivavoce.training.optimizers import OPTIMIZERS, build_optimizer
from vivavoce.training.optimizers.adam_mini import AdamMini
from vivavoce.training.optimizers.partition import KINDS, Block, partition

HEAD = 8
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}


def llama(**more) -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True, "head_dim": HEAD}
    return LlamaForCausalLM(
        LlamaConfig(**{**sizes, **heads, "bos_token_id": None, "eos_token_id": None, **more})
    )


def blocks(parameters, **settings) -> dict[str, Block]:
    return {part.name: part.block for part in partition(parameters, **settings)}


def push(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0
) -> list[dict[str, Tensor]]:
    """Steps on made-up gradients; returns them."""
    generator, made = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        made.append({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
        optimizer.step()
    return made


def read_off_the_formula(weight: Tensor, gradients: list[Tensor], cut: str, decay: float) -> Tensor:
    """The rule in float64, block after block; ``cut`` is "element", "row", "head" or "whole"."""
    rows = {"row": 1, "head": HEAD, "whole": len(weight), "element": 1}[cut]
    (beta1, beta2), eps, lr = SETTINGS["betas"], SETTINGS["eps"], SETTINGS["lr"]
    weight = weight.double()
    for start in range(0, len(weight), rows):
        piece = weight[start : start + rows].clone()
        m, v = torch.zeros_like(piece), torch.zeros_like(piece)
        for t, gradient in enumerate(gradients, 1):
            g = gradient[start : start + rows].double()
            v = beta2 * v + (1 - beta2) * (g**2 if cut == "element" else (g**2).mean())
            m = beta1 * m + (1 - beta1) * g
            piece = piece * (1 - lr * decay)
            piece -= lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
        weight[start : start + rows] = piece
    return weight


# name -> blocks by the rules of v1.1.1, and of July 2024
WANTED = {
    "model.embed_tokens.weight": ("row", "element"),
    "model.layers.0.self_attn.q_proj.weight": ("head", "head"),
    "model.layers.0.self_attn.q_proj.bias": ("element", "whole"),
    "model.layers.0.self_attn.k_proj.weight": ("head", "head"),
    "model.layers.0.self_attn.v_proj.weight": ("row", "whole"),
    "model.layers.0.self_attn.o_proj.weight": ("row", "whole"),
    "model.layers.0.mlp.gate_proj.weight": ("row", "whole"),
    "model.layers.0.mlp.down_proj.weight": ("row", "whole"),
    "model.layers.0.input_layernorm.weight": ("whole", "whole"),
    "lm_head.weight": ("row", "element"),
}


@pytest.mark.parametrize(("column", "rules"), enumerate(KINDS))
def test_every_parameter_follows_the_formula_with_its_own_blocks(column, rules):
    model = llama()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients = push(model, build_optimizer("adam_mini", model, **SETTINGS, rules=rules), 4)
    after = dict(model.named_parameters())
    for name, cuts in WANTED.items():
        decay = SETTINGS["weight_decay"] if after[name].dim() > 1 else 0.0
        wanted = read_off_the_formula(before[name], [g[name] for g in gradients], cuts[column], decay)
        assert (after[name].detach().double() - wanted).abs().max() < 1e-6, name


def test_value_may_be_one_block():
    value = "model.layers.0.self_attn.v_proj.weight"
    rows, whole = blocks(llama()), blocks(llama(), value_as_one_block=True)
    assert {n for n in rows if rows[n] != whole[n]} == {value}
    assert whole[value] == Block("whole")


@pytest.mark.parametrize("rules", KINDS)
def test_names_alone_give_the_same_blocks(rules):
    model = llama()
    wanted = blocks(model, rules=rules)
    assert blocks(model.named_parameters(), rules=rules, head_dim=HEAD) == wanted
    assert blocks(model.named_parameters(), rules=rules, num_heads=4, num_kv_heads=2) == wanted


def test_heads_are_not_the_width_divided_by_their_number():
    cut = blocks(llama(head_dim=16))
    assert cut["model.layers.0.self_attn.q_proj.weight"] == Block("head", 16)
    assert cut["model.layers.0.self_attn.k_proj.weight"] == Block("head", 16)


def test_a_speech_model_is_cut_by_its_parts_and_trains():
    model = hearing_model().train()
    for rules in KINDS:
        cut, text = blocks(model, rules=rules), blocks(model.language_model, rules=rules)
        assert {name: cut[f"language_model.{name}"] for name in text} == text
        assert len(cut) > len(text)
    assert blocks(model)["connector.linear_1.weight"] == Block("row")
    assert blocks(model)["audio_encoder.conv1.weight"] == Block("whole")
    optimizer = build_optimizer("adam_mini", model, lr=1e-2)
    inputs, losses = hearing_batch(), []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_an_encoder_has_heads_of_its_own():
    sizes = {"d_model": 24, "encoder_layers": 1, "encoder_attention_heads": 6, "encoder_ffn_dim": 32}
    both = nn.ModuleDict({"encoder": WhisperEncoder(WhisperConfig(**sizes)), "language_model": llama()})
    cut = blocks(both)
    assert cut["encoder.layers.0.self_attn.q_proj.weight"] == Block("head", 4)
    assert cut["language_model.model.layers.0.self_attn.q_proj.weight"] == Block("head", HEAD)
    assert cut["encoder.conv1.weight"] == Block("whole")
    push(both, build_optimizer("adam_mini", both, **SETTINGS), 2)


def test_adapters_of_low_rank_are_cut_by_rows():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj"]))
    cut = blocks(model)
    assert len(cut) == 4
    assert {block.kind for block in cut.values()} == {"row"}
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("base_layer.weight")
    assert blocks(model)["base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"] == Block(
        "head", HEAD
    )


def test_a_tied_head_is_the_embedding():
    model = llama(tie_word_embeddings=True)
    assert "lm_head.weight" not in blocks(model)
    assert blocks(model)["model.embed_tokens.weight"] == Block("row")


def test_new_rows_that_are_never_seen_only_decay():
    model = llama()
    model.resize_token_embeddings(50, mean_resizing=False)
    before = model.get_input_embeddings().weight.detach().clone()
    optimizer = build_optimizer("adam_mini", model, **SETTINGS)
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=torch.arange(45)[None], labels=torch.arange(45)[None]).loss.backward()
        optimizer.step()
    weight = model.get_input_embeddings().weight
    torch.testing.assert_close(weight[45:], before[45:] * (1 - 1e-2 * 0.1) ** 3)
    assert optimizer.state[weight]["v"][45:].abs().max() == 0
    moved = (weight[40:44] - before[40:44]).detach().abs().mean(dim=1)  # 44 is the last answer, never read
    assert moved.min() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rules", KINDS)
def test_going_on_from_a_file_is_exact(dtype, rules):
    model = llama().to(dtype)
    optimizer = build_optimizer("adam_mini", model, **SETTINGS, rules=rules)
    push(model, optimizer, 3)
    weights = copy.deepcopy(model.state_dict())
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    push(model, optimizer, 3, seed=1)
    other = llama().to(dtype)
    other.load_state_dict(weights)
    again = build_optimizer("adam_mini", other, **{**SETTINGS, "lr": 1.0}, rules=rules)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    push(other, again, 3, seed=1)
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
        for kind in ("m", "v"):
            assert again.state[two][kind].dtype == torch.float32
            assert torch.equal(optimizer.state[one][kind], again.state[two][kind]), name


def test_low_precision_weights_lose_one_rounding_a_step():
    """Decay and update are applied together in float32: the result is the float32 one, rounded once."""
    model, exact = llama().bfloat16(), llama().bfloat16().float()
    push(model, build_optimizer("adam_mini", model, **SETTINGS), 1)
    for one, two in zip(model.parameters(), exact.parameters(), strict=True):
        two.grad = one.grad.float()
    build_optimizer("adam_mini", exact, **SETTINGS).step()
    for one, two in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.equal(one, two.bfloat16())


def test_a_state_of_other_blocks_or_parameters_is_refused():
    model = llama()
    optimizer = build_optimizer("adam_mini", model, lr=1e-3)
    push(model, optimizer, 1)
    state = optimizer.state_dict()
    with pytest.raises(CheckpointError, match="rules"):
        build_optimizer("adam_mini", model, lr=1e-3, rules="july2024").load_state_dict(state)
    with pytest.raises(CheckpointError, match="block_rows"):
        build_optimizer("adam_mini", llama(head_dim=16), lr=1e-3).load_state_dict(state)
    model.lm_head.weight.requires_grad = False
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        build_optimizer("adam_mini", model, lr=1e-3).load_state_dict(state)


@pytest.mark.parametrize("rules", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_that_of_the_state(rules, dtype):
    model = llama().to(dtype)
    optimizer = AdamMini(model, lr=1e-3, rules=rules)
    memory = optimizer.memory()
    push(model, optimizer, 1)
    kept = [state[kind] for state in optimizer.state.values() for kind in ("m", "v")]
    assert memory.moments == sum(t.numel() for t in kept)
    assert memory.bytes == sum(t.numel() * t.element_size() for t in kept)
    assert memory.parameters == sum(p.numel() for p in model.parameters())
    assert memory.bytes_per_parameter == memory.bytes / memory.parameters


def test_memory_of_llama_3_8b_with_sound_tokens():
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 129282}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=32, num_key_value_heads=8))
    memory = AdamMini(model, lr=1e-3).memory()
    assert memory.parameters == pytest.approx(8.039e9, rel=1e-3)
    assert memory.moments - memory.parameters == pytest.approx(1.47e6, rel=2e-3)
    assert memory.bytes_per_parameter == pytest.approx(4.0007, abs=1e-4)


def test_a_parameter_without_a_gradient_stays():
    model = llama()
    optimizer = build_optimizer("adam_mini", model, **SETTINGS)
    head, rest = model.lm_head.weight.detach().clone(), model.model.norm.weight
    rest.grad = torch.ones_like(rest)
    optimizer.step()
    assert torch.equal(model.lm_head.weight, head)
    assert model.lm_head.weight not in optimizer.state
    torch.testing.assert_close(rest.detach(), torch.full_like(rest, 1 - 1e-2), rtol=0, atol=1e-6)


def test_scheduler_and_closure_work():
    layer = nn.Linear(3, 2)
    optimizer = AdamMini(layer, lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step == 0 else 0.5)
    before = layer.weight.detach().clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = layer(torch.ones(1, 3)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert torch.equal(layer.weight, before)
    schedule.step()
    optimizer.step(closure)
    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": -1.0}, "lr -1.0"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"rules": "v2"}, "v1.1.1"),
        ({"head_dim": 5}, "head_dim"),
        ({"head_dim": None}, "head_dim"),
    ],
)
def test_bad_settings_are_refused(change, message):
    settings = {**SETTINGS, "head_dim": HEAD, **change}
    with pytest.raises(ConfigError, match=message):
        AdamMini(llama().named_parameters(), **settings)


def test_a_model_that_cannot_be_cut_is_refused():
    with pytest.raises(ConfigError, match="fully_shard"):
        AdamMini([("_fsdp_wrapped_module._flat_param", nn.Parameter(torch.ones(7)))], lr=1e-3)
    for name in OPTIMIZERS:
        with pytest.raises(ConfigError, match="Unfreeze"):
            build_optimizer(name, llama().requires_grad_(False), lr=1e-3)
    with pytest.raises(ConfigError, match="adam_mini"):
        build_optimizer("adam_minni", llama(), lr=1e-3)


def test_adamw_is_fused_and_spares_norms_and_biases():
    model, other = llama(), llama()
    optimizer = build_optimizer("adamw", model, **SETTINGS)
    assert optimizer.defaults["fused"] is True
    push(model, optimizer, 3)
    mine = [{"params": [p], "weight_decay": 0.1 if p.dim() > 1 else 0.0} for p in other.parameters()]
    push(other, torch.optim.AdamW(mine, lr=1e-2, betas=(0.9, 0.98), eps=1e-6), 3)
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (one - two).abs().max() < 1e-6, name
