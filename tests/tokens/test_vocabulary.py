"""Extending tokenizers and models, finding the audio tokens of extended ones, and the naming trap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from tests.tokens.code_strategies import codes_of, same
from tests.tokens.conftest import (
    ENCODEC,
    SNAC24,
    SNAC32,
    llama_model,
    llama_tokenizer,
    metaspace_tokenizer,
    spec,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vivavoce.base.errors import ConfigError, LayoutError, ModelError, VocabularyError
from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.tokens.naming import STYLES, NameStyle
from vivavoce.tokens.vocabulary import (
    AudioVocabulary,
    detect_vocabulary,
    extend_vocabulary,
    plan_vocabulary,
)

TOY = spec((4, 2, 1), 8)
JAN = plan_vocabulary("interleaved", ENCODEC, num_text_tokens=128_256)
CLIP = Codes([torch.tensor([[0, 7]]), torch.tensor([[1, 0, 2, 7]]), torch.arange(8)[None]], [800])


def sound_tokenizer(count: int, width: int, *, skip: int | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer extended the Jan-Llama3 way: start and end special, then the numbered tokens."""
    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|sound_start|>", "<|sound_end|>"]})
    tokenizer.add_tokens([f"<|sound_{n:0{width}d}|>" for n in range(count) if n != skip])
    return tokenizer


@given(codes=codes_of((1, 1), 1024, frame_samples=320))
def test_ids_and_text_are_inverted(codes: Codes) -> None:
    ids, text = JAN.to_ids(codes), JAN.to_text(codes)
    assert len(ids) == 2 + 2 * codes.levels[0].shape[1]
    for back in (JAN.from_ids(ids), JAN.from_ids(ids[1:-1]), JAN.from_text(text)):
        assert same(back, codes) and back.num_samples == codes.num_samples


def test_the_card_s_string() -> None:
    codes = Codes([torch.tensor([[7, 0]]), torch.tensor([[1023, 3]])], [640])
    assert JAN.to_text(codes) == (
        "<|sound_start|><|sound_7|><|sound_1023|><|sound_0|><|sound_3|><|sound_end|>"
    )
    assert JAN.to_ids(codes) == [128_256, 128_265, 129_281, 128_258, 128_261, 128_257]
    padded = plan_vocabulary("interleaved", ENCODEC, style="sound_padded")
    assert padded.to_text(codes).startswith("<|sound_start|><|sound_0007|><|sound_1023|>")


@pytest.mark.parametrize(
    ("ids", "position", "match"),
    [
        ([128_256, 128_258, 5, 128_257], 2, "text where audio belongs"),
        ([128_256, 128_258, 128_257], 2, "ends inside coarse frame"),
        ([128_258, 128_258, 128_257, 9], 3, "follows the end"),
        ([128_256, 128_256], 1, "no audio code"),
    ],
)
def test_bad_ids_are_named(ids: list[int], position: int, match: str) -> None:
    with pytest.raises(LayoutError, match=match) as caught:
        JAN.from_ids(ids)
    assert caught.value.position == position


def test_a_cut_last_frame_can_be_dropped() -> None:
    ids = JAN.to_ids(Codes([torch.tensor([[7, 0]]), torch.tensor([[1, 3]])], [640]))
    assert JAN.from_ids(ids[:-2], drop_partial=True).levels[0].tolist() == [[7]]


@pytest.mark.parametrize("bad", ["hello", "<|sound_start|> hello", "<|sound_1|><|sound_2|><|sound_x|>"])
def test_text_where_audio_belongs_is_refused(bad: str) -> None:
    with pytest.raises(LayoutError, match="text where audio belongs"):
        JAN.from_text(bad)


def test_text_in_another_width_is_refused_or_read_when_told() -> None:
    with pytest.raises(VocabularyError, match=r"'<\|sound_0007\|>' is spelled '<\|sound_7\|>'"):
        JAN.from_text("<|sound_start|><|sound_0007|><|sound_1|><|sound_end|>")
    read = JAN.from_text("<|sound_0007|> <|sound_0001|>\n", any_width=True)
    assert [level.tolist() for level in read.levels] == [[[7]], [[1]]]


