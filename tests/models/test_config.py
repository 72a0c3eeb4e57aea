"""The config says what it means, reports all faults at once, and survives JSON."""

from __future__ import annotations

import json

import pytest
import torch
from tests.models.tiny import embeddings_in, text_config
from transformers import AutoConfig, AutoModelForCausalLM

from vivavoce.base.errors import ConfigError
from vivavoce.models.config import EmbeddingsIn, NoAudio, SpeechLMConfig, TokensIn, TokensOut

TOKENS_IN = {"type": "tokens", "codec": "codec", "vocabulary": {"layout": "interleaved"}}
ALIGNED_OUT = {
    "type": "tokens",
    "codec": "nano",
    "alignment": "phone",
    "voice": {"type": "aligned", "width": 8},
}
SIDES = [
    (None, None),
    (TOKENS_IN, None),
    (embeddings_in(transcript_first=True, gate="ctc"), ALIGNED_OUT),
    ({"type": "none"}, {"type": "tokens", "codec": "snac", "vocabulary": {}, "speakers": ["tara", "leo"]}),
]


@pytest.mark.parametrize(("audio_in", "audio_out"), SIDES)
def test_round_trip_through_json_and_folder(audio_in, audio_out, tmp_path):
    config = SpeechLMConfig(
        text_config=text_config(),
        audio_in=audio_in,
        audio_out=audio_out,
        text_form="spoken",
        sampling={"temperature": 0.6},
        text_model_ref="text",
        refusal_text="What?",
    )
    config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["model_type"] == "vivavoce_speech_lm"
    for again in (SpeechLMConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(again) is SpeechLMConfig
        assert again.audio_in == config.audio_in
        assert again.audio_out == config.audio_out
        assert again.text_config.to_dict() == config.text_config.to_dict()
        for name in ("text_form", "sampling", "text_model_ref", "refusal_text"):
            assert getattr(again, name) == getattr(config, name)


def test_sides_become_typed_records():
    config = SpeechLMConfig(text_config=text_config(), audio_in=embeddings_in(), audio_out=ALIGNED_OUT)
    assert isinstance(config.audio_in, EmbeddingsIn)
    assert isinstance(config.audio_out, TokensOut)
    assert config.audio_token_id == config.audio_in.audio_token_id
    plain = SpeechLMConfig(text_config=text_config())
    assert plain.audio_in == NoAudio() == plain.audio_out
    assert plain.audio_token_id is None
    assert isinstance(SpeechLMConfig(audio_in=TOKENS_IN).audio_in, TokensIn)


def test_all_faults_are_reported_at_once_with_the_nearest_names():
    ears = {**embeddings_in(), "transcript_frist": True, "audio_token_id": "59", "gate": "ctx"}
    mouth = {"type": "tokens", "alignment": "phone", "voise": {}}
    with pytest.raises(ConfigError) as caught:
        SpeechLMConfig(text_config=text_config(), audio_in=ears, audio_out=mouth, text_form="loud")
    message = str(caught.value)
    for part in (
        "audio_in.transcript_frist is unknown, did you mean 'transcript_first'?",
        "audio_in.audio_token_id is '59', wanted int",
        "audio_in.gate is 'ctx'",
        "audio_out.voise is unknown, did you mean 'voice'?",
        "audio_out.codec is missing",
        "text_form is 'loud'",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("audio_in", "audio_out", "part"),
    [
        (
            {"type": "embedding"},
            None,
            "audio_in.type is 'embedding', wanted one of 'none', 'tokens', 'embeddings'",
        ),
        (embeddings_in(gate="ctc"), None, "gate needs transcript_first"),
        ({**embeddings_in(), "encoder": {}}, None, "encoder.type is missing"),
        ({**embeddings_in(), "audio_token_id": -1}, None, "audio_token_id is -1"),
        ({**embeddings_in(), "gate_floors": {"german": "low"}}, None, "floor 'german' is 'low'"),
        (None, {"type": "tokens", "codec": "snac"}, "vocabulary is missing"),
        (None, {"type": "tokens", "codec": "nano", "alignment": "word"}, "voice is missing"),
        (None, {"type": "embeddings"}, "audio_out.type is 'embeddings'"),
    ],
)
def test_sides_that_cannot_work_are_refused(audio_in, audio_out, part):
    with pytest.raises(ConfigError, match=r"wanted|missing|needs") as caught:
        SpeechLMConfig(text_config=text_config(), audio_in=audio_in, audio_out=audio_out)
    assert part in str(caught.value)


def test_a_living_model_keeps_its_attention():
    llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(**text_config()))
    before = llm.config._attn_implementation
    ids = torch.tensor([[1, 2, 3]])
    alone = llm(ids).logits
    SpeechLMConfig(text_config=llm.config)
    assert llm.config._attn_implementation == before == "sdpa"
    assert torch.equal(llm(ids).logits, alone)
