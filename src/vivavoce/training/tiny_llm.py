"""A random language model small enough to learn a few rows on a CPU in seconds: for smoke recipes and trials.

Its tokens are bytes, its template is Llama 3's, so nothing is downloaded and any text can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vivavoce.base.errors import ConfigError
from vivavoce.training.tiny_teaching import Lesson

SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class TinyLLM:
    """Sizes of a Llama.

    Attributes:
        hidden_size: Width D.
        num_layers: Decoder layers.
        num_heads, num_key_value_heads: Of attention.
        tied: Output rows are the input rows.
        seed: Of its weights.
        knows: What it is taught after that, see `tiny_teaching`.
    """

    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    num_key_value_heads: int = 2
    tied: bool = False
    seed: int = 0
    knows: Lesson | None = None

    def __post_init__(self) -> None:
        if (
            self.hidden_size % self.num_heads
            or self.num_heads % self.num_key_value_heads
            or self.num_layers < 1
        ):
            sizes = (self.hidden_size, self.num_heads, self.num_key_value_heads)
            raise ConfigError(
                f"hidden_size, num_heads, num_key_value_heads are {sizes}, num_layers {self.num_layers}; wanted each "
                "of the three to be a multiple of the next, and a layer"
            )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every byte, Llama 3's control tokens and its chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[3], pad_token=SPECIAL[3]
    )
    made.chat_template = TEMPLATE
    return made


def write_tiny_llm(folder: Path, tiny: TinyLLM, weights: bool = True) -> Path:
    """Write a random language model as a folder that transformers reads; the same seed gives the same weights.

    Args:
        folder: Where it goes.
        tiny: Its sizes.
        weights: False writes config and tokenizer only.

    Returns:
        The folder.
    """
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=tiny.hidden_size,
        intermediate_size=3 * tiny.hidden_size,
        num_hidden_layers=tiny.num_layers,
        num_attention_heads=tiny.num_heads,
        num_key_value_heads=tiny.num_key_value_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=tiny.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(tiny.seed)
            LlamaForCausalLM(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