@pytest.mark.parametrize("layout", ["interleaved", "orpheus"])
@pytest.mark.parametrize("style", [None, *STYLES])
@pytest.mark.parametrize("make", [llama_tokenizer, metaspace_tokenizer])
def test_extended_tokenizers_keep_audio_whole(
    layout: str, style: str | None, make: object, tmp_path: Path
) -> None:
    tokenizer = make()  # type: ignore[operator]
    had = len(tokenizer)
    vocabulary = extend_vocabulary(tokenizer, codec_spec=TOY, layout=layout, style=style)
    text, ids = vocabulary.to_text(CLIP), vocabulary.to_ids(CLIP)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids and len(ids) == 2 + 14
    assert min(ids) >= had and vocabulary.num_tokens == len(tokenizer)
    shown = tokenizer.decode(ids, skip_special_tokens=True, spaces_between_special_tokens=False)
    assert vocabulary.start_token not in shown and vocabulary.code_token(0) in shown
    assert detect_vocabulary(tokenizer, TOY) == vocabulary
    tokenizer.save_pretrained(tmp_path)
    assert detect_vocabulary(AutoTokenizer.from_pretrained(tmp_path), TOY) == vocabulary


def test_orpheus_ids_follow_the_tokenizer_s_length() -> None:
    tokenizer = llama_tokenizer()
    had = len(tokenizer)
    vocabulary = extend_vocabulary(tokenizer, codec_spec=TOY, layout="orpheus")
    assert (vocabulary.start_id, vocabulary.end_id, vocabulary.first_code_id) == (had + 1, had + 2, had + 10)
    assert list(vocabulary.roles.values()) == [had + n for n in (3, 4, 5, 6, 7)]
    assert tokenizer.convert_tokens_to_ids("<custom_token_10>") == had + 10
    # 7 * 4096 + 10 + 1 tokens, as in the published tokenizer
    published = plan_vocabulary("orpheus", SNAC24, num_text_tokens=128_256)
    assert published.num_tokens - 128_256 == 28_683
    assert plan_vocabulary("orpheus", SNAC32).num_codes == 61_440


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("init", ["mean", "normal", "copy"])
def test_new_rows(tied: bool, init: str) -> None:
    tokenizer = llama_tokenizer()
    had = len(tokenizer)
    model, twin = (llama_model(had + 3, tied=tied) for _ in range(2))
    before = [model.get_input_embeddings().weight.detach().clone(), model.lm_head.weight.detach().clone()]
    options = {"codec_spec": TOY, "init": init, "seed": 5, "pad_to_multiple_of": 64}
    vocabulary = extend_vocabulary(tokenizer, model, **options)  # type: ignore[arg-type]
    rows = vocabulary.num_rows
    assert rows % 64 == 0 and rows >= len(tokenizer) == vocabulary.num_tokens
    assert (
        rows == model.config.vocab_size == len(model.lm_head.weight) == len(model.model.embed_tokens.weight)
    )
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert vocabulary.initialisation == {
        "method": init,
        "seed": 5,
        "tied": tied,
        "rows": [had, len(tokenizer), rows],
    }
    for old, now in zip(before, (model.model.embed_tokens.weight, model.lm_head.weight), strict=True):
        assert torch.equal(now[:had], old[:had])
        new = now[had:].detach()
        if init == "mean":
            assert (new - old[:had].mean(0)).abs().max() < 0.1 * old[:had].std()
            assert len(new.unique(dim=0)) == len(new)
        if init == "copy":
            assert all((old[:had] == row).all(1).any() for row in new)
        if init == "normal":
            assert 0.018 < float(new.std()) < 0.022 and abs(float(new.mean())) < 0.002
    extend_vocabulary(llama_tokenizer(), twin, **options)  # type: ignore[arg-type]
    assert torch.equal(twin.lm_head.weight, model.lm_head.weight)
    assert model(torch.tensor([[1, vocabulary.first_code_id, rows - 1]])).logits.isfinite().all()


