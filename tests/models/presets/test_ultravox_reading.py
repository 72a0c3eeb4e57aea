"""Published forms of Ultravox: bundled, in parts, with adapters; and what is not as it should be, refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.goldens.ultravox_models import tokenizer_folder
from tests.models.presets.ultravox_folders import (
    EVERYTHING,
    WHOLE,
    logits,
    parts,
    read,
    read_alone,
    set_fields,
    shard,
    store,
    tensors,
)
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from vivavoce.base.errors import CheckpointError, ConfigError
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.presets.preset import Sources, find_ears_preset
from vivavoce.models.presets.ultravox.preset import ULTRAVOX


@pytest.fixture(scope="module")
def wanted() -> torch.Tensor:
    """Logits of the whole model in one file."""
    return logits(ULTRAVOX.read(WHOLE, Sources(tokenizer=str(tokenizer_folder()))))


def test_recognised_by_its_config(tmp_path: Path) -> None:
    for path in (WHOLE, WHOLE / "model.safetensors", WHOLE / "config.json"):
        assert ULTRAVOX.recognises(path)
    assert find_ears_preset(WHOLE) is ULTRAVOX
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert not ULTRAVOX.recognises(tmp_path) and not ULTRAVOX.recognises(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="model type 'llama', wanted 'ultravox'"):
        ULTRAVOX.read(tmp_path, Sources())


@pytest.mark.parametrize("also", [(), ("audio_tower.",), ("language_model.",), EVERYTHING])
def test_what_is_held_and_what_is_beside_give_the_same_model(
    also: tuple[str, ...], tmp_path: Path, wanted: torch.Tensor
) -> None:
    taken = parts(tmp_path, also)
    found = read(taken)
    assert torch.equal(logits(found), wanted)
    assert len(found.notes) == len(also) and all("are not used" in note for note in found.notes)
    held = found.model.config.published["held"]
    assert held == [
        p for p, n in (("audio_encoder", "audio_tower."), ("language_model", "language_model.")) if n in also
    ]
    assert found.model.config.text_model_ref == (None if "language_model." in also else str(taken.text_model))
    assert found.model.config.audio_in.encoder.get("ref") == (
        None if "audio_tower." in also else str(taken.encoder)
    )


def test_shards(tmp_path: Path, wanted: torch.Tensor) -> None:
    taken = parts(tmp_path, EVERYTHING)
    shard(taken.checkpoint)
    assert torch.equal(logits(read(taken)), wanted)


def test_ids_say_where_the_parts_are(tmp_path: Path, wanted: torch.Tensor) -> None:
    """As in v0.4.1: neither audio_config nor text_config; here the ids are folders beside."""
    taken = parts(tmp_path, audio_model_id="../whisper", text_model_id="../text")
    set_fields(taken, audio_config=..., text_config=...)
    found = read_alone(taken)
    assert torch.equal(logits(found), wanted)
    assert found.model.config.text_model_ref.endswith("text")


def test_ids_beside_weights_that_are_held_all_the_same(tmp_path: Path, wanted: torch.Tensor) -> None:
    """As in v0.3: everything is in the file, and the ids are still set; only configs are read from there."""
    taken = parts(tmp_path, EVERYTHING, audio_model_id="../whisper", text_model_id="../text")
    for folder in (taken.encoder, taken.text_model):
        (folder / "model.safetensors").unlink()
    assert torch.equal(logits(read_alone(taken)), wanted)


def test_absent_fields_are_what_they_were_before_they_came(tmp_path: Path) -> None:
    taken = parts(tmp_path, EVERYTHING)
    held = tensors(taken)
    held["multi_modal_projector.ln_post.weight"] = torch.ones(48)
    del held["multi_modal_projector.ln_mid.weight"]
    store(taken, held)
    new = (
        "projector_ln_mid",
        "audio_latency_block_size",
        "audio_model_lora_config",
        "text_model_lora_config",
    )
    set_fields(taken, audio_token_index=32_000, llm_only_training=..., **dict.fromkeys(new, ...))
    found = read_alone(taken)
    assert found.model.config.audio_in.connector["norm"] == "post" and not found.notes
    assert found.model.config.audio_in.encoder.get("block_frames") is None
    assert found.model.config.audio_token_id == 133


def test_blocks_of_the_encoder(tmp_path: Path) -> None:
    """They count encoder frames, 20 ms each: a frame is heard by its own block and by later ones."""
    found = read(parts(tmp_path, EVERYTHING, audio_latency_block_size=20))
    assert found.model.config.audio_in.encoder["block_frames"] == 20
    torch.manual_seed(0)
    clip = torch.randn(1, 80, 100)
    late, early = clip.clone(), clip.clone()
    late[..., 44:] += 1.0  # past what the convolutions of encoder frame 19 see
    early[..., 36] += 1.0
    with torch.no_grad():
        states, after_late, after_early = (found.model.hear(x).states[0] for x in (clip, late, early))
    assert torch.equal(states[:20], after_late[:20]) and not torch.equal(states[20:], after_late[20:])
    assert not torch.allclose(states[0], after_early[0], atol=1e-4)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "written")
    assert json.loads((tmp_path / "written" / "config.json").read_text())["audio_latency_block_size"] == 20


@pytest.mark.parametrize("wrapper", ["_fsdp_wrapped_module.", "_orig_mod."])
def test_names_of_sharded_and_compiled_training(wrapper: str, tmp_path: Path, wanted: torch.Tensor) -> None:
    taken = parts(tmp_path, EVERYTHING)
    held = {n.replace("layers.0.", f"layers.0.{wrapper}"): t for n, t in tensors(taken).items()}
    held["language_model.model.rotary_emb.inv_freq"] = torch.ones(6)
    store(taken, held)
    assert torch.equal(logits(read(taken)), wanted)


def with_adapters(part: str, to: Path, also: tuple[str, ...] = (), **more: Any) -> Any:
    """A checkpoint with rank 2 adapters at the targets that their code has by default."""
    field = {"audio_tower": "audio_model_lora_config", "language_model": "text_model_lora_config"}[part]
    taken = parts(to, also, **{field: {"r": 2, "lora_alpha": 8, **more}})
    inner, widths = ("", (32, 32)) if part == "audio_tower" else ("model.", (48, 24))
    held = tensors(taken)
    torch.manual_seed(0)
    for i in range(2):
        for leaf, out in (("q_proj", widths[0]), ("k_proj", widths[1])):
            at = f"{part}.base_model.model.{inner}layers.{i}.self_attn.{leaf}"
            held[f"{at}.lora_A.default.weight"] = 0.3 * torch.randn(2, widths[0])
            held[f"{at}.lora_B.default.weight"] = 0.3 * torch.randn(out, 2)
    store(taken, held)
    return taken


@pytest.mark.parametrize("also", [(), EVERYTHING], ids=["parts beside", "bundled"])
@pytest.mark.parametrize("part", ["audio_tower", "language_model"])
def test_adapters_that_are_not_merged(
    part: str, also: tuple[str, ...], tmp_path: Path, wanted: torch.Tensor
) -> None:
    """They add ``alpha / rank * B A`` to the weights they are for."""
    taken = with_adapters(part, tmp_path / "adapted", also)
    found = read(taken)
    [lora] = found.model.config.lora.values()
    assert (lora.rank, lora.alpha, set(lora.targets)) == (2, 8.0, {"q_proj", "k_proj"})
    whole = parts(tmp_path / "merged", EVERYTHING)
    merged, adapters = tensors(whole), tensors(taken)
    for name, tensor in adapters.items():
        if ".lora_A." in name:
            base = name.replace("base_model.model.", "").replace("lora_A.default.", "")
            merged[base] = merged[base] + 4.0 * adapters[name.replace("lora_A", "lora_B")] @ tensor
    store(whole, merged)
    expected = logits(read(whole))
    torch.testing.assert_close(logits(found), expected, rtol=0, atol=1e-4)
    assert not torch.allclose(expected, wanted, atol=1e-2)


def test_bases_under_adapters_may_have_their_own_names(tmp_path: Path) -> None:
    taken = with_adapters("audio_tower", tmp_path, EVERYTHING)
    before, held = logits(read(taken)), tensors(taken)
    for leaf in ("q_proj.weight", "q_proj.bias", "k_proj.weight"):
        plain = f"audio_tower.layers.0.self_attn.{leaf}"
        inner = leaf.replace("proj.", "proj.base_layer.")
        held[f"audio_tower.base_model.model.layers.0.self_attn.{inner}"] = held.pop(plain)
    store(taken, held)
    assert torch.equal(logits(read(taken)), before)


def test_adapters_that_are_named_and_not_there_are_at_zero(tmp_path: Path, wanted: torch.Tensor) -> None:
    taken = parts(tmp_path, EVERYTHING, audio_model_lora_config={"r": 8})
    found = read_alone(taken)
    assert torch.equal(logits(found), wanted) and not found.model.config.lora
    [note] = found.notes
    assert "adapters of the speech encoder" in note


@pytest.mark.parametrize("part", ["audio_tower.layers.1.", "language_model.model.layers.0."])
def test_a_part_that_was_trained_in_part_is_completed(part: str, tmp_path: Path) -> None:
    taken = parts(tmp_path, (part,))
    held = {n: t + 0.1 if n.startswith(part) else t for n, t in tensors(taken).items()}
    store(taken, held)
    found = read(taken)
    whole = parts(tmp_path / "whole", EVERYTHING)
    store(whole, {n: held.get(n, t) for n, t in tensors(whole).items()})
    assert torch.equal(logits(found), logits(read(whole)))
    [note] = found.notes
    assert "came from" in note and not found.model.config.audio_in.encoder.get("ref", "").startswith(part)


def test_parts_can_be_left_out(tmp_path: Path, wanted: torch.Tensor) -> None:
    """Nothing of them is loaded, and the model is stored by reference; loaded again it is the same."""
    taken = parts(tmp_path)
    found = read(taken, with_parts=False)
    assert {p.device.type for p in found.model.language_model.parameters()} == {"meta"}
    found.model.save_pretrained(tmp_path / "ours")
    found.processor.save_pretrained(tmp_path / "ours")
    model, processor = load_speech_lm(tmp_path / "ours")
    assert torch.equal(logits(type(found)(model, processor)), wanted)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "theirs")
    assert torch.equal(
        logits(
            read_alone(
                type(taken)(Path(), Path(), tmp_path / "theirs"),
                text_model=str(taken.text_model),
                encoder=str(taken.encoder),
                accept_other=True,
            )
        ),
        wanted,
    )


def test_a_folder_with_its_tokenizer_is_loaded_by_its_path(tmp_path: Path, wanted: torch.Tensor) -> None:
    taken = parts(tmp_path, EVERYTHING)
    AutoTokenizer.from_pretrained(tokenizer_folder()).save_pretrained(taken.checkpoint)
    model, processor = load_speech_lm(taken.checkpoint)
    assert torch.equal(logits(type(read(taken))(model, processor)), wanted)
    assert processor.tokenizer.chat_template and processor.audio_token == "<|audio|>"
    ears = model.config.audio_in
    assert (ears.shortest_samples, ears.features, ears.text_apart) == (
        320,
        {"num_mels": 80, "ending": "hop"},
        True,
    )
    assert not ears.reference_padding and set(ears.prompts) == {"asr", "translate", "continue"}


def test_the_audio_token_comes_after_the_last_one_and_no_embedding_for_it(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    AutoTokenizer.from_pretrained(tokenizer_folder()).save_pretrained(plain)
    record = json.loads((plain / "tokenizer.json").read_text())
    record["added_tokens"] = [t for t in record["added_tokens"] if t["content"] != "<|audio|>"]
    record["added_tokens"].append({**record["added_tokens"][0], "id": 133, "content": "<|more|>"})
    (plain / "tokenizer.json").write_text(json.dumps(record))
    assert Tokenizer.from_file(str(plain / "tokenizer.json")).get_vocab_size() == 134
    found = read(parts(tmp_path, EVERYTHING), tokenizer=str(plain))
    assert found.model.config.audio_token_id == 134
    assert found.model.get_input_embeddings().weight.shape[0] == 256
    assert "audio_token_index 133" in found.notes[-1]  # what config.json says is another


def test_ends_of_an_answer(tmp_path: Path) -> None:
    """Those of checkpoint, language model and tokenizer, and the end of a turn whatever they say."""
    taken = parts(tmp_path, EVERYTHING)
    set_fields(
        taken,
        text_config={**json.loads((WHOLE / "config.json").read_text())["text_config"], "eos_token_id": 1},
    )
    (taken.checkpoint / "generation_config.json").write_text('{"eos_token_id": [128]}')
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder())
    tokenizer.eos_token = "<|end_of_text|>"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    made = read(taken, tokenizer=str(tmp_path / "tokenizer")).model.generation_config
    assert made.eos_token_id == [1, 128, 131, 132]  # 131 is <|eot_id|>
    assert made.pad_token_id == 132


def test_prompts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text('{"asr": "Write it down: ", "order": "What is ordered?"}')
    found = read(parts(tmp_path, EVERYTHING), prompts=str(tmp_path / "prompts.json"))
    ears = found.model.config.audio_in
    assert ears.prompts["asr"] == ears.transcribe_prompt == "Write it down: " and "order" in ears.prompts
    (tmp_path / "prompts.json").write_text('["no"]')
    with pytest.raises(ConfigError, match="no JSON object of task -> prompt"):
        read(parts(tmp_path / "b", EVERYTHING), prompts=str(tmp_path / "prompts.json"))


def test_an_encoder_of_waveforms(tmp_path: Path) -> None:
    """Not a Whisper by name or type: any encoder of transformers, with its own tensor names."""
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(16, 16),
        conv_kernel=(10, 3), conv_stride=(160, 2), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True, feat_extract_norm="layer",
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = Wav2Vec2Model(config).eval()
    taken = parts(
        tmp_path, ("language_model.",), audio_config={**config.to_diff_dict(), "model_type": "wav2vec2"}
    )
    held = tensors(taken) | {f"audio_tower.{n}": t.contiguous() for n, t in encoder.state_dict().items()}
    store(taken, held)
    found = read_alone(taken)
    assert found.model.audio_encoder.takes == "waveform"
    ULTRAVOX.write(found.model, found.processor, tmp_path / "written")
    again = type(taken)(Path(), Path(), tmp_path / "written")
    wave = torch.randn(1, 8000)
    with torch.no_grad():
        first, second = (x.model.hear(wave).embeddings for x in (found, read_alone(again)))
    assert torch.equal(first, second)
    assert tensors(again).keys() == held.keys()
    config_after = json.loads((tmp_path / "written" / "config.json").read_text())
    assert (
        config_after["audio_config"]
        == json.loads((taken.checkpoint / "config.json").read_text())["audio_config"]
    )


def test_a_language_model_inside_another(tmp_path: Path) -> None:
    """Gemma 3 wraps its language model; its width and vocabulary are inside."""
    text = {
        "vocab_size": 256,
        "hidden_size": 48,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "head_dim": 12,
    }
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": 131, "pad_token_id": 0}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "gemma")
    taken = parts(tmp_path, ("audio_tower.",), text_model_id="../gemma", text_config=None)
    found = read_alone(taken)
    assert found.model.config.hidden_size == 48 and logits(found).shape == (1, 6, 256)
    found.model.save_pretrained(tmp_path / "ours")
    found.processor.save_pretrained(tmp_path / "ours")
    model, processor = load_speech_lm(tmp_path / "ours")
    assert torch.equal(logits(type(found)(model, processor)), logits(found))
