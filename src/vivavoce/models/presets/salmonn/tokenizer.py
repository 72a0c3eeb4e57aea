"""Vicuna's tokenizer as SALMONN uses it: the ids of sentencepiece, a place for clips, and the turns' form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from vivavoce.base.errors import ModelError
from vivavoce.models.encoders.references import hub_arguments
from vivavoce.models.presets.salmonn.prompts import CLIP
from vivavoce.tokens.sentencepiece_file import SPACE, fast_tokenizer, set_fresh_spaces

PAD = "[PAD]"  # what the published code adds, with an embedding row of its own

# turns as in training; a system message goes first, as in Vicuna's own form
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + '\\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}"
    "{% else %}{{ m['content'] + ' ' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def load_tokenizer(source: str, rows: int, **hub: Any) -> Any:
    """Load the language model's tokenizer and add the placeholder ``<SpeechHere>``.

    Args:
        source: Folder or hub id with tokenizer.model or tokenizer.json, or that tokenizer.model itself.
        rows: Embedding rows of the language model; one that the tokenizer does not reach is ``[PAD]``.
        hub: How to reach the hub.

    Raises:
        ModelError: There is none, or it is not like LLaMA's.
    """
    tokenizer = _plain(source, hub_arguments(hub))
    if len(tokenizer) < rows and tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.add_tokens([CLIP], special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _plain(source: str, hub: dict[str, Any]) -> Any:
    """The tokenizer as the language model has it, with sentencepiece's ids."""
    wanted = "Give a folder with tokenizer.model or tokenizer.json as tokenizer=... (--tokenizer)."
    if Path(source).is_file():
        return fast_tokenizer(Path(source))
    try:
        pieces, whole = (
            cached_file(source, name, _raise_exceptions_for_missing_entries=False, **hub)
            for name in ("tokenizer.model", "tokenizer.json")
        )
        if pieces is not None:
            return fast_tokenizer(Path(pieces))
        found = None if whole is None else AutoTokenizer.from_pretrained(source, **hub)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the tokenizer of {source!r} cannot be read: {reason} {wanted}") from error
    if found is None or not found.is_fast or found.bos_token is None or found.eos_token is None:
        raise ModelError(f"{source!r} has no tokenizer like LLaMA's. {wanted}")
    backend = found.backend_tokenizer
    vocabulary = found.get_vocab()
    if SPACE in vocabulary and "<0x0A>" in vocabulary:
        set_fresh_spaces(backend)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=found.bos_token,
        eos_token=found.eos_token,
        unk_token=found.unk_token,
        pad_token=found.pad_token,
        clean_up_tokenization_spaces=False,
    )
