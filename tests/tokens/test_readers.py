"""Readers of published forms: what each writer makes is read back exactly, and damage is named or counted."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tokens.code_strategies import codes_of, same
from tests.tokens.conftest import ENCODEC, SNAC24, SNAC32

from vivavoce.base.errors import ConfigError, LayoutError
from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.tokens.layouts import Interleaved, build_layout
from vivavoce.tokens.readers import FORMS, SEPARATORS, drop_repeated_frames, read_codes, to_separated
from vivavoce.tokens.row_forms import END, PAD, from_rows, to_rows
from vivavoce.tokens.vocabulary import AudioVocabulary, plan_vocabulary

LLAMA3 = 128_256
specs = st.sampled_from([SNAC24, SNAC32])


def clip(spec: CodecSpec, frames: int = 3) -> Codes:
    draw = torch.Generator().manual_seed(frames)
    levels = [torch.randint(4096, (1, frames * n), generator=draw) for n in spec.codes_per_level]
    for level in levels:
        level[0, 0] = level[0, -1] = 0
    return Codes(levels, [frames * spec.frame_samples])


@lru_cache
def llama3_plan(spec: CodecSpec) -> AudioVocabulary:
    return plan_vocabulary("orpheus", spec, num_text_tokens=LLAMA3)


def written(codes: Codes, spec: CodecSpec, form: str) -> object:
    """One clip in ``form``."""
    plan = llama3_plan(spec)
    layout = Interleaved(spec.codes_per_level, spec.codebook_size)
    if form in SEPARATORS:
        return to_separated(codes, spec, form)
    return {
        "orpheus_ids": lambda: plan.to_ids(codes),
        "custom_tokens": lambda: plan.to_text(codes),
        "mini_omni_rows": lambda: to_rows(codes, spec),
        "frames": lambda: layout.frames(codes).tolist(),
        "levels": lambda: [level[0].tolist() for level in codes.levels],
        "flat": lambda: layout.flatten(codes),
    }[form]()


@pytest.mark.parametrize("form", FORMS)
@given(spec=specs, data=st.data())
def test_every_form_is_read_back(form: str, spec: CodecSpec, data: st.DataObject) -> None:
    codes = data.draw(codes_of(spec.codes_per_level, 4096, frame_samples=spec.frame_samples, min_frames=1))
    reading = read_codes(written(codes, spec, form), spec, form=form)
    assert same(reading.codes, codes) and reading.codes.num_samples == codes.num_samples
    assert (reading.form, reading.dropped_frames, reading.dropped_tokens) == (form, 0, 0)


@pytest.mark.parametrize("form", [f for f in FORMS if f not in ("separator_50258", "flat")])
@pytest.mark.parametrize("spec", [SNAC24, SNAC32], ids=lambda s: s.name)
def test_forms_are_told_apart(form: str, spec: CodecSpec) -> None:
    codes = clip(spec)
    source = written(codes, spec, form)
    readings = [read_codes(source, spec)]
    if form != "custom_tokens":
        readings.append(read_codes(json.dumps(source), spec))
    if form == "hash_list":
        glued = " ".join("#" + ",".join(map(str, frame)) for frame in frames_of(codes, spec))
        spaced = " ".join(map(str, to_separated(codes, spec, form)))
        readings += [read_codes(glued, spec), read_codes(spaced, spec)]
    if form == "separator_4097":
        readings.append(read_codes([source], spec))  # a batch of one
        readings.append(read_codes(torch.tensor(source), spec))
    assert [reading.form for reading in readings] == [form] * len(readings)
    assert all(same(reading.codes, codes) for reading in readings)


def frames_of(codes: Codes, spec: CodecSpec) -> list[list[int]]:
    frames: list[list[int]] = build_layout("interleaved", spec).frames(codes).tolist()
    return frames


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ([50_258, 1, 2, 3, 4, 5, 6, 7], "form='separator_50258'"),
        ([1, 2, 3, 4, 5, 6, 7], "form='flat'"),
        ([], "no form"),
        ("hello there", "no audio form"),
        ("[1, 2", "is not JSON"),
        ([[1, 2], [3]], "none of the forms"),
        (7, "cannot read codes from int"),
    ],
)
def test_what_cannot_be_told_is_refused(source: object, match: str) -> None:
    with pytest.raises(LayoutError, match=match):
        read_codes(source, SNAC24)


def test_two_by_two_lists_are_ambiguous() -> None:
    with pytest.raises(LayoutError, match="frames or levels"):
        read_codes([[1, 2], [3, 4]], ENCODEC)
    assert read_codes([[1, 2], [3, 4]], ENCODEC, form="levels").codes.levels[1].tolist() == [[3, 4]]
    with pytest.raises(ConfigError, match="unknown form"):
        read_codes([1], ENCODEC, form="semicolons")


@pytest.mark.parametrize("form", ["hash_list", "separator_4097"])
@given(data=st.data())
def test_damage_in_a_separated_list_is_named_and_counted(form: str, data: st.DataObject) -> None:
    codes = clip(SNAC24, 3)
    items = to_separated(codes, SNAC24, form)
    at = data.draw(st.integers(0, len(items) - 1))
    kind = data.draw(st.sampled_from(["lost", "text"]))
    broken = items[:at] + (["the"] if kind == "text" else []) + items[at + 1 :]
    with pytest.raises(LayoutError) as caught:
        read_codes(broken, SNAC24, form=form)
    position = caught.value.position
    # a lost code is seen where its frame is too short, a lost separator where the frame before is too long
    assert position is not None and at <= position <= 8 * (at // 8 + 1)
    saved = read_codes(broken, SNAC24, form=form, resync=True)
    kept = saved.codes.levels[0].shape[1]
    frames = frames_of(codes, SNAC24)
    assert 1 <= kept <= 2 and saved.dropped_frames >= 1
    assert saved.dropped_tokens + 8 * kept == len(broken)
    assert all(frame in frames for frame in frames_of(saved.codes, SNAC24))


def test_orpheus_sequences_with_text_around() -> None:
    codes = clip(SNAC24)
    plan = llama3_plan(SNAC24)
    ids = plan.to_ids(codes)
    assert (plan.start_id, plan.end_id, plan.first_code_id) == (128_257, 128_258, 128_266)
    prompt = [plan.roles["start_of_human"], 128_000, 1, 2, 128_009, plan.roles["end_of_human"]]
    whole = [*prompt, plan.roles["start_of_ai"], *ids, plan.roles["end_of_ai"]]
    assert same(read_codes(whole, SNAC24).codes, codes)
    assert same(read_codes(ids[1:-1], SNAC24).codes, codes)
    with pytest.raises(LayoutError, match="second start of audio") as caught:
        read_codes([*ids, *ids], SNAC24)
    assert caught.value.position == len(ids)
    lost = whole[: len(prompt) + 12] + whole[len(prompt) + 13 :]
    with pytest.raises(LayoutError) as caught:
        read_codes(lost, SNAC24)
    assert caught.value.position == len(prompt) + 12
    saved = read_codes(lost, SNAC24, resync=True)
    assert (saved.dropped_frames, saved.dropped_tokens) == (1, 6)
    text = plan.to_text(codes).replace("<custom_token_10>", "", 1)
    with pytest.raises(LayoutError):
        read_codes(text, SNAC24)
    assert read_codes(text, SNAC24, resync=True).dropped_frames == 1


def test_other_tokenizers_have_their_codes_elsewhere() -> None:
    codes = clip(SNAC24)
    ids = plan_vocabulary("orpheus", SNAC24, num_text_tokens=49_152).to_ids(codes)
    assert same(read_codes(ids, SNAC24, first_code_id=49_162).codes, codes)


@given(spec=specs, shifted=st.booleans(), data=st.data())
def test_rows_are_inverted(spec: CodecSpec, shifted: bool, data: st.DataObject) -> None:
    codes = data.draw(codes_of(spec.codes_per_level, 4096, min_frames=1))
    rows = to_rows(codes, spec, shifted=shifted)
    frames, period = codes.levels[0].shape[1], spec.codes_per_frame
    assert {len(row) for row in rows} == {frames + period + 1} and len(rows) == period
    assert same(from_rows(rows, spec)[0], codes)
    assert same(from_rows([*rows, [3] * len(rows[0])], spec)[0], codes)  # with a row of text


def test_damaged_rows_are_named() -> None:
    codes = clip(SNAC24)
    rows = to_rows(codes, SNAC24)
    with pytest.raises(LayoutError, match="3 rows"):
        from_rows(rows[:3], SNAC24)
    with pytest.raises(LayoutError, match="row 2 begins with") as caught:
        from_rows([*rows[:2], rows[2][1:], *rows[3:]], SNAC24)
    assert caught.value.position == 2
    cut = [value for value in rows[6] if value != END][:9]
    short = [*rows[:6], [*cut, PAD]]
    with pytest.raises(LayoutError, match="row 6 has 2 codes") as caught:
        from_rows(short, SNAC24)
    saved = read_codes(short, SNAC24, form="mini_omni_rows", resync=True)
    assert saved.codes.levels[0].shape == (1, 2) and saved.dropped_frames == 1
    assert frames_of(saved.codes, SNAC24) == frames_of(codes, SNAC24)[:2]
    odd = [[*rows[0][:2], 4099, *rows[0][3:]], *rows[1:]]
    with pytest.raises(LayoutError, match="4099 in row 0, column 2"):
        from_rows(odd, SNAC24)
    late = [[*rows[0][:-1], 5], *rows[1:]]
    with pytest.raises(LayoutError, match="follows the end"):
        from_rows(late, SNAC24)


@given(codes=codes_of((1, 2, 4), 2, max_frames=8))
def test_dropping_repeated_frames(codes: Codes) -> None:
    spec = CodecSpec("toy", 24_000, 4, (4, 2, 1), 2, 0, False)
    shorter, dropped = drop_repeated_frames(codes, spec)
    coarse = codes.levels[0][0].tolist()
    expected = [c for i, c in enumerate(coarse) if i == 0 or c != coarse[i - 1]]
    assert shorter.levels[0][0].tolist() == expected and dropped == len(coarse) - len(expected)
    assert shorter.num_samples == [4 * len(expected)]
    assert [f[0] for f in frames_of(shorter, spec)] == expected