def test_rows_are_never_removed_and_spare_ones_are_filled() -> None:
    tokenizer = llama_tokenizer()
    had = len(tokenizer)
    model = llama_model(had + 500)
    spare = model.model.embed_tokens.weight[had : had + 500].detach().clone()
    vocabulary = extend_vocabulary(tokenizer, model, codec_spec=TOY)
    now = model.model.embed_tokens.weight
    added = len(tokenizer) - had
    assert vocabulary.num_rows == len(now) == had + 500
    assert not (now[had : had + added] == spare[:added]).all(1).any()
    assert torch.equal(now[had + added :], spare[added:])


def test_other_weights_for_another_seed_and_a_bias() -> None:
    heads = []
    for seed in (0, 1):
        tokenizer = llama_tokenizer()
        model = llama_model(len(tokenizer), bias=True)
        extend_vocabulary(tokenizer, model, codec_spec=TOY, seed=seed)
        heads.append(model.lm_head)
    assert not torch.equal(heads[0].weight, heads[1].weight)
    had = len(llama_tokenizer())
    assert torch.allclose(heads[0].bias[had:], heads[0].bias[:had].mean())


def test_what_cannot_be_extended_is_refused_before_anything_changes() -> None:
    tokenizer = llama_tokenizer()
    had = len(tokenizer)
    with pytest.raises(ModelError, match=f"has {had - 1} embedding rows"):
        extend_vocabulary(tokenizer, llama_model(had - 1), codec_spec=TOY)
    for wrong in ({"init": "zeros"}, {"style": "snd"}, {"layout": "x"}, {"pad_to_multiple_of": 0}):
        with pytest.raises(ConfigError):
            extend_vocabulary(tokenizer, llama_model(had), codec_spec=TOY, **wrong)  # type: ignore[arg-type]
    assert len(tokenizer) == had
    extend_vocabulary(tokenizer, codec_spec=TOY)
    with pytest.raises(VocabularyError, match="already has"):
        extend_vocabulary(tokenizer, codec_spec=TOY)


@pytest.mark.parametrize("width", [0, 4])
def test_jan_llama3_tokenizers_are_recognised(width: int) -> None:
    tokenizer = sound_tokenizer(1024, width)
    vocabulary = detect_vocabulary(tokenizer)
    assert (vocabulary.layout, vocabulary.codec, vocabulary.codes_per_level) == (
        "interleaved",
        "encodec_24khz",
        (1, 1),
    )
    assert vocabulary.style.width == width
    assert vocabulary.code_token(7) == ("<|sound_0007|>" if width else "<|sound_7|>")
    text = vocabulary.to_text(Codes([torch.tensor([[0, 1023]]), torch.tensor([[9, 0]])], [640]))
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 2 + 2 * 2
    vocabulary.check_text(tokenizer, text)


def test_the_naming_trap() -> None:
    """The other spelling does not fail in the tokenizer, so it must fail here."""
    tokenizer = sound_tokenizer(1024, 4)
    unpadded = "<|sound_start|><|sound_7|><|sound_8|><|sound_end|>"
    assert len(tokenizer(unpadded, add_special_tokens=False)["input_ids"]) > 4
    with pytest.raises(VocabularyError, match="audio text of 4 tokens becomes"):
        detect_vocabulary(tokenizer).check_text(tokenizer, unpadded)
    with pytest.raises(VocabularyError, match=r"such as '<\|sound_0007\|>', style 'sound' was demanded"):
        detect_vocabulary(tokenizer, style="sound")
    wrong = plan_vocabulary("interleaved", ENCODEC, num_text_tokens=len(tokenizer) - 1026)
    with pytest.raises(VocabularyError, match="padded or unpadded"):
        wrong.check_tokenizer(tokenizer)


