"""Tokenizers of sentencepiece without its package: ids, text and errors are those of the original."""

from __future__ import annotations

import itertools
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.goldens.discovery import STORED
from transformers import AutoTokenizer

from vivavoce.base.errors import ModelError
from vivavoce.tokens.sentencepiece_file import fast_tokenizer, read_pieces, set_fresh_spaces

WORDS = ["▁t", "▁th", "▁the", "▁a", "in", "ing", "▁s", "▁si", "▁sing"]
LETTERS = ["▁", *"abcdefghinst<>/:"]


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _piece(text: str, score: float, kind: int = 1) -> bytes:
    inner = _field(1, text.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", score)
    return _field(1, inner + _field(3, kind))


def write_model(path: Path, model: int = 2, remove_spaces: int = 0, extra: bytes = b"") -> Path:
    """A byte-pair model of a few pieces, as sentencepiece writes it."""
    data = _piece("<unk>", 0.0, 2) + _piece("<s>", 0.0, 3) + _piece("</s>", 0.0, 3)
    data += b"".join(_piece(f"<0x{i:02X}>", 0.0, 6) for i in range(256))
    data += b"".join(_piece(piece, -float(i)) for i, piece in enumerate([*WORDS, *LETTERS])) + extra
    data += _field(2, _field(3, model) + _field(35, 1) + _field(43, 2**64 - 1))
    data += _field(3, _field(1, b"identity") + _field(3, 1) + _field(4, remove_spaces))
    path.write_bytes(data)
    return path


def golden_models() -> list[Path]:
    return sorted(STORED.glob("salmonn/**/tokenizer.model"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tokenizer.model")


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def test_pieces_and_merges(made: Path) -> None:
    tokenizer, pieces = fast_tokenizer(made), read_pieces(made).pieces
    assert len(tokenizer) == len(pieces) == 259 + len(WORDS) + len(LETTERS)
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "the sing")) == ["▁the", "▁sing"]
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "a  tin")) == ["▁a", "▁", "▁t", "in"]


def test_the_best_score_is_merged_first(tmp_path: Path) -> None:
    """Whatever the order of the ids."""
    extra = _piece("gi", 5.0)
    tokenizer = fast_tokenizer(write_model(tmp_path / "tokenizer.model", extra=extra))
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "ingi")) == ["▁", "in", "gi"]


def test_bytes_stand_for_what_no_piece_covers(made: Path) -> None:
    tokenizer = fast_tokenizer(made)
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "é\n")) == ["▁", "<0xC3>", "<0xA9>", "<0x0A>"]
    assert tokenizer.decode(ids(tokenizer, "thé 漢\n😀")) == "thé 漢\n😀"


def test_a_space_piece_begins_every_text(made: Path) -> None:
    tokenizer = fast_tokenizer(made)
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, " a")) == ["▁", "▁a"]
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "a</s>a")) == ["▁a", "</s>", "▁a"]
    assert ids(tokenizer, "") == []


def test_special_tokens(made: Path) -> None:
    tokenizer = fast_tokenizer(made)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert tokenizer.pad_token is None
    assert tokenizer.decode([1, *ids(tokenizer, "the"), 2], skip_special_tokens=True) == "the"


def test_saved_and_loaded(made: Path, tmp_path: Path) -> None:
    tokenizer = fast_tokenizer(made)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in ("the sing", " a\n", "</s>a  é"):
        assert ids(again, text) == ids(tokenizer, text)
        assert again.decode(ids(again, text)) == tokenizer.decode(ids(again, text))


def test_fresh_spaces_replace_those_of_later_conversions(made: Path) -> None:
    from tokenizers import pre_tokenizers

    tokenizer = fast_tokenizer(made)
    wanted = ids(tokenizer, " a</s>a")
    backend = tokenizer.backend_tokenizer
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    assert ids(tokenizer, " a</s>a") != wanted
    set_fresh_spaces(backend)
    assert ids(tokenizer, " a</s>a") == wanted


def test_offsets_cover_the_text(made: Path) -> None:
    text = "the  singé"
    encoded = fast_tokenizer(made)(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
    assert all(a <= b and b >= c for (a, b), (c, _) in itertools.pairwise(spans))


@pytest.mark.parametrize("path", golden_models(), ids=lambda p: p.parent.parent.name)
def test_ids_are_those_of_the_package(path: Path) -> None:
    package = pytest.importorskip("sentencepiece")
    original = package.SentencePieceProcessor(model_file=str(path))
    tokenizer = fast_tokenizer(path)
    assert read_pieces(path).pieces == [original.id_to_piece(i) for i in range(original.get_piece_size())]
    draw = random.Random(0)
    alphabet = [*" \n\t/aeiouthsérbwdm漢😀.,:0▁?!", " the", "quick ", "someone", "USER: ", "ing"]
    for _ in range(300):
        text = "".join(draw.choices(alphabet, k=draw.randint(1, 25)))
        assert ids(tokenizer, text) == original.encode(text), repr(text)
        assert tokenizer.decode(ids(tokenizer, text)) == original.decode(original.encode(text)), repr(text)


@pytest.mark.parametrize(
    ("change", "word"), [({"model": 1}, "model 1"), ({"remove_spaces": 1}, "remove_spaces 1")]
)
def test_other_kinds_are_refused(tmp_path: Path, change: dict[str, int], word: str) -> None:
    with pytest.raises(ModelError, match=word):
        fast_tokenizer(write_model(tmp_path / "tokenizer.model", **change))


def test_user_defined_pieces_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tokenizer.model", extra=_piece("<mine>", 0.0, 4))
    with pytest.raises(ModelError, match="user-defined"):
        fast_tokenizer(path)


@pytest.mark.parametrize("data", [b"", b"\x0a\xff\xff", b"not a model at all", b"\x08\x01"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not a sentencepiece model"):
        read_pieces(path)
