"""Tiny tokenizers, models and codec numbers: everything is made here, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vivavoce.codecs.contract import CodecSpec

CORPUS = [
    "hello world, the sound of music starts and ends here; what is the weather in Hanoi today?",
    "user assistant system: listen and answer. Rain is likely, said tara, with 0123456789 custom tokens.",
] * 20

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA_SPECIALS = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]


@lru_cache(maxsize=1)
def _llama_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=LLAMA_SPECIALS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(tokenizer.to_str())


@lru_cache(maxsize=1)
def _metaspace_json() -> str:
    """A SentencePiece-like tokenizer: a space mark goes before the first word of a text only."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(tokenizer.to_str())


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """A fresh byte-level tokenizer with Llama 3's special tokens and template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_llama_json()),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )
    tokenizer.chat_template = LLAMA_TEMPLATE
    return tokenizer


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A fresh SentencePiece-like tokenizer without chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_metaspace_json()),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def llama_model(rows: int, *, tied: bool = False, bias: bool = False) -> LlamaForCausalLM:
    """A random one-layer Llama of width 16."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=rows,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    if bias:
        model.lm_head.bias = torch.nn.Parameter(torch.arange(rows, dtype=torch.float32))
    return model.eval()


def spec(strides: tuple[int, ...], size: int, name: str = "toy") -> CodecSpec:
    """Numbers of a codec with these strides and 100 samples per finest step."""
    return CodecSpec(name, 24_000, 100 * max(strides), strides, size, 0, False)


# the numbers of published codecs
SNAC24 = CodecSpec("snac_24khz", 24_000, 2048, (4, 2, 1), 4096, 0, False)
SNAC32 = CodecSpec("snac_32khz", 32_000, 3072, (8, 4, 2, 1), 4096, 0, False, pad_to_frames=4)
ENCODEC = CodecSpec("encodec_24khz", 24_000, 320, (1, 1), 1024, 0, True)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return llama_tokenizer()


@pytest.fixture
def make_model() -> Callable[..., LlamaForCausalLM]:
    return llama_model
