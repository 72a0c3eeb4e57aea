"""The commands with real models in folders: tiny ones with random weights, and the embedded one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.inference.tiny import transcript_first

from vivavoce.audio.files import audio_info, write_audio
from vivavoce.models.loading import BUNDLE

NANO = BUNDLE / "nano"
needs_nano = pytest.mark.skipif(
    not (NANO / "config.json").is_file(), reason="the embedded model is not in the package"
)


@pytest.fixture
def folder(tmp_path):
    """A tiny model that writes a transcript, answers and speaks phone by phone; its codec lies inside."""
    assistant = transcript_first(gate=None)
    assistant.model.save_pretrained(tmp_path / "tiny")
    assistant.processor.save_pretrained(tmp_path / "tiny")
    assistant.processor.codec_out.save(tmp_path / "tiny" / "codec")
    return "tiny"


def test_a_folder_talks(run, folder, tone, tmp_path):
    row = run("chat", folder, "--text", "what is one plus two", "--max-tokens", 8, "--out", "a.wav", "--json")
    assert (row.code, row.err) == (0, "")
    assert row.json["audio"] == "a.wav"
    assert audio_info(tmp_path / "a.wav").duration_s == pytest.approx(row.json["seconds"], abs=1e-5)
    heard = run("transcribe", tone, "--model", folder, "--json")
    assert heard.code == 0
    assert heard.json[0]["seconds"] == pytest.approx(0.7)
    said = run("say", "one plus two", "--model", folder, "--out", "b.wav", "--json").json
    assert [word for word, _, _ in said["words"]] == ["one", "plus", "two"]
    assert audio_info(tmp_path / "b.wav").sample_rate == 24_000
    talk = run("chat", folder, "--max-tokens", 4, "--json", stdin=b"what is one\nand two\n/save c.wav\n")
    assert talk.code == 0, talk.err
    assert len([json.loads(line) for line in talk.text.splitlines()]) == 2
    assert (tmp_path / "c.wav").is_file()
    facts = run("info", folder, "--json").json
    assert {"language_model", "audio_encoder", "connector", "voice"} == set(facts["parts"])
    assert facts["audio_out"] == "tokens (alignment phone)"


def test_unknown_voices_and_options_out_of_range(run, folder, tmp_path):
    assert run("say", "one", "--model", folder, "--voice", "x", "--out", "a.wav").is_one_error("voice", "'x'")
    assert run("chat", folder, "--text", "one", "--top-p", 7).is_one_error("top_p is 7.0")
    assert not (tmp_path / "a.wav").exists()


@needs_nano
def test_demo_of_the_embedded_model(run, tmp_path):
    row = run("demo", "--json", "--out", "heard").json
    assert row["understood"] is True
    assert row["transcript"]
    assert row["text"]
    assert audio_info(tmp_path / "heard" / "answer.wav").duration_s > 0.2
    again = run("transcribe", "heard/question.wav", "--json").json
    assert again[0]["text"] == row["transcript"]


@needs_nano
def test_the_embedded_model_refuses_silence(run, tmp_path):
    write_audio(tmp_path / "silence.wav", np.zeros(16_000, np.float32), 16_000)
    outcome = run("transcribe", "silence.wav", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json[0]["understood"] is False


@needs_nano
def test_the_embedded_model_speaks_and_its_codec_encodes(run):
    said = run("say", "seven plus eight", "--out", "a.wav", "--seed", 1, "--json").json
    assert 0.5 < said["seconds"] < 5
    assert [word for word, _, _ in said["words"]] == ["seven", "plus", "eight"]
    tokens = run("encode", "a.wav")
    assert tokens.text.startswith("<custom_token_1><custom_token_")
    assert run("decode", "--out", "b.wav", stdin=tokens.out).code == 0
