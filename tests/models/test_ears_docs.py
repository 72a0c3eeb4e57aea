"""The examples of docs/ears.md run, with small models in the place of published ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from tests.inference import tiny
from tests.models.tiny import text_config
from transformers import AutoConfig, AutoModelForCausalLM, WhisperConfig, WhisperForConditionalGeneration

from vivavoce.base.errors import ConfigError
from vivavoce.models.compose import with_ears
from vivavoce.models.loading import load_speech_lm

PAGE = Path(__file__).parents[2] / "docs" / "ears.md"
WHISPER = {
    "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 51866,
}  # fmt: skip


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Folders ``llm`` and ``whisper`` with random weights."""
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny.byte_tokenizer()
    torch.manual_seed(0)
    config = text_config(len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).save_pretrained("llm")
    tokenizer.save_pretrained("llm")
    WhisperForConditionalGeneration(WhisperConfig(**WHISPER)).save_pretrained("whisper")
    return tmp_path


def test_examples_run(parts):
    turns = [
        {
            "turn_id": i,
            "text": f"words {i}",
            "emotion": "happy",
            "split_audio_file": f"{i}.wav",
            "response_txt": "Well.",
        }
        for i in (1, 2)
    ]
    (parts / "task1_3.jsonl").write_text(json.dumps({"dialogue_id": "d1", "turns": turns}) + "\n")
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(examples) == 3
    names: dict = {}
    for example in examples:
        example = example.replace("meta-llama/Llama-3.2-1B-Instruct", "llm").replace(
            "openai/whisper-small", "whisper"
        )
        exec(compile(example, str(PAGE), "exec"), names)
    assert len(names["rows"]) == 1
    stored = {p.name for p in (parts / "my-ears").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= stored


@pytest.mark.parametrize(
    "connector", [None, {"type": "qformer", "hidden_size": 16, "num_heads": 2, "tail": "pad"}]
)
def test_new_ears_train_only_what_is_new_and_come_back(parts, connector):
    model, processor = with_ears("llm", "whisper", connector, lora={"language_model": {"rank": 2}})
    trained = {n.partition(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"connector", "language_model"}
    assert all(
        ".lora_" in n for n, p in model.named_parameters() if p.requires_grad and n.startswith("language")
    )
    inputs = processor.apply_chat_template([tiny.user("Say ", tiny.clip(0.7))], add_generation_prompt=True)
    with torch.no_grad():
        wanted = model(**inputs).logits
    model.save_pretrained("ears")
    processor.save_pretrained("ears")
    assert (parts / "ears" / "model.safetensors").stat().st_size < 8e6
    again, reader = load_speech_lm("ears")
    same = reader.apply_chat_template([tiny.user("Say ", tiny.clip(0.7))], add_generation_prompt=True)
    assert torch.equal(same["input_ids"], inputs["input_ids"])
    with torch.no_grad():
        torch.testing.assert_close(again(**same).logits, wanted, atol=1e-5, rtol=0)


def test_the_seed_makes_the_connector(parts):
    one, two, three = (with_ears("llm", "whisper", seed=s)[0].connector.linear_1.weight for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)


def test_ears_that_do_not_fit(parts):
    with pytest.raises(ConfigError, match=r"unknown connector 'stak'.*'stack'"):
        with_ears("llm", "whisper", {"type": "stak"})
    with pytest.raises(ConfigError, match=r"connector\.hidden_siz is unknown"):
        with_ears("llm", "whisper", {"type": "stack", "hidden_siz": 4})
