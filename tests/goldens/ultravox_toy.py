"""The toy tokenizer of the Ultravox goldens: ASCII code points, the marks of Llama 3 and ``<|audio|>``."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>")
FIRST_SPECIAL = 128  # ids below are ASCII code points
EOT = FIRST_SPECIAL + SPECIAL.index("<|eot_id|>")  # eos, padding, and what the goldens write where audio is
AUDIO_TOKEN = "<|audio|>"
AUDIO = FIRST_SPECIAL + len(SPECIAL)  # the old length of the tokenizer, as Ultravox's training adds it


def toy_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder of kind "ultravox", with the chat template of its ``processor/counts.json``."""
    core = Tokenizer(BPE(vocab={chr(i): i for i in range(FIRST_SPECIAL)}, merges=[]))
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(token, special=True) for token in (*SPECIAL, AUDIO_TOKEN)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=SPECIAL[0],
        eos_token="<|eot_id|>",
        pad_token="<|eot_id|>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = json.loads((folder / "processor" / "counts.json").read_text())["chat_template"]
    return fast
