"""A small run of the bundle itself: every system, the recognisers, a sweep over noise, and several models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.inference.tiny import byte_tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from vivavoce.audio.files import read_audio
from vivavoce.audio.synthesis import has_synthesizer
from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.results import read_outcomes, read_questions, read_run
from vivavoce.evaluation.run import RunSettings, run_evaluation, run_evaluations
from vivavoce.evaluation.run.answerers import Local
from vivavoce.evaluation.run.recognisers import make_recogniser
from vivavoce.inference.assistant import Assistant, load
from vivavoce.inference.batching.calls import Calls

pytestmark = pytest.mark.skipif(not has_synthesizer("espeak"), reason="needs espeak-ng")


@pytest.fixture(scope="module")
def nano() -> Assistant:
    return load("nano")


def answers(out: Path, task: str, system: str) -> dict[str, Any]:
    return read_outcomes(out / "items" / task / f"{system}.jsonl")


def test_suite(nano: Assistant, tmp_path: Path) -> None:
    settings = RunSettings(limit=2, cascade="self+own", listener="self")
    run_evaluation(nano, ["nano"], [], tmp_path, settings)
    record = read_run(tmp_path)
    assert set(record.systems) == {"model", "cascade", "typed", "silent", "swapped", "original"}
    assert "own ears" in record.systems["cascade"] and record.no_base
    spoken = answers(tmp_path, "nano_questions", "model")
    for outcome in spoken.values():
        assert outcome.ttft_s <= outcome.first_audio_s <= outcome.total_s
        wave, rate = read_audio(tmp_path / outcome.audio)
        assert len(wave) / rate == pytest.approx(outcome.spoken_s, abs=0.01)
    cascade = answers(tmp_path, "nano_questions", "cascade")
    # the same ears and the same language model: what was understood is answered alike
    assert [o.hypothesis for i, o in spoken.items() if o.understood] == [
        cascade[i].hypothesis for i, o in spoken.items() if o.understood
    ]
    assert not any(o.understood for o in answers(tmp_path, "nano_questions", "silent").values())
    typed = answers(tmp_path, "nano_typed", "typed")
    right = {q.id: q.references for q in read_questions(tmp_path / "items/nano_typed/inputs.jsonl")}
    assert all(o.hypothesis in right[i] for i, o in typed.items())
    assert all(o.hypothesis for o in answers(tmp_path, "nano_speaking", "model").values())


def test_several_at_once_answer_as_one_by_one(nano: Assistant, tmp_path: Path) -> None:
    settings = RunSettings(limit=8, aloud=False, probes=False)
    tasks, systems = ["nano_questions", "nano_typed"], ["model", "typed"]
    run_evaluation(nano, tasks, systems, tmp_path / "one", settings)
    run_evaluation(nano, tasks, systems, tmp_path / "many", dataclasses.replace(settings, workers=8))
    for task, system in (("nano_questions", "model"), ("nano_typed", "typed")):
        one, many = answers(tmp_path / "one", task, system), answers(tmp_path / "many", task, system)
        assert {i: o.hypothesis for i, o in one.items()} == {i: o.hypothesis for i, o in many.items()}
    assert type(nano.calls) is Calls  # it runs in the caller's thread again


def test_plain_language_model_as_base(nano: Assistant, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    settings = RunSettings(limit=2, base=str(tmp_path / "plain"), max_new_tokens=3)
    run_evaluation(nano, ["nano_typed"], ["typed", "base"], tmp_path / "out", settings)
    before = answers(tmp_path / "out", "nano_typed", "base")
    assert len(before) == 2 and not any(o.error for o in before.values())
    words = read_run(tmp_path / "out").systems["base"]
    assert words.startswith("plain ") and str(tmp_path) not in words


def test_noise_sweep(nano: Assistant, tmp_path: Path) -> None:
    settings = RunSettings(limit=2, aloud=False, snr_db=(20.0, 0.0), probes=False)
    run_evaluation(nano, ["nano_questions"], ["model"], tmp_path, settings)
    assert set(read_run(tmp_path).tasks) == {"nano_questions", "nano_questions_snr20", "nano_questions_snr0"}
    loud = read_questions(tmp_path / "items/nano_questions_snr0/inputs.jsonl")
    assert [q.snr_db for q in loud] == [0.0, 0.0]
    assert len(answers(tmp_path, "nano_questions_snr0", "model")) == 2


def test_several_models_side_by_side(tmp_path: Path) -> None:
    settings = RunSettings(limit=1, probes=False)
    folders = run_evaluations(["nano"], ["nano_typed"], ["typed"], tmp_path, settings)
    assert (
        folders == {"nano": tmp_path / "nano"} and len(answers(tmp_path / "nano", "nano_typed", "typed")) == 1
    )


def test_systems_that_do_not_fit_are_told(nano: Assistant, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="swapped"):
        run_evaluation(nano, ["nano_typed"], ["swapped"], tmp_path / "a")
    with pytest.raises(ConfigError, match="unknown system"):
        run_evaluation(nano, ["nano_typed"], ["modell"], tmp_path / "b")


def test_recognisers(nano: Assistant) -> None:
    wave, rate = read_audio(Path(__file__).parents[3] / "src/vivavoce/bundle/nano/question.wav")
    own = make_recogniser("self", Local(nano))
    assert own.own and own.hear(wave, rate) == nano.transcribe((wave, rate)).text
    assert make_recogniser("nano").hear(wave, rate) == own.hear(wave, rate)
    pytest.importorskip("pocketsphinx")
    grammar = (
        "#JSGF V1.0;\ngrammar g;\npublic <s> = what is <n> plus <n>;\n<n> = two | three | four | five;\n"
    )
    held = make_recogniser("pocketsphinx", None, grammar)
    assert "grammar" in held.name and set(held.hear(wave, rate).split()) <= set(
        "what is plus two three four five".split()
    )


def test_recogniser_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh"]
    (tmp_path / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path / "tiny-ears")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    layers = {
        "conv_dim": (8, 8),
        "conv_stride": (10, 16),
        "conv_kernel": (20, 16),
        "num_feat_extract_layers": 2,
    }
    groups = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "vocab_size": len(letters)}
    Wav2Vec2ForCTC(Wav2Vec2Config(**sizes, **layers, **groups)).save_pretrained(tmp_path / "tiny-ears")
    recogniser = make_recogniser(f"hf:{tmp_path / 'tiny-ears'}")
    assert recogniser.name.startswith("tiny-ears by transformers") and str(tmp_path) not in recogniser.name
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    heard = recogniser.hear(noise, 8000)
    assert heard and set(heard) <= set("".join(letters)) | {" "} and recogniser.hear(noise, 8000) == heard
