"""The examples of docs/models.md run, in order, in one folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from tests.inference import tiny
from tests.models.tiny import text_config
from transformers import AutoConfig, AutoModelForCausalLM

from vivavoce.audio.files import write_audio
from vivavoce.models.loading import BUNDLE

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny.byte_tokenizer("<|audio|>")
    config = text_config(len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    write_audio(tmp_path / "question.wav", np.zeros(8000, np.float32) + 0.01, 16_000)
    names = {"tokenizer": tokenizer, "llm": llm}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(examples) == 6
    for example in examples:
        if "canopylabs" in example or (
            'load("nano")' in example and not (BUNDLE / "nano" / "config.json").is_file()
        ):
            continue
        exec(compile(example, str(PAGE), "exec"), names)
    assert (tmp_path / "my-ears" / "model.safetensors").stat().st_size < (
        tmp_path / "merged" / "model.safetensors"
    ).stat().st_size
    assert names["ids"].shape[1] > names["inputs"]["input_ids"].shape[1]
