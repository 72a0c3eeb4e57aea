"""Read the byte-pair tokenizers that sentencepiece stores in ``tokenizer.model``, without that package.

LLaMA 1 and 2 and the models made from them ship only this file. It becomes a fast tokenizer that gives the ids
of the original one: every text begins with a fresh space piece, also after a special token, and what no piece
covers is spelled in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ModelError

SPACE = "▁"  # how pieces spell a space

# numbers of the file format: kinds of pieces, kinds of models
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_KINDS = {_NORMAL, _UNKNOWN, _CONTROL, _BYTE}
_UNIGRAM, _BPE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass
class SentencePieces:
    """What a ``tokenizer.model`` holds.

    Attributes:
        pieces: By id.
        scores: Of the pieces; merges with higher scores go first.
        kinds: Of the pieces: 1 normal, 2 unknown, 3 control, 6 byte.
        special: "unk", "bos", "eos" and "pad" -> id, -1 if there is none.
        settings: "model" (2 is BPE), "byte_fallback", "charsmap" (length), "dummy_prefix", "remove_spaces".
    """

    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})
    settings: dict[str, int] = field(
        default_factory=lambda: {
            **{"model": _UNIGRAM, "byte_fallback": 0, "charsmap": 0},
            **{"dummy_prefix": 1, "remove_spaces": 1},
        }
    )


def read_pieces(path: Path) -> SentencePieces:
    """Read a ``tokenizer.model``.

    Raises:
        ModelError: It is not one.

    Source: the public format description of sentencepiece (sentencepiece_model.proto).
    """
    found = SentencePieces()
    try:
        for key, value in _fields(path.read_bytes()):
            if key == 1:
                piece = dict(_fields(value))
                found.pieces.append(piece.get(1, b"").decode("utf-8"))
                found.scores.append(struct.unpack("<f", piece.get(2, bytes(4)))[0])
                found.kinds.append(piece.get(3, _NORMAL))
            elif key == 2:
                trainer = dict(_fields(value))
                found.settings["model"] = trainer.get(3, _UNIGRAM)
                found.settings["byte_fallback"] = trainer.get(35, 0)
                for name, number in (("unk", 40), ("bos", 41), ("eos", 42), ("pad", 43)):
                    given = trainer.get(number, found.special[name])
                    found.special[name] = given if given < 2**31 else -1
            elif key == 3:
                normaliser = dict(_fields(value))
                found.settings["charsmap"] = len(normaliser.get(2, b""))
                found.settings["dummy_prefix"] = normaliser.get(3, 1)
                found.settings["remove_spaces"] = normaliser.get(4, 1)
    except (OSError, ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{path} is not a sentencepiece model: {error}") from error
    if not found.pieces:
        raise ModelError(f"{path} is not a sentencepiece model: it has no pieces.")
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protocol-buffer message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind, value = key & 7, b""
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"field of kind {kind} at byte {at}")
        value, at = data[at : at + size], at + size
        if at > len(data):
            raise ValueError(f"the file ends within a field, at byte {len(data)}")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fast_tokenizer(path: Path) -> Any:
    """The tokenizer of a ``tokenizer.model`` as a fast tokenizer of transformers.

    Raises:
        ModelError: Another kind of sentencepiece model than LLaMA's (BPE, bytes for unknown characters, no
            normalisation).
    """
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    found = read_pieces(path)
    wanted = {"model": _BPE, "byte_fallback": 1, "charsmap": 0, "dummy_prefix": 1, "remove_spaces": 0}
    other = [f"{name} {found.settings[name]}" for name in wanted if found.settings[name] != wanted[name]]
    if other or set(found.kinds) - _KINDS:
        strange = ", ".join(other) or "user-defined pieces"
        raise ModelError(
            f"{path} has {strange}, which this reader does not know; wanted a tokenizer like LLaMA's. Give a folder "
            "with tokenizer.json."
        )
    vocabulary = {piece: i for i, piece in enumerate(found.pieces)}
    names = {name: found.pieces[i] for name, i in found.special.items() if 0 <= i < len(found.pieces)}
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=_merges(found),
            unk_token=names.get("unk"),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    set_fresh_spaces(tokenizer)
    special = [p for p, kind in zip(found.pieces, found.kinds, strict=True) if kind in (_UNKNOWN, _CONTROL)]
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": piece for name, piece in names.items()},
    )


def set_fresh_spaces(tokenizer: Any) -> None:
    """Make a ``tokenizers.Tokenizer`` begin each text with a space piece, as sentencepiece does.

    Later conversions of LLaMA's tokenizer put it only before the first word of a text and not before a text that
    begins with a space; models from before 2023-07 were trained with one before every piece.
    """
    from tokenizers import decoders, normalizers

    tokenizer.pre_tokenizer = None  # type: ignore[assignment]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )


def _merges(found: SentencePieces) -> list[tuple[str, str]]:
    """Pairs of pieces that make a piece, best scores first."""
    normal = {
        piece: i
        for i, (piece, kind) in enumerate(zip(found.pieces, found.kinds, strict=True))
        if kind == _NORMAL
    }
    ranked = []
    for piece, i in normal.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in normal and right in normal:
                ranked.append((-found.scores[i], normal[left], normal[right], left, right))
    return [(left, right) for *_, left, right in sorted(ranked)]
