"""Token forms of the golden SNAC clips: written as the reference writes them, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tests.goldens.discovery import golden_folders, label

from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.tokens.layouts import build_layout
from vivavoce.tokens.readers import drop_repeated_frames, read_codes, to_separated
from vivavoce.tokens.row_forms import to_rows
from vivavoce.tokens.vocabulary import AudioVocabulary, plan_vocabulary

LLAMA3 = 128_256
ORPHEUS = ("orpheus_ids", "orpheus_custom_token_numbers", "orpheus_audio_span", "orpheus_ids_dedup")
FORMS = {
    "depth_first_frames": "frames",
    "laion_hash_list": "hash_list",
    "separator_4097_list": "separator_4097",
    "mini_omni_rows_local": "mini_omni_rows",
    "mini_omni_rows_shifted": "mini_omni_rows",
    "orpheus_ids": "orpheus_ids",
    "orpheus_audio_span": "orpheus_ids",
}


class Clip(NamedTuple):
    """A golden clip: its fields, its codes and the codec they came from."""

    fields: dict[str, Any]
    codes: Codes
    spec: CodecSpec


def read_clip(path: Path) -> Clip:
    fields = json.loads(path.read_text())
    config = json.loads((path.parent / "config.json").read_text())
    strides = tuple(config["vq_strides"])
    hop = 1
    for rate in config["encoder_rates"]:
        hop *= rate
    spec = CodecSpec(
        path.parent.name,
        config["sampling_rate"],
        hop * max(strides),
        strides,
        config["codebook_size"],
        0,
        False,
    )
    levels = [torch.tensor(level)[None] for level in fields["codes"]]
    return Clip(fields, Codes(levels, [fields["samples"]]), spec)


def is_clip(path: Path) -> bool:
    fields = json.loads(path.read_text())
    return isinstance(fields, dict) and "codes" in fields and "samples" in fields


CLIPS = [
    pytest.param(path, id=f"{label(folder)}-{path.parent.name}-{path.stem}")
    for folder in golden_folders("snac")
    for path in sorted(folder.glob("*/*.json"))
    if is_clip(path)
]


def wide(clip: Clip) -> CodecSpec:
    """The codec with 4096 codewords per level: published forms give every slot 4096 ids, whatever is used."""
    spec = clip.spec
    return CodecSpec(spec.name, spec.sample_rate, spec.frame_samples, spec.strides, 4096, 0, False)


def orpheus_spec(clip: Clip) -> CodecSpec:
    """The codec as its Orpheus ids were made: slots of 4096 ids, or of the codebook's size."""
    ids = clip.fields.get("orpheus_ids") or [0]
    narrow = build_layout("orpheus", clip.spec).num_ids
    fits = plan(clip.spec).code_ids
    frames = build_layout("interleaved", clip.spec).frames(clip.codes)  # type: ignore[attr-defined]
    last = LLAMA3 + 10 + narrow - clip.spec.codebook_size + int(frames[0, -1])
    period = clip.spec.codes_per_frame
    return clip.spec if max(ids) in fits and ids[period - 1 : period] == [last] else wide(clip)


def plan(spec: CodecSpec) -> AudioVocabulary:
    return plan_vocabulary("orpheus", spec, num_text_tokens=LLAMA3)


def write(clip: Clip, field: str) -> Any:
    """What our writers make of the clip's codes in the form of ``field``."""
    if field in ORPHEUS:
        spec = orpheus_spec(clip)
        vocabulary = plan(spec)
        codes = drop_repeated_frames(clip.codes, spec)[0] if field == "orpheus_ids_dedup" else clip.codes
        span = vocabulary.to_ids(codes)
        if field == "orpheus_custom_token_numbers":
            text = vocabulary.to_text(codes)
            return [int(digits) for digits in vocabulary.style.pattern().findall(text)][1:-1]
        return [*span, vocabulary.roles["end_of_ai"]] if field == "orpheus_audio_span" else span[1:-1]
    if field.startswith("mini_omni_rows"):
        return to_rows(clip.codes, wide(clip), shifted=field.endswith("shifted"))
    if field == "depth_first_frames":
        return build_layout("interleaved", clip.spec).frames(clip.codes).tolist()  # type: ignore[attr-defined]
    return to_separated(clip.codes, wide(clip), FORMS[field])


@pytest.mark.parametrize("field", list(dict.fromkeys([*FORMS, *ORPHEUS])))
@pytest.mark.parametrize("path", CLIPS)
def test_forms_are_written_as_the_reference_writes_them(path: Path, field: str) -> None:
    clip = read_clip(path)
    if field not in clip.fields:
        pytest.skip(f"{path.name} has no {field}")
    assert write(clip, field) == clip.fields[field]


@pytest.mark.parametrize("field", FORMS)
@pytest.mark.parametrize("path", CLIPS)
def test_forms_are_read_back(path: Path, field: str) -> None:
    clip = read_clip(path)
    if field not in clip.fields:
        pytest.skip(f"{path.name} has no {field}")
    spec = orpheus_spec(clip) if field in ORPHEUS else wide(clip)
    reading = read_codes(clip.fields[field], spec)
    assert reading.form == FORMS[field]
    for ours, theirs in zip(reading.codes.levels, clip.codes.levels, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("path", CLIPS)
def test_layouts_are_exact(path: Path) -> None:
    clip = read_clip(path)
    for name in ("orpheus", "interleaved"):
        layout = build_layout(name, clip.spec)
        back = layout.unflatten(layout.flatten(clip.codes), clip.spec.frame_samples)
        for ours, theirs in zip(back.levels, clip.codes.levels, strict=True):
            assert torch.equal(ours, theirs)
