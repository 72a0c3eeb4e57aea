"""info, models and codecs: facts about real files and folders, for people and for programs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.cli.running import listing
from tests.goldens.discovery import STORED
from tests.models.named_parts import make_parts, naming_model
from tests.models.tiny import hearing_model, text_config
from transformers import LlamaConfig, LlamaForCausalLM

from vivavoce.audio.files import write_audio
from vivavoce.codecs.contract import CodecSpec
from vivavoce.tokens.vocabulary import extend_vocabulary

SNAC = CodecSpec("snac_24khz", 24_000, 2048, (4, 2, 1), 4096, 0, False)


def test_a_recording(run, speech, tmp_path):
    silence = np.zeros(2 * speech.sample_rate, np.float32)
    spoken = np.concatenate([silence, speech.waveform, silence])
    write_audio(tmp_path / "a.wav", np.stack([spoken, spoken]), speech.sample_rate)
    facts = run("info", "a.wav", "--json").json
    assert facts["kind"] == "recording"
    assert (facts["container"], facts["encoding"], facts["channels"]) == ("WAV", "PCM_16", 2)
    assert facts["seconds"] == pytest.approx(len(spoken) / speech.sample_rate, abs=1e-5)
    assert facts["peak_db"] == pytest.approx(20 * np.log10(np.abs(spoken).max()), abs=0.01)
    assert facts["level_db"] == pytest.approx(10 * np.log10(np.mean(spoken**2)), abs=0.01)
    spoken_s = len(speech.waveform) / speech.sample_rate
    assert facts["speech_s"] == pytest.approx(spoken_s, abs=0.5)
    assert facts["speech_share"] == pytest.approx(facts["speech_s"] / facts["seconds"], abs=1e-5)
    piped = run("info", "-", "--json", stdin=(tmp_path / "a.wav").read_bytes()).json
    assert piped == facts | {"file": "-"}
    shown = run("info", "a.wav").text
    assert f"sample_rate   {speech.sample_rate}" in shown


def test_silence_has_no_level(run, tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(8000, np.float32), 8000)
    facts = run("info", "a.wav", "--json").json
    assert facts["peak_db"] is facts["level_db"] is None
    assert facts["speech_share"] == 0


@pytest.mark.parametrize("form", ["text", "ids", "npy"])
def test_token_files(run, tone, codec_folder, form):
    run("encode", tone, "--codec", codec_folder, "--layout", "interleaved", "--format", form, "--out", "t")
    facts = run("info", "t", "--json").json
    assert (facts["kind"], facts["format"]) == ("tokens", form)
    wanted = {
        "text": {"tokens": 108, "codes": 106, "complete": True, "layout": "interleaved"},
        "ids": {"tokens": 108, "lowest_id": 128_256},
        "npy": {"frames": 53, "codes_per_frame": 2, "dtype": "int32"},
    }
    assert wanted[form].items() <= facts.items()


def test_a_codec_folder_and_a_codec_name(run, codec_folder):
    facts = run("info", codec_folder, "--json").json
    assert (facts["kind"], facts["name"], facts["sample_rate"]) == ("codec", "encodec_24khz", 24_000)
    assert (facts["levels"], facts["tokens_per_second"], facts["kbit_per_second"]) == (2, 150, 1.5)
    named = run("info", "encodec_24khz", "--json").json
    assert named["tokens_per_second"] == 150
    assert named["source"] == "facebook/encodec_24khz"


def test_one_of_our_models(run, tmp_path):
    model = hearing_model()
    model.save_pretrained(tmp_path / "ears")
    facts = run("info", "ears", "--json").json
    counts = {
        part: sum(p.numel() for p in getattr(model, part).parameters())
        for part in ("language_model", "audio_encoder", "connector")
    }
    assert facts["parts"] == counts
    assert facts["parameters"] == sum(counts.values())
    assert facts["audio_in"] == "embeddings (mel_ctc encoder, stack connector)"
    assert facts["audio_out"] == "none"
    shown = run("info", "ears").text
    assert "audio_encoder: " in shown
    shutil.copy(__file__, tmp_path / "ears" / "model.safetensors")
    assert run("info", "ears").is_one_error("model.safetensors is not a safetensors file")


def test_ears_with_named_parts_and_adapters(run, tmp_path):
    model = naming_model(make_parts(tmp_path), "two")
    model.save_pretrained(tmp_path / "ours")
    facts = run("info", "ours", "--json").json
    assert facts["audio_in"] == "embeddings (dual encoder, stack connector)"
    assert facts["encoder"] == "whisper, 1 layers, 16 wide; wavlm, 1 layers, 12 wide"
    assert facts["connector"] == "stack, encoder_size 28, hidden_size 24, stack_factor 2, text_size 32"
    assert facts["references"] == {
        "language_model": str(tmp_path / "llm"),
        "audio_encoder.first": str(tmp_path / "whisper"),
        "audio_encoder.second": str(tmp_path / "wavlm"),
    }
    assert facts["adapters"]["language_model"] == "rank 2, alpha 16.0, on q_proj, v_proj"
    assert set(facts["parts"]) == {"connector", "language_model adapters", "audio_encoder adapters"}
    assert "language_model: rank 2" in run("info", "ours").text


def test_a_published_form(run, tmp_path):
    facts = run("info", STORED / "ultravox" / "v0_5_lnmid", "--json").json
    assert (facts["preset"], facts["audio_in"], facts["audio_out"]) == ("ultravox", "embeddings", "none")
    assert set(facts["parts"]) >= {"multi_modal_projector", "audio_tower"}


def test_the_bundle_states_the_licence_of_its_weights(run):
    assert run("info", "nano", "--json").json["licence"] == "cc-by-sa-4.0"


def test_a_plain_language_model_with_audio_tokens(run, tmp_path):
    from tests.inference.tiny import byte_tokenizer

    tokenizer = byte_tokenizer()
    extend_vocabulary(tokenizer, codec_spec=SNAC, layout="orpheus")
    config = {k: v for k, v in text_config(len(tokenizer)).items() if k != "model_type"}
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(tmp_path / "speaker")
    tokenizer.save_pretrained(tmp_path / "speaker")
    (tmp_path / "speaker" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    facts = run("info", "speaker", "--json").json
    assert (facts["preset"], facts["audio_in"], facts["audio_out"]) == (
        "orpheus",
        "none",
        "tokens (alignment none)",
    )
    assert facts["licence"] == "apache-2.0"
    assert "28672 codes in layout orpheus" in facts["vocabulary"]


def test_what_is_not_there(run, monkeypatch, tmp_path):
    assert run("info", "nobody/nothing").is_one_error("nobody/nothing", "config.json", "hf download")
    assert run("info", "nanoo").is_one_error("unknown model 'nanoo'", "'nano'")
    assert run("info", "sound.wav").is_one_error("sound.wav does not exist")
    assert run("info", ".").is_one_error("no config.json")
    assert listing(tmp_path) == []


def test_lists(run):
    names = [row["name"] for row in run("codecs", "--json").json]
    assert {"nano", "snac_24khz", "encodec_24khz", "mimi"} <= set(names)
    table = run("codecs").text
    assert all(name in table for name in names)
    assert "tokens/s" in table
    rows = {row["name"]: row for row in run("models", "--json").json}
    assert rows["jan_llama3"]["hears"] == "tokens"
    assert rows["orpheus"]["chats"] is False
    assert "orpheus" in run("models").text
