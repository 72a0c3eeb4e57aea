"""Another Vicuna, Whisper or BEATs of the same sizes is refused, with both names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from vivavoce.base.errors import CheckpointError
from vivavoce.models.encoders.beats_config import BeatsConfig
from vivavoce.models.presets.salmonn.checkpoint import Shapes
from vivavoce.models.presets.salmonn.match import BEATS, PUBLISHED, WHISPER, WHISPER_SIZES, Match

WHERE = Path("salmonn_v1.pth")
SHAPES = {
    "13b": Shapes(5120, 1280, 768, 768, 1, 2, 3072, 40, 8, ("q_proj", "v_proj")),
    "7b": Shapes(4096, 1280, 768, 768, 1, 2, 3072, 32, 8, ("q_proj", "v_proj")),
}
REFERENCES = {"13b": "lmsys/vicuna-13b-v1.1", "7b": "lmsys/vicuna-7b-v1.5"}


def text_config(variant: str, **changes: Any) -> LlamaConfig:
    text = next(p.text for p in PUBLISHED.values() if p.variant == variant)
    return LlamaConfig(**{"vocab_size": 32_000, **text, **changes})


def text_faults(variant: str, reference: str, accept_other: bool = False, **changes: Any) -> Match:
    match = Match(WHERE, accept_other)
    match.text_model(SHAPES[variant], text_config(variant, **changes), reference)
    match.raise_on_faults()
    return match


def whisper_faults(reference: str, accept_other: bool = False, **changes: Any) -> Match:
    match = Match(WHERE, accept_other)
    record = {"type": "whisper", "model": {**WHISPER_SIZES, **changes}}
    match.encoder(SHAPES["13b"], record, reference)
    match.raise_on_faults()
    return match


def beats_faults(reference: str, accept_other: bool = False, **changes: Any) -> Match:
    match = Match(WHERE, accept_other)
    match.sound_encoder(SHAPES["13b"], replace(BeatsConfig(), **changes), reference)
    match.raise_on_faults()
    return match


@pytest.mark.parametrize("variant", SHAPES)
@pytest.mark.parametrize("rows", [32_000, 32_001])
def test_the_published_parts_fit(variant: str, rows: int) -> None:
    assert text_faults(variant, REFERENCES[variant], vocab_size=rows).notes == []
    assert whisper_faults(WHISPER).notes == []
    assert beats_faults(f"weights/{BEATS}").notes == []


@pytest.mark.parametrize(
    ("variant", "reference", "changes", "words"),
    [
        ("13b", "lmsys/vicuna-13b-v1.5", {"max_position_embeddings": 4096}, "v1.5, wanted Vicuna 13B v1.1"),
        ("13b", "lmsys/vicuna-13b-v1.3", {}, "v1.3, wanted Vicuna 13B v1.1"),
        ("7b", "lmsys/vicuna-7b-v1.1", {"max_position_embeddings": 2048}, "v1.1, wanted Vicuna 7B v1.5"),
        ("7b", "meta-llama/Llama-2-7b-chat-hf", {}, "no Vicuna, wanted Vicuna 7B v1.5"),
        ("7b", "my-llm", {"max_position_embeddings": 2048}, "2048 positions, Vicuna 7B v1.5 has 4096"),
        ("13b", "my-llm", {"max_position_embeddings": 4096}, "4096 positions, Vicuna 13B v1.1 has 2048"),
        ("13b", "my-llm", {"vocab_size": 49_954}, "49954 tokens, Vicuna 13B v1.1 has 32000"),
        (
            "13b",
            "cache/models--lmsys--vicuna-13b-v1.5/snapshots/" + "0a" * 20,
            {},
            "v1.5, wanted Vicuna 13B v1.1",
        ),
    ],
)
def test_another_language_model_is_refused(
    variant: str, reference: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words) as raised:
        text_faults(variant, reference, **changes)
    assert reference in str(raised.value) and "--accept-other" in str(raised.value)
    assert words in " ".join(text_faults(variant, reference, accept_other=True, **changes).notes)


def test_the_name_in_the_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "lmsys/vicuna-13b-v1.5"}))
    with pytest.raises(CheckpointError, match=r"v1\.5, wanted Vicuna 13B v1\.1"):
        text_faults("13b", str(tmp_path))


def test_a_name_that_says_nothing_is_noted() -> None:
    assert "does not say that it is Vicuna 13B v1.1" in text_faults("13b", "my-llm").notes[0]
    assert "does not say that it is openai/whisper-large-v2" in whisper_faults("my-whisper").notes[0]
    assert "does not say that it is BEATs" in beats_faults("beats.pt").notes[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"hidden_size": 4800}, "hidden_size 4800, wanted 5120"), ({"num_hidden_layers": 39}, "39, wanted 40")],
)
def test_another_size_is_never_accepted(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        text_faults("13b", REFERENCES["13b"], accept_other=True, **changes)


@pytest.mark.parametrize(
    ("reference", "changes", "words"),
    [
        ("openai/whisper-large", {}, "Whisper large, wanted openai/whisper-large-v2"),
        ("openai/whisper-large-v3", {"num_mel_bins": 128}, "num_mel_bins 128, .* has 80"),
        ("openai/whisper-large-v3-turbo", {}, "large-v3-turbo, wanted"),
        ("my-whisper", {"num_mel_bins": 128}, "num_mel_bins 128"),
        ("my-whisper", {"encoder_layers": 24}, "encoder_layers 24"),
    ],
)
def test_another_whisper_is_refused(reference: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        whisper_faults(reference, **changes)
    assert whisper_faults(reference, accept_other=True, **changes).notes


def test_a_whisper_of_another_width_is_never_accepted() -> None:
    with pytest.raises(CheckpointError, match="1024 wide, wanted 1280"):
        whisper_faults("openai/whisper-medium", accept_other=True, d_model=1024)


@pytest.mark.parametrize(
    ("reference", "changes", "words"),
    [
        ("BEATs_iter3_plus_AS2M.pt", {"finetuned_model": False}, "no classes"),
        ("BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt1.pt", {}, "another BEATs"),
        ("beats.pt", {"predictor_class": 50}, "50 classes"),
    ],
)
def test_another_beats_is_refused(reference: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        beats_faults(reference, **changes)
    assert beats_faults(reference, accept_other=True, **changes).notes


def test_a_beats_of_another_width_is_never_accepted() -> None:
    with pytest.raises(CheckpointError, match="384 wide, wanted 768"):
        beats_faults(BEATS, accept_other=True, encoder_embed_dim=384)


def test_all_faults_are_told_at_once() -> None:
    match = Match(WHERE, False)
    match.text_model(SHAPES["7b"], text_config("7b", max_position_embeddings=2048), "lmsys/vicuna-7b-v1.1")
    match.encoder(SHAPES["7b"], {"type": "whisper", "model": WHISPER_SIZES}, "openai/whisper-large")
    with pytest.raises(CheckpointError, match=r"Vicuna 7B v1\.5.*whisper-large-v2"):
        match.raise_on_faults()
