"""Tiny random assistants for every combination of ears and voice; codecs are random too."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tests.models.tiny import embeddings_in, text_config
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vivavoce.codecs.contract import Codec
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig
from vivavoce.inference.assistant import Assistant
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.tokens.phones import PHONES
from vivavoce.tokens.vocabulary import extend_vocabulary

LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' "
    "+ m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# one placeholder per clip, where the template puts it
WITH_AUDIO = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' }}{% if m['content'] is string %}{{ m['content'] }}{% "
    "else %}"
    "{% for p in m['content'] %}{{ '<|audio|>' if p['type'] == 'audio' else p['text'] }}{% endfor %}{% endif "
    "%}"
    "{{ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
# a spoken turn is audio, then what was heard; the model writes the transcript of the last one itself
TRANSCRIPT_FIRST = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>' }}{% if m['content'] is not string %}"
    "{% for p in m['content'] %}{{ '<|audio|>' if p['type'] == 'audio' else '' }}{% endfor %}{% endif %}"
    "{{ '<|heard|>' }}{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{{ p['text'] if p['type'] == 'text' else '' }}{% endfor %}{% endif %}{% elif m['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{% set c = messages[-1]['content'] %}"
    "{% if c is string or c | selectattr('type', 'equalto', 'text') | list %}{{ '<|assistant|>' }}{% endif "
    "%}{% endif %}"
)
WORDS = "what is one two three plus equals yes no sorry i did not understand good night".split()


def byte_tokenizer(*extra: str) -> Any:
    """Byte-level tokens, Llama 3's special tokens and its chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", *extra]
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|eot_id|>",
    )
    fast.chat_template = WITH_AUDIO if "<|audio|>" in extra else LLAMA3
    return fast


def word_tokenizer() -> Any:
    """A closed vocabulary of words, with the "transcript first" form and the tokens of an aligned voice."""
    special = "<pad> <unk> <|user|> <|heard|> <|assistant|> <|end|> <|unclear|> <|audio|>".split()
    special += ["<|speak|>", "<|word|>", "<|frames|>", *(f"<|ph_{p}|>" for p in PHONES)]
    names = [*special, *WORDS]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex("[.,?!]"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence([decoders.Replace(Regex("$"), " "), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>"
    )
    fast.chat_template = TRANSCRIPT_FIRST
    return fast


def tiny_codec(seed: int = 0) -> NanoCodec:
    """SNAC's 24 kHz geometry with 16 codewords."""
    torch.manual_seed(seed)
    return NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=16)).eval()


def assemble(
    tokenizer: Any, codec: Codec | None, seed: int = 0, text: dict[str, Any] | None = None, **sides: Any
) -> Assistant:
    """An assistant around a random two-layer Llama."""
    torch.manual_seed(seed)
    rows = len(tokenizer) + 3  # padding rows that must never be drawn
    config = SpeechLMConfig(
        text_config=text_config(rows, eos_token_id=tokenizer.eos_token_id, **(text or {})), **sides
    )
    model = SpeechLM(config).eval()
    processor = SpeechProcessor.for_config(tokenizer, config)
    if codec is not None:
        processor._shelf.items["codec"] = codec
    return Assistant(model, processor, "tiny")


def sound(codec: Codec, tokenizer: Any, layout: str = "orpheus") -> dict[str, Any]:
    """Audio tokens added to a tokenizer, as a side of a config."""
    style = "sound" if layout == "interleaved" else None
    record = extend_vocabulary(tokenizer, codec_spec=codec.spec, layout=layout, style=style)
    return {"type": "tokens", "codec": "codec", "vocabulary": record.to_dict()}


def tokens_to_text(seed: int = 0) -> Assistant:
    tokenizer, codec = byte_tokenizer(), tiny_codec()
    ears = sound(codec, tokenizer, "interleaved")
    return assemble(tokenizer, codec, seed, audio_in={**ears, "transcribe_prompt": "Transcribe: "})


def text_to_tokens(seed: int = 0, **text: Any) -> Assistant:
    """An Orpheus in small."""
    tokenizer, codec = byte_tokenizer(), tiny_codec()
    mouth = {**sound(codec, tokenizer), "prompt": "orpheus", "speakers": ["tara", "leo"]}
    sampling = {"temperature": 0.6, "top_p": 0.8, "repetition_penalty": 1.1}
    return assemble(tokenizer, codec, seed, text, audio_out=mouth, sampling=sampling)


def tokens_to_tokens(seed: int = 0) -> Assistant:
    tokenizer, codec = byte_tokenizer(), tiny_codec()
    side = sound(codec, tokenizer)
    return assemble(tokenizer, codec, seed, audio_in=side, audio_out=side)


def embeddings_to_text(seed: int = 0) -> Assistant:
    tokenizer = byte_tokenizer("<|audio|>")
    return assemble(tokenizer, None, seed, audio_in=ears_for(tokenizer))


def embeddings_to_tokens(seed: int = 0) -> Assistant:
    tokenizer, codec = byte_tokenizer("<|audio|>"), tiny_codec()
    mouth = sound(codec, tokenizer)
    return assemble(tokenizer, codec, seed, audio_in=ears_for(tokenizer), audio_out=mouth)


def transcript_first(
    seed: int = 0,
    alignment: str = "phone",
    gate: str | None = "ctc",
    gate_floor: float = -1.0,
    **ears_more: Any,
) -> Assistant:
    """The form of the embedded bundle: transcript, then answer, spoken by an aligned voice."""
    tokenizer, codec = word_tokenizer(), tiny_codec()
    ears = {
        **ears_for(tokenizer),
        "transcript_first": True,
        "gate": gate,
        "gate_floor": gate_floor,
        **ears_more,
    }
    voice = {"type": "aligned", "text_size": 32, "alignment": alignment, "codebook_size": 16, "depth_size": 8}
    voice |= {"depth_intermediate_size": 12, "depth_heads": 2, "max_word_frames": 4}
    mouth = {"type": "tokens", "codec": "codec", "alignment": alignment, "voice": voice}
    sides = {"audio_in": ears, "audio_out": mouth, "text_form": "spoken"}
    assistant = assemble(tokenizer, codec, seed, **sides)
    if alignment == "phone":  # 90 ms for every phone, so that words are short
        head = assistant.model.voice.durations.out
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, -2.4)
    return assistant


def ears_for(tokenizer: Any) -> dict[str, Any]:
    """Embeddings-in for this tokenizer."""
    side = embeddings_in(vocab_size=len(tokenizer))
    return {**side, "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>")}


def clip(seconds: float = 0.5, seed: int = 0, rate: int = 16_000) -> dict[str, Any]:
    """An audio part with noise."""
    rng = np.random.default_rng(seed)
    wave = (0.1 * rng.standard_normal(round(seconds * rate))).astype(np.float32)
    return {"type": "audio", "audio": wave, "sampling_rate": rate}


def user(*parts: Any) -> dict[str, Any]:
    """A user message of texts and clips."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": "user", "content": content}
