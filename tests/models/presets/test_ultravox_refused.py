"""Ultravox checkpoints that are not as they should be: each fault is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.goldens.ultravox_models import tokenizer_folder
from tests.models.presets.ultravox_folders import (
    EVERYTHING,
    parts,
    read,
    read_alone,
    set_fields,
    store,
    tensors,
)
from transformers import AutoTokenizer

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models.presets.ultravox.parts import declared_name
from vivavoce.models.presets.ultravox.sizes import same_name

PROJECTOR = "multi_modal_projector"


def drop(name: str) -> Any:
    return lambda held: held.pop(name)


def put(name: str, *shape: int) -> Any:
    return lambda held: held.update({name: torch.zeros(*shape)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(f"{PROJECTOR}.linear_1.weight"), rf"1 tensors missing: {PROJECTOR}\.linear_1\.weight"),
        (
            drop("audio_tower.layers.1.fc1.bias"),
            r"lacks 1 tensors of its speech encoder \(audio_tower\.layers\.1\.fc1",
        ),
        (
            drop("language_model.lm_head.weight"),
            r"lacks 1 tensors of its language model \(language_model\.lm_head",
        ),
        (
            put("audio_tower.layers.2.fc1.bias", 64),
            r"1 tensors unexpected: audio_tower\.layers\.2\.fc1\.bias",
        ),
        (put(f"{PROJECTOR}.ln_post.weight", 48), rf"1 tensors unexpected: {PROJECTOR}\.ln_post\.weight"),
        (put("vision_tower.weight", 4), r"tensor vision_tower\.weight belongs to none of audio_tower"),
        (put(f"{PROJECTOR}.linear_2.weight", 40, 32), r"linear_2\.weight \(\[40, 32\], wanted \[48, 32\]\)"),
        (
            put("audio_tower.conv1.bias", 31),
            r"of another shape: audio_tower\.conv1\.bias \(\[31\], wanted \[32\]\)",
        ),
        (
            put("audio_tower.base_model.model.layers.0.self_attn.q_proj.lora_A.default.weight", 2, 32),
            r"unexpected: audio_tower\.base_model\.model\.layers\.0\.self_attn\.q_proj\.lora_A",
        ),
    ],
)
def test_tensors(change: Any, message: str, tmp_path: Path) -> None:
    taken = parts(tmp_path, EVERYTHING)
    held = tensors(taken)
    change(held)
    store(taken, held)
    with pytest.raises(CheckpointError, match=message):
        read_alone(taken)


@pytest.mark.parametrize(
    ("also", "message"),
    [
        (
            ("language_model.",),
            r"lacks 37 tensors of its speech encoder .* say where it is \(encoder, --encoder\)",
        ),
        (("audio_tower.",), r"lacks 21 tensors of its language model .* \(text_model, --llm\)"),
    ],
)
def test_a_part_that_nobody_names(also: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_alone(parts(tmp_path, also))


def test_adapters_that_are_not_all_there(tmp_path: Path) -> None:
    taken = parts(tmp_path, audio_model_lora_config={"r": 2})
    store(taken, tensors(taken) | {
        "audio_tower.base_model.model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.zeros(2, 32)
    })  # fmt: skip
    with pytest.raises(CheckpointError, match=r"7 tensors missing: .*lora_"):
        read(taken)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"llm_only_training": True}, "has no ears"),
        ({"audio_latency_block_size": 33}, "audio_latency_block_size is 33, wanted a divisor of 400"),
        (
            {"audio_model_lora_config": {"r": 4, "use_dora": True}},
            r"audio_model_lora_config has \{'use_dora': True\}",
        ),
        ({"audio_model_lora_config": {"r": 4, "bias": "all"}}, "'bias': 'all'"),
        ({"text_config": {"model_type": "no_such_model"}}, "text_config is of model type 'no_such_model'"),
        ({"audio_config": {"model_type": "wav2vec2-bert"}}, "of which Ultravox keeps only the inside"),
        ({"audio_config": {"model_type": "bert"}}, "'bert', wanted one of"),
    ],
)
def test_fields(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    taken = parts(tmp_path, EVERYTHING, **fields)
    with pytest.raises((ConfigError, ModelError, CheckpointError), match=message):
        read_alone(taken)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("field", "size", "message"),
    [
        ("hidden_size", 24, "has hidden_size 24, the checkpoint was trained with .* of hidden_size 48"),
        ("num_hidden_layers", 3, "has num_hidden_layers 3, .* of num_hidden_layers 2"),
        ("vocab_size", 300, "has vocab_size 300, .* of vocab_size 256"),
    ],
)
@pytest.mark.parametrize("accept_other", [False, True])
def test_a_language_model_of_other_sizes(
    field: str, size: int, message: str, accept_other: bool, tmp_path: Path
) -> None:
    """Whatever its name, and whether another is accepted or not."""
    taken = parts(tmp_path)
    change_config(taken.text_model, **{field: size})
    with pytest.raises(CheckpointError, match=message):
        read(taken, accept_other=accept_other)


def test_a_language_model_of_other_width_that_only_the_projector_tells(tmp_path: Path) -> None:
    taken = parts(tmp_path, text_model_id="../text")
    set_fields(taken, text_config=..., vocab_size=...)
    change_config(taken.text_model, hidden_size=24, head_dim=6)
    with pytest.raises(CheckpointError, match=r"linear_2\.weight \(\[48, 32\], wanted \[24, 32\]\)"):
        read(taken)


@pytest.mark.parametrize(
    ("field", "size", "message"),
    [
        ("d_model", 64, "d_model 64 instead of 32"),
        ("num_hidden_layers", 3, "encoder_layers 3 instead of 2"),
        ("num_mel_bins", 128, "num_mel_bins 128 instead of 80"),
        ("model_type", "wav2vec2", "type huggingface instead of whisper"),
    ],
)
def test_an_encoder_of_other_sizes(field: str, size: Any, message: str, tmp_path: Path) -> None:
    taken = parts(tmp_path)
    change_config(taken.encoder, **{field: size})
    with pytest.raises(CheckpointError, match=message):
        read(taken)


@pytest.mark.parametrize(
    ("what", "field", "mine", "other"),
    [
        ("text_model", "text_model_id", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B"),
        ("encoder", "audio_model_id", "openai/whisper-medium", "openai/whisper-small"),
    ],
)
def test_a_part_of_another_name(what: str, field: str, mine: str, other: str, tmp_path: Path) -> None:
    """Refused unless it is accepted, or has the checkpoint's name after all."""
    taken = parts(tmp_path, **{field: mine})
    folder = getattr(taken, what)
    change_config(folder, _name_or_path=other)
    with pytest.raises(CheckpointError, match=rf"{mine}.* is '{other}'; give the one it was trained"):
        read(taken, accept_other=False)
    change_config(folder, _name_or_path=mine)
    with pytest.raises(
        CheckpointError, match=r"instead of|was trained with"
    ):  # the name fits, the sizes do not
        read(taken, accept_other=False)


