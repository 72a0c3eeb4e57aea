"""vivavoce export: plain causal LMs that transformers (and so vLLM) reads, with the numbers of the speech LM."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.running import listing
from tests.inference import tiny
from tests.models.named_parts import logits, make_parts, naming_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

from vivavoce.inference.assistant import load
from vivavoce.models.config import Lora
from vivavoce.models.lora import add_lora, merge_lora
from vivavoce.models.processor import SpeechProcessor

MADE = {
    "hears": tiny.tokens_to_text,
    "reads aloud": tiny.text_to_tokens,
    "hears and speaks": tiny.tokens_to_tokens,
}
ROPE = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0}
ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def stored(folder, made):
    """Store an assistant and its codec as a folder of ours."""
    made.model.save_pretrained(folder)
    codec = made.processor.codec_in if made.hears else made.processor.codec_out
    codec.save(folder / "codec")
    made.processor.folder = str(folder)
    made.processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", MADE)
def test_a_plain_language_model_with_the_same_numbers(run, tmp_path, kind):
    made = MADE[kind]()
    stored(tmp_path / "ours", made)
    done = run("export", "ours", "--to", "vllm", "--json")
    assert done.code == 0, done.err
    facts, folder = done.json, tmp_path / "ours-vllm"
    assert (facts["form"], facts["folder"], facts["references"]) == ("vllm", "ours-vllm", {})
    ids = torch.randint(0, made.model.config.vocab_size, (2, 30))
    plain, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(plain) is LlamaForCausalLM
    assert not any(info[what] for what in info), info
    with torch.inference_mode():
        assert torch.equal(plain(ids).logits, made.model(input_ids=ids).logits)
    assert set(load_file(folder / "model.safetensors")) == set(plain.state_dict())
    tokenizer, before = AutoTokenizer.from_pretrained(folder), made.processor.tokenizer
    assert tokenizer.get_vocab() == before.get_vocab()
    turns = [{"role": "user", "content": "two words"}]
    rendered = [
        t.apply_chat_template(turns, add_generation_prompt=True)["input_ids"] for t in (tokenizer, before)
    ]
    assert rendered[0] == rendered[1]
    side = made.model.config.audio_in if made.hears else made.model.config.audio_out
    assert (
        json.loads((folder / "vivavoce.json").read_text())["audio_in"]["type"]
        == made.model.config.audio_in.type
    )
    assert side.codec == "codec" and (folder / "codec").is_dir()
    fields = json.loads((folder / "config.json").read_text())
    assert fields["architectures"] == ["LlamaForCausalLM"] and fields["model_type"] == "llama"
    assert fields["rope_theta"] == 10_000.0 and fields["torch_dtype"] == "float32"
    assert "processor_config.json" not in listing(folder)


def test_adapters_are_merged(run, tmp_path):
    made = tiny.tokens_to_text()
    add_lora(made.model, "language_model", Lora(rank=2, targets=("q_proj", "v_proj")))
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    stored(tmp_path / "ours", made)
    assert run("convert", "ours", "new", "--to", "vllm").code == 0  # the same by the other name
    ids = torch.arange(40)[None]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    with torch.inference_mode():
        adapted = made.model(input_ids=ids).logits
        merge_lora(made.model)
        assert torch.equal(plain(ids).logits, made.model(input_ids=ids).logits)
        assert torch.allclose(plain(ids).logits, adapted, atol=1e-4)
    assert not any("lora" in name for name in load_file(tmp_path / "new" / "model.safetensors"))


def test_rotary_embeddings_are_also_named_as_before_transformers_5(run, tmp_path):
    made = tiny.text_to_tokens(rope_parameters=ROPE)
    stored(tmp_path / "ours", made)
    assert run("export", "ours", "new").code == 0
    fields = json.loads((tmp_path / "new" / "config.json").read_text())
    assert fields["rope_theta"] == 500_000.0
    assert fields["rope_scaling"] == {k: v for k, v in ROPE.items() if k != "rope_theta"}
    assert AutoConfig.from_pretrained(tmp_path / "new").rope_parameters == ROPE
    ids = torch.arange(200)[None]
    with torch.inference_mode():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
        assert torch.equal(plain(ids).logits, made.model(input_ids=ids).logits)


def test_ends_and_sampling(run, tmp_path):
    made = tiny.text_to_tokens()
    stored(tmp_path / "aloud", made)
    stored(tmp_path / "hears", tiny.tokens_to_text())
    assert run("export", "aloud").code == run("export", "hears").code == 0
    aloud = GenerationConfig.from_pretrained(tmp_path / "aloud-vllm")
    assert aloud.eos_token_id == [made.processor.vocabulary_out.end_id]
    assert (aloud.do_sample, aloud.temperature, aloud.top_p, aloud.repetition_penalty) == (
        True,
        0.6,
        0.8,
        1.1,
    )
    hears = GenerationConfig.from_pretrained(tmp_path / "hears-vllm")
    assert hears.eos_token_id == [made.processor.tokenizer.convert_tokens_to_ids("<|eot_id|>")]


@pytest.mark.parametrize("kind", ["reads aloud", "hears and speaks"])
def test_what_was_handed_off_still_speaks_here(run, tmp_path, kind):
    made = MADE[kind]()
    stored(tmp_path / "ours", made)
    assert run("export", "ours", "new").code == 0
    shutil.rmtree(tmp_path / "ours")
    again = load(tmp_path / "new", device="cpu")
    assert again.model.config.sampling == made.model.config.sampling
    options = {"temperature": 0.0, "max_new_tokens": 30}
    wanted = made.say("two", **options).audio
    assert (
        len(wanted) and abs(again.say("two", **options).audio - wanted).max() < 1e-2
    )  # the codec is stored in half


def test_ears_become_ultravox(run, tmp_path):
    tokenizer = tiny.byte_tokenizer("<|audio|>")
    rows = len(tokenizer) + 3
    make_parts(tmp_path, rows, eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained(tmp_path / "llm")
    model = naming_model(tmp_path, rows=rows, placeholder=tokenizer.convert_tokens_to_ids("<|audio|>"))
    model.save_pretrained(tmp_path / "ours")
    SpeechProcessor.for_config(tokenizer, model.config).save_pretrained(tmp_path / "ours")
    done = run("export", "ours", "new", "--json")
    assert done.code == 0, done.err
    facts = done.json
    assert (facts["form"], facts["references"], facts["adapters"]) == (
        "ultravox",
        {},
        {},
    )  # adapters are merged
    assert "language_model adapters" not in facts["tensors"]
    with torch.inference_mode():
        again = load(tmp_path / "new", device="cpu").model
        wanted = load(tmp_path / "ours", device="cpu").model
        assert torch.allclose(logits(again), logits(wanted), atol=1e-4)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["model_type"] == "ultravox"


def test_models_without_such_a_form_are_told_what_can_be_done(run, tmp_path):
    assert run("export", "nano").is_one_error("aligned voice", "vivavoce serve", "--replicas")
    assert listing(tmp_path) == []
    for make in (tiny.embeddings_to_text, tiny.embeddings_to_tokens):
        made = make()
        made.model.save_pretrained(tmp_path / make.__name__)
        made.processor.save_pretrained(tmp_path / make.__name__)
        assert run("export", make.__name__).is_one_error("vLLM", "vivavoce serve")
    assert run("export", "nano", "--to", "vlm").is_one_error("unknown form", "vllm")
