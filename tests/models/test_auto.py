"""Auto classes and pipelines of transformers open saved folders of a Whisper with the stack projector."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.inference import tiny
from tests.models.pairs import assistant
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

import vivavoce
from vivavoce.audio.files import write_audio
from vivavoce.base.errors import ConfigError
from vivavoce.models.auto import SpeechLM, SpeechLMConfig, SpeechProcessor

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    tiny.user("What is it? ", tiny.clip(1.1)),
    {"role": "assistant", "content": "noise"},
    tiny.user(tiny.clip(0.2, 1), " and ", tiny.clip(0.3, 2, 44_100)),
]


@pytest.fixture(scope="module")
def made():
    return assistant()


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper-stack")
    made.model.save_pretrained(path)
    made.processor.save_pretrained(path)
    return str(path)


def written(made, inputs, **options):
    """The text that ``generate`` writes."""
    options = {"max_new_tokens": 10, "do_sample": False, **options}
    ids = made.model.generate(**inputs, **options, pad_token_id=0)[:, inputs["input_ids"].shape[1] :]
    return made.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_auto_classes_give_back_what_was_saved(made, folder):
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is SpeechLMConfig and config.audio_in == made.model.config.audio_in
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor) is SpeechProcessor
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == made.processor.tokenizer.get_vocab()
    inputs = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    with torch.no_grad():
        wanted = made.model(**inputs).logits
        for auto in (AutoModel, AutoModelForMultimodalLM):
            model = auto.from_pretrained(folder)
            assert type(model) is SpeechLM and not model.training
            assert torch.equal(model(**inputs).logits, wanted)


def test_half_precision_keeps_the_features_whole(made, folder):
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    assert model.audio_encoder.encoder.conv1.weight.dtype == torch.bfloat16
    inputs = made.processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    wanted = inputs["input_features"].clone()
    for moved in (
        inputs.to(torch.bfloat16),
        inputs.to("cpu", torch.bfloat16),
        inputs.to(dtype=torch.float16),
    ):
        assert moved["input_features"].dtype == torch.float32 and torch.equal(moved["input_features"], wanted)
        assert moved["input_ids"].dtype == torch.int64
    with torch.no_grad():
        half, whole = model(**inputs).logits.float(), made.model(**inputs).logits
    assert torch.nn.functional.cosine_similarity(half, whole, dim=-1).min() > 0.97


def test_any_to_any(made, folder, tmp_path):
    pipe = pipeline("any-to-any", model=folder, device="cpu")
    inputs = made.processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    wanted = written(made, inputs)[0]
    options = {"max_new_tokens": 10, "return_full_text": False}
    assert pipe(text=MESSAGES, **options)[0]["generated_text"] == wanted
    batch = pipe(text=[MESSAGES, [tiny.user("Hello")]], **options)
    assert batch[0][0]["generated_text"] == wanted
    assert (
        pipe(
            text=MESSAGES,
            return_full_text=False,
            generate_kwargs={"max_new_tokens": 10, "repetition_penalty": 2.0},
        )[0]["generated_text"]
        == written(made, inputs, repetition_penalty=2.0)[0]
    )
    # text that is written out, with a recording
    write_audio(tmp_path / "a.wav", tiny.clip(0.5)["audio"], 22_050)
    text = "[user]What is <|audio|>?<|eot_id|>[assistant]"
    inputs = made.processor(text=text, audio=str(tmp_path / "a.wav"))
    row = pipe(text=text, audio=str(tmp_path / "a.wav"), **options)[0]
    assert row["generated_text"] == written(made, inputs)[0]
    with pytest.raises(ConfigError, match="does not take images"):
        pipe(text=text, audio=str(tmp_path / "a.wav"), images="a.png", **options)


def test_one_import_is_enough(folder):
    code = (
        "import sys, vivavoce.models.auto\n"
        "from transformers import AutoModel, pipeline\n"
        "assert type(AutoModel.from_pretrained(sys.argv[1])).__name__ == 'SpeechLM'\n"
        "for task in ('speech-chat', 'ultravox-pipeline'):\n"
        "    assert isinstance(pipeline(task, model=sys.argv[1], device='cpu')('hi', max_new_tokens=2), str)\n"
    )
    path = os.pathsep.join(
        [str(Path(vivavoce.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
