"""Log probabilities as OpenAI's clients read them: each token as text and as bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from vivavoce.inference.finish import TokenLogprob

LEAST = -9999.0  # what OpenAI's API says of a token that cannot be; JSON has no infinity
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def content(tokenizer: Any, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The ``logprobs`` of a choice."""

    def row(token_id: int, logprob: float) -> dict[str, Any]:
        raw = token_bytes(tokenizer, token_id)
        return {"token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": max(logprob, LEAST)}

    rows = [
        {**row(e.token_id, e.logprob), "top_logprobs": [row(i, logprob) for i, logprob in e.top]}
        for e in entries
    ]
    return {"content": rows, "refusal": None}


def token_bytes(tokenizer: Any, token_id: int) -> bytes:
    """What one token adds to a text, which may be a part of a character; special tokens by their names.

    Args:
        tokenizer: Byte-level, or of pieces with "▁" for a space and "<0xE2>" for a byte, or of words.
        token_id: Also of rows that the tokenizer does not have, which are "".
    """
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return b""
    if token_id in tokenizer.all_special_ids:
        return str(piece).encode()
    letters = _byte_letters()
    if _is_byte_level(tokenizer) and all(c in letters for c in piece):
        return bytes(letters[c] for c in piece)
    if found := _BYTE.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return str(piece).replace("▁", " ").encode()


def _is_byte_level(tokenizer: Any) -> bool:
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return "ByteLevel" in repr(decoder)


@cache
def _byte_letters() -> dict[str, int]:
    """How byte-level tokenizers write bytes: printable ones as themselves, the others from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + n): b for n, b in enumerate(others)}}