def test_broken_tokenizers_are_refused() -> None:
    with pytest.raises(VocabularyError, match="no audio tokens"):
        detect_vocabulary(llama_tokenizer())
    with pytest.raises(VocabularyError, match=r"'<\|sound_5\|>' is missing"):
        detect_vocabulary(sound_tokenizer(1024, 0, skip=5))
    mixed = sound_tokenizer(1024, 0)
    mixed.add_tokens(["<|sound_0003|>"])
    with pytest.raises(VocabularyError, match="not padded like the others"):
        detect_vocabulary(mixed)
    bare = llama_tokenizer()
    bare.add_tokens([f"<|sound_{n}|>" for n in range(1024)])
    with pytest.raises(VocabularyError, match=r"no '<\|sound_start\|>'"):
        detect_vocabulary(bare)
    with pytest.raises(VocabularyError, match="100 code tokens"):
        detect_vocabulary(sound_tokenizer(100, 0))
    scattered = llama_tokenizer()
    scattered.add_tokens(["<|sound_start|>", "<|sound_end|>", "<|sound_1|>", "<|sound_0|>"])
    with pytest.raises(VocabularyError, match="consecutive ids"):
        detect_vocabulary(scattered, spec((1, 1), 2))
    both = sound_tokenizer(1024, 0)
    extend_vocabulary(both, codec_spec=TOY)
    with pytest.raises(VocabularyError, match="several styles"):
        detect_vocabulary(both)
    assert detect_vocabulary(both, style="sound").num_codes == 1024
    assert detect_vocabulary(both, TOY, style="orpheus").layout == "orpheus"


def test_a_codec_decides_what_a_count_does_not() -> None:
    tokenizer = sound_tokenizer(100, 0)
    assert detect_vocabulary(tokenizer, spec((1, 1), 100)).codes_per_level == (1, 1)
    assert detect_vocabulary(tokenizer, spec((1, 1), 50)).layout == "orpheus"
    with pytest.raises(VocabularyError, match="needs 200"):
        detect_vocabulary(tokenizer, spec((1, 1), 200))
    assert detect_vocabulary(sound_tokenizer(513, 4)).codes_per_level == (1,)


def test_the_record_is_saved_and_found_beside_the_tokenizer(tmp_path: Path) -> None:
    tokenizer, codec = llama_tokenizer(), CodecSpec("toy", 24_000, 400, (4, 2, 1), 8, 0, False, weights="abc")
    own = NameStyle("<au", ">", 2, 0, "<au>", "</au>")
    model = llama_model(len(tokenizer))
    vocabulary = extend_vocabulary(tokenizer, model, codec_spec=codec, style=own)
    tokenizer.save_pretrained(tmp_path)
    path = vocabulary.save(tmp_path)
    assert AudioVocabulary.load(tmp_path) == vocabulary
    assert json.loads(path.read_text())["start_token"] == "<au>"
    found = detect_vocabulary(AutoTokenizer.from_pretrained(tmp_path))
    assert found == vocabulary and found.initialisation["method"] == "mean"
    other = CodecSpec("toy", 24_000, 400, (4, 2, 1), 8, 0, False, weights="xyz")
    with pytest.raises(VocabularyError, match="codec weights abc"):
        found.check_codec(other)
    with pytest.raises(VocabularyError, match="codes per level"):
        found.check_codec(ENCODEC)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"layout": "orpheus", "color": 3}'])
def test_a_spoilt_record_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"has no audio_vocabulary\.json"):
        AudioVocabulary.load(tmp_path)
    (tmp_path / "audio_vocabulary.json").write_text(content)
    with pytest.raises(VocabularyError):
        AudioVocabulary.load(tmp_path)


def test_a_style_says_where_its_start_and_end_are() -> None:
    for wrong in ({}, {"start": "<a>"}, {"start": "<a>", "end": "</a>", "roles": {"start": 1, "end": 2}}):
        with pytest.raises(ConfigError, match="both start and end"):
            NameStyle("<", ">", **wrong)  # type: ignore[arg-type]
    for style in STYLES.values():
        names = [name for name, _ in style.tokens(5)]
        assert len(names) == style.num_tokens(5)
        assert names[style.place(style.first_number)] == style.numbered(style.first_number)
        assert [names[style.role_place(role)] for role in ("start", "end")] == [
            style.role_token(role) for role in ("start", "end")
        ]
