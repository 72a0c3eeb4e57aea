"""Codes written down and read back: exact, and every damage named by its position."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.base.errors import CodecError, ConfigError, LayoutError, VivavoceError
from vivavoce.cli.token_forms import Form, detect_form, plan_tokens, read_tokens, set_length, write_tokens
from vivavoce.codecs.contract import CodecSpec, Codes

ENCODEC = CodecSpec("encodec_24khz", 24_000, 320, (1, 1), 1024, 0, True)
SNAC = CodecSpec("snac_24khz", 24_000, 2048, (4, 2, 1), 4096, 0, False)


def some_codes(spec, frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.randint(0, spec.codebook_size, (1, frames * n), generator=generator)
        for n in spec.codes_per_level
    ]
    return Codes(levels, [frames * spec.frame_samples])


@given(
    spec=st.sampled_from([ENCODEC, SNAC]),
    layout=st.sampled_from(["interleaved", "orpheus"]),
    form=st.sampled_from(list(Form)),
    bare=st.booleans(),
    base=st.sampled_from([None, 0, 10, 5000]),
    frames=st.integers(1, 9),
    seed=st.integers(0, 100),
)
def test_what_is_written_is_read_back(spec, layout, form, bare, base, frames, seed):
    codes, tokens = some_codes(spec, frames, seed), plan_tokens(layout, spec, base)
    if form is Form.ids and base == 0 and not bare:
        with pytest.raises(ConfigError, match="--bare"):
            write_tokens(codes, tokens, form, bare)
        return
    data = write_tokens(codes, tokens, form, bare)
    assert detect_form(data, "file") is form
    back = read_tokens(data, "file", tokens)
    assert back.num_samples == codes.num_samples
    assert all(torch.equal(a, b) for a, b in zip(back.levels, codes.levels, strict=True))


def test_published_ids_and_names():
    ones = Codes([torch.tensor([[1]]), torch.tensor([[2, 3]]), torch.tensor([[4, 5, 6, 7]])], [2048])
    orpheus = plan_tokens("orpheus", SNAC)
    # slots A B C C B C C, 4096 ids each, from 128266; text form counts from <custom_token_10>
    plain = [1, 2, 4, 5, 3, 6, 7]
    ids = [128266 + 4096 * slot + code for slot, code in enumerate(plain)]
    assert write_tokens(ones, orpheus, Form.ids).decode() == f"128257 {' '.join(map(str, ids))} 128258\n"
    names = "".join(f"<custom_token_{n - 128256}>" for n in [128257, *ids, 128258])
    assert write_tokens(ones, orpheus, Form.text).decode() == names + "\n"
    pair = Codes([torch.tensor([[0]]), torch.tensor([[1023]])], [320])
    sound = plan_tokens("interleaved", ENCODEC)
    assert write_tokens(pair, sound, Form.ids) == b"128256 128258 129281 128257\n"
    text = b"<|sound_start|><|sound_0|><|sound_1023|><|sound_end|>\n"
    assert write_tokens(pair, sound, Form.text) == text
    padded = plan_tokens("interleaved", ENCODEC, style="sound_padded")
    assert b"<|sound_0000|>" in write_tokens(pair, padded, Form.text)
    assert write_tokens(pair, plan_tokens("interleaved", ENCODEC, 0), Form.ids, bare=True) == b"0 1023\n"
    array = np.load(io.BytesIO(write_tokens(ones, orpheus, Form.npy)))
    assert array.dtype == np.int32
    assert array.tolist() == [plain]


def npy(values, dtype=np.int32):
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, dtype=dtype), allow_pickle=dtype is object)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "error", "position", "words"),
    [
        (b"", LayoutError, None, "empty"),
        (b"\xff\xfe\x00RIFF", LayoutError, None, "neither text nor"),
        (b"hello there", LayoutError, 0, "text where audio belongs"),
        (b"<|sound_start|><|sound_end|>", LayoutError, None, "no audio codes"),
        (b"<|sound_start|><|sound_7|><|sound_end|>", LayoutError, 2, "ends inside coarse frame 0"),
        (b"<|sound_7|><|sound_1024|>", LayoutError, 1, "token 129282 at position 1"),
        (b"<|sound_7|><|sound_8|><|sound_9|>", LayoutError, 3, "cut off"),
        (b"<|sound_7|><|sound_8|> and more", LayoutError, 2, "text where audio belongs"),
        (b"128258 128259 7 128260", LayoutError, 2, "token 7 at position 2"),
        (b"128258 -4", LayoutError, 1, "'-4' at position 1"),
        (b"128258 99999999999999999999", LayoutError, 1, "position 1"),
        (npy([[1, 2, 3]]), CodecError, None, "[T, 2]"),
        (npy([1, 2]), CodecError, None, "[T, 2]"),
        (npy([[1, 2000]]), LayoutError, 1, "2000"),
        (npy([[0.5, 1.5]], np.float32), CodecError, None, "float32"),
        (npy([[1, 2]])[:-3], LayoutError, None, ".npy"),
        (npy([[1, None]], object), LayoutError, None, "allow_pickle"),
        (npy(np.zeros((0, 2))), LayoutError, None, "no audio codes"),
    ],
)
def test_damage_is_named(data, error, position, words):
    with pytest.raises(VivavoceError) as caught:
        read_tokens(data, "file.txt", plan_tokens("interleaved", ENCODEC))
    assert type(caught.value) is error
    assert "file.txt" in str(caught.value)
    assert words in str(caught.value)
    assert getattr(caught.value, "position", None) == position


def test_tokens_of_another_slot_are_named():
    tokens = plan_tokens("orpheus", SNAC)
    ids = write_tokens(some_codes(SNAC, 2), tokens, Form.ids).decode().split()
    lost = " ".join(ids[:3] + ids[4:]).encode()
    with pytest.raises(LayoutError, match="at position 2") as caught:
        read_tokens(lost, "file", tokens)
    assert caught.value.position == 3


@pytest.mark.parametrize("num_samples", [640, 961, 0, -1])
def test_a_true_length_that_cannot_be_is_refused(num_samples):
    codes = some_codes(ENCODEC, 3)
    with pytest.raises(CodecError, match="641 to 960"):
        set_length(codes, ENCODEC, num_samples, "file")
    set_length(codes, ENCODEC, 641, "file")
    assert codes.num_samples == [641]
