"""Ears by embeddings and a voice of audio tokens in one model: Whisper and a projector in, SNAC tokens out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.inference import tiny
from tests.models.tiny import text_config
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperModel

from vivavoce.codecs.loading import load_codec
from vivavoce.codecs.snac.codec import SNACCodec
from vivavoce.codecs.snac.config import SNACConfig
from vivavoce.inference.assistant import Assistant, load
from vivavoce.inference.collect import collect
from vivavoce.models.config import EmbeddingsIn, Lora, SpeechLMConfig, TokensOut
from vivavoce.models.conversion import convert
from vivavoce.models.encoders.references import feature_settings
from vivavoce.models.lora import add_lora, lora_parameters
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.tokens.vocabulary import extend_vocabulary

WHISPER = {
    "num_mel_bins": 80,
    "max_source_positions": 100,
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
}
QUESTION = [tiny.user("What is this? ", tiny.clip(0.8, seed=4))]
FREE = {"audio": True, "seed": 1, "temperature": 1.0, "max_new_tokens": 60}


def tiny_snac() -> SNACCodec:
    """SNAC's 24 kHz geometry, 16 codewords, random weights, no noise blocks."""
    torch.manual_seed(0)
    sizes = {
        "encoder_dim": 4,
        "encoder_rates": (2, 4, 8, 8),
        "decoder_dim": 16,
        "decoder_rates": (8, 8, 4, 2),
    }
    strides = {"attn_window_size": None, "codebook_size": 16, "vq_strides": (4, 2, 1), "noise": False}
    return SNACCodec(SNACConfig(sampling_rate=24_000, **sizes, **strides)).eval()


def write_parts(folder: Path) -> None:
    """A language model with audio tokens, Whisper and a codec, each in its own folder."""
    torch.manual_seed(0)
    tokenizer = tiny.byte_tokenizer("<|audio|>")
    codec = tiny_snac()
    vocabulary = extend_vocabulary(tokenizer, codec_spec=codec.spec, layout="orpheus")
    fields = text_config(len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    llm = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in fields.items() if k != "model_type"}))
    with torch.no_grad():  # it likes to begin to speak
        llm.lm_head.weight[vocabulary.start_id] *= 4
    llm.save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    vocabulary.save(folder / "llm")
    decoder = {"vocab_size": 20, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8}
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
    WhisperModel(WhisperConfig(**WHISPER, **decoder, **ends)).save_pretrained(folder / "whisper")
    codec.save(folder / "codec")


@pytest.fixture
def parts(tmp_path):
    write_parts(tmp_path)
    return tmp_path


def assemble(parts: Path) -> Assistant:
    """Ears and voice around the language model."""
    from transformers import AutoTokenizer

    from vivavoce.tokens.vocabulary import detect_vocabulary

    torch.manual_seed(2)
    tokenizer, llm = (
        AutoTokenizer.from_pretrained(parts / "llm"),
        LlamaForCausalLM.from_pretrained(parts / "llm"),
    )
    codec = load_codec(str(parts / "codec"))
    encoder = {"type": "whisper", "model": WHISPER, "ref": str(parts / "whisper")}
    connector = {"type": "stack", "encoder_size": 16, "text_size": 32, "stack_factor": 4, "hidden_size": 24}
    config = SpeechLMConfig(
        text_config=llm.config,
        text_model_ref=str(parts / "llm"),
        audio_in=EmbeddingsIn(
            encoder=encoder,
            connector=connector,
            audio_token_id=tokenizer.convert_tokens_to_ids("<|audio|>"),
            features=feature_settings(encoder),
            transcribe_prompt="Write: ",
        ),
        audio_out=TokensOut(codec="codec", vocabulary=detect_vocabulary(tokenizer, codec.spec).to_dict()),
    )
    model = SpeechLM(config, text_model=llm).eval()
    model.audio_encoder.load_reference("")
    model.requires_grad_(False)
    add_lora(model, "language_model", Lora(rank=2))
    for parameter in lora_parameters(model, "language_model"):
        torch.nn.init.normal_(parameter, std=0.1)
    return Assistant(model, SpeechProcessor.for_config(tokenizer, config, parts), "both")


@pytest.mark.parametrize("backbone", ["reference", "merged"])
def test_it_hears_answers_aloud_and_is_the_same_after_loading(parts, backbone):
    made = assemble(parts)
    assert made.hears and made.speaks and made.chats
    wanted = made.chat(QUESTION, **FREE)
    assert wanted.sample_rate == 24_000 and wanted.audio.size > 0 and np.isfinite(wanted.audio).all()
    assert wanted.audio.std() > 0
    made.model.save_pretrained(parts / "both", backbone=backbone)
    made.processor.save_pretrained(parts / "both")
    assert (parts / "both" / "codec").is_dir()  # the codec travels with it
    stored = load_file(parts / "both" / "model.safetensors")
    parts_in_it = {name.split(".")[0] for name in stored if ".lora_" not in name}
    assert parts_in_it == {"connector"} | (
        {"audio_encoder", "language_model"} if backbone == "merged" else set()
    )
    again = load(parts / "both", device="cpu")
    given = again.chat(QUESTION, **FREE)
    assert given.text == wanted.text and np.array_equal(given.audio, wanted.audio)
    streamed = collect(again.stream(QUESTION, **FREE), 24_000)
    assert streamed.text == wanted.text and np.abs(streamed.audio - wanted.audio).max() < 1e-5


def test_what_is_heard_changes_what_is_said(parts):
    made = assemble(parts)
    wave = np.sin(np.arange(12_800) * 0.2).astype(np.float32)  # a tone as long as the noise of the question
    tone = {"type": "audio", "audio": wave, "sampling_rate": 16_000}
    first, second = (made.chat([tiny.user("What is this? ", c)], **FREE) for c in (tiny.clip(0.8), tone))
    assert (first.text, first.audio.tolist()) != (second.text, second.audio.tolist())


def test_it_is_converted_to_one_folder_and_spoken_words_go_back_in(parts):
    made = assemble(parts)
    made.model.save_pretrained(parts / "both")
    made.processor.save_pretrained(parts / "both")
    wanted = made.chat(QUESTION, **FREE)
    done = convert(str(parts / "both"), parts / "all", merge=True)
    assert {"audio_encoder", "language_model", "connector"} < set(done.tensors) and done.references == {}
    for name in ("llm", "whisper", "codec", "both"):
        (parts / name).rename(parts / f"gone {name}")
    again = load(parts / "all", device="cpu")
    reply = again.chat(QUESTION, **FREE)
    assert np.array_equal(reply.audio, wanted.audio)
    heard = {"type": "audio", "audio": reply.audio, "sampling_rate": reply.sample_rate}
    assert again.transcribe(heard, max_new_tokens=5).seconds == pytest.approx(
        len(reply.audio) / 24_000, abs=1e-3
    )
    turns = [*QUESTION, {"role": "assistant", "content": reply.text}, tiny.user(heard, "And this?")]
    assert again.chat(turns, **FREE).audio.size > 0