def test_names() -> None:
    assert same_name("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct")
    assert same_name("openai/whisper-small", "whisper-small")
    assert not same_name("openai/whisper-small", "openai/whisper-medium")
    assert not same_name("a/model", "b/model")


def test_what_a_folder_says_it_is(tmp_path: Path) -> None:
    assert declared_name("openai/whisper-small") == "openai/whisper-small"
    assert declared_name(str(tmp_path)) is None
    cached = tmp_path / "models--openai--whisper-small" / "snapshots" / "0123"
    cached.mkdir(parents=True)
    assert declared_name(str(cached)) == "openai/whisper-small"
    (tmp_path / "config.json").write_text('{"_name_or_path": "/somewhere/else"}')
    assert declared_name(str(tmp_path)) is None


def test_a_tokenizer_without_an_end_and_no_tokenizer(tmp_path: Path) -> None:
    taken = parts(tmp_path, EVERYTHING)
    with pytest.raises(ModelError, match=r"has no tokenizer .* \(tokenizer, --tokenizer\)"):
        read(taken, tokenizer=None, text_model=None)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder())
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    with pytest.raises(ModelError, match="has no end of sequence"):
        read(taken, tokenizer=str(tmp_path / "endless"))


def test_a_part_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"'nobody/nothing' has no config .* --llm"):
        read_alone(parts(tmp_path, ("audio_tower.",), text_model_id="nobody/nothing"))
