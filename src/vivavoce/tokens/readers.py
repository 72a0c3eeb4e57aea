"""Readers for the forms in which codes of coarse-to-fine codecs (SNAC) are found in published data.

| form              | one clip is                                                                        |
|-------------------|------------------------------------------------------------------------------------|
| `hash_list`       | `["#", 7 codes, "#", ...]`, as a list, as JSON, or as text (LAION)                 |
| `separator_4097`  | `[4097, 7 codes, 4097, ...]` (the `SpeechTokenizer` scripts around SNAC)           |
| `separator_50258` | the same with a GPT-2 spacer id; collides with text ids, so only when asked for    |
| `orpheus_ids`     | absolute token ids, 128266 + 4096 * slot + code, with or without start and end     |
| `custom_tokens`   | the same as text, `<custom_token_1211>...`                                         |
| `mini_omni_rows`  | 7 delayed rows (see `row_forms.py`)                                                |
| `frames`          | `[[7 codes], [7 codes], ...]`                                                      |
| `levels`          | `[[T codes], [2 T codes], [4 T codes]]`                                            |
| `flat`            | 7 codes after 7 codes without any mark; only when asked for                        |

Seven stands for the codes per coarse frame of the codec, fifteen for four levels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from vivavoce.base.errors import ConfigError, LayoutError
from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.tokens.layouts import Interleaved, Orpheus, integers
from vivavoce.tokens.record import AudioVocabulary
from vivavoce.tokens.row_forms import PAD, from_rows
from vivavoce.tokens.vocabulary import plan_vocabulary

ORPHEUS_FIRST_CODE_ID = 128_266
SEPARATORS = {"hash_list": "#", "separator_4097": 4097, "separator_50258": 50_258}
FORMS = (*SEPARATORS, "orpheus_ids", "custom_tokens", "mini_omni_rows", "frames", "levels", "flat")


@dataclass(frozen=True)
class Reading:
    """Codes as read, and what was lost.

    Attributes:
        codes: One clip; ``num_samples`` counts whole frames, the true length is not in any of the forms.
        form: One of ``FORMS``.
        dropped_frames: Damaged frames left out; 0 unless ``resync``.
        dropped_tokens: Tokens left out.
    """

    codes: Codes
    form: str
    dropped_frames: int = 0
    dropped_tokens: int = 0


def read_codes(
    source: Any,
    spec: CodecSpec,
    *,
    form: str = "auto",
    resync: bool = False,
    first_code_id: int = ORPHEUS_FIRST_CODE_ID,
) -> Reading:
    """Read one clip in any of the forms above.

    Args:
        source: Text, a list, nested lists, or a tensor or array of them.
        spec: The codec of the codes: its levels, codebook size and frame length.
        form: One of ``FORMS``; "auto" tells it from the contents and refuses when that is not certain.
        resync: Drop damaged frames and count them, instead of refusing.
        first_code_id: Token id of code 0 of slot 0, for ``orpheus_ids``.

    Raises:
        ConfigError: unknown form.
        LayoutError: ``position`` is the first bad item; or the form cannot be told.
    """
    if form not in ("auto", *FORMS):
        raise ConfigError(f"unknown form {form!r}; known: auto, {', '.join(FORMS)}.")
    items = _items(source)
    if form == "auto":
        form = detect_form(items, spec, first_code_id=first_code_id)
    if isinstance(items, list) and len(items) == 1 and isinstance(items[0], list) and form in _FLAT_FORMS:
        items = items[0]  # a batch of one
    layout = Interleaved(spec.codes_per_level, spec.codebook_size)
    if form in SEPARATORS:
        return _read_separated(items, spec, form, resync)
    if form == "mini_omni_rows":
        codes, cut = from_rows(_nested(items, form), spec, cut=resync)
        return Reading(codes, form, max(cut), sum(cut))
    if form == "frames":
        flat = [value for frame in _nested(items, form, layout.period) for value in frame]
        return Reading(layout.unflatten(flat, spec.frame_samples), form)
    if form == "levels":
        return Reading(_from_levels(_nested(items, form), layout, spec), form)
    if form == "flat":
        return Reading(layout.unflatten(items, spec.frame_samples), form)
    return _read_orpheus(items, _orpheus_plan(spec, first_code_id), form, resync)


_FLAT_FORMS = ("hash_list", "separator_4097", "separator_50258", "orpheus_ids", "flat")


def detect_form(source: Any, spec: CodecSpec, *, first_code_id: int = ORPHEUS_FIRST_CODE_ID) -> str:
    """Name the form of ``source``.

    Raises:
        LayoutError: it cannot be told for certain; say it with ``form=...``.
    """
    items = _items(source)
    if isinstance(items, str):
        if "<custom_token_" in items:
            return "custom_tokens"
        raise LayoutError(f"{items[:30]!r} is no audio form in text; wanted '#' lists or '<custom_token_n>'.")
    if isinstance(items, list) and len(items) == 1 and isinstance(items[0], list):
        items = items[0]
    if not items:
        raise LayoutError("an empty list has no form; say which with form=...")
    if any(isinstance(item, list) for item in items):
        return _detect_nested(_nested(items, "auto"), spec)
    if "#" in items:
        return "hash_list"
    values = integers(items)
    period, size = spec.codes_per_frame, spec.codebook_size
    if first_code_id > size and bool(
        ((values >= first_code_id) & (values < first_code_id + period * size)).any()
    ):
        return "orpheus_ids"
    if int(values[0]) == 4097 and size <= 4097:
        return "separator_4097"
    if int(values[0]) == 50_258 and size <= 50_258:
        raise LayoutError(
            "a list that begins with 50258 may be codes after GPT-2's spacer, or text: codes have the same "
            "ids as text there. If it is audio, say form='separator_50258'."
        )
    raise LayoutError(
        f"a plain list beginning with {values[:3].tolist()} does not tell its form; say form='flat' if "
        f"codes follow depth first without marks, or name another: {', '.join(FORMS)}."
    )


def drop_repeated_frames(codes: Codes, spec: CodecSpec) -> tuple[Codes, int]:
    """Drop frames whose coarse code repeats that of the frame before, as Orpheus prepares its data.

    This loses time and cannot be undone: use it only for data that continues an Orpheus checkpoint.

    Returns:
        The shorter codes (``num_samples`` counts their whole frames) and how many frames were dropped.
    """
    layout = Interleaved(spec.codes_per_level, spec.codebook_size)
    frames = layout.frames(codes)
    keep = torch.ones(frames.shape[0], dtype=torch.bool)
    keep[1:] = frames[1:, 0] != frames[:-1, 0]
    return layout.from_frames(frames[keep], spec.frame_samples), int((~keep).sum())


def to_separated(codes: Codes, spec: CodecSpec, form: str) -> list[str | int]:
    """Write one clip as ``hash_list``, ``separator_4097`` or ``separator_50258``.

    Raises:
        ConfigError: another form.
        LayoutError: the codes do not fit ``spec``.
    """
    if form not in SEPARATORS:
        raise ConfigError(f"{form!r} is no separated form; known: {', '.join(SEPARATORS)}.")
    frames = Interleaved(spec.codes_per_level, spec.codebook_size).frames(codes).tolist()
    return [item for frame in frames for item in (SEPARATORS[form], *frame)]


def _items(source: Any) -> Any:
    """Lists instead of tensors and arrays; JSON and '#' text parsed; other text as it is."""
    if hasattr(source, "tolist"):
        source = source.tolist()
    if isinstance(source, tuple):
        source = list(source)
    if not isinstance(source, str):
        if not isinstance(source, Sequence):
            raise LayoutError(f"cannot read codes from {type(source).__name__}; wanted text or lists.")
        return [_items(s) if hasattr(s, "tolist") or isinstance(s, list | tuple) else s for s in source]
    text = source.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise LayoutError(f"text that begins with '[' is not JSON: {error}.") from error
    if "#" in text and "<" not in text:
        return [item for item in re.split(r"[\s,]+", text.replace("#", " # ")) if item]
    return text


def _nested(items: Any, form: str, width: int | None = None) -> list[list[int]]:
    if not isinstance(items, list):
        raise LayoutError(f"form {form!r} wants a list of lists, got {type(items).__name__}.")
    for i, row in enumerate(items):
        if not isinstance(row, list) or (width is not None and len(row) != width):
            what = f"a list of {len(row)}" if isinstance(row, list) else repr(row)
            raise LayoutError(
                f"item {i} of form {form!r} is {what}, wanted a list{f' of {width}' if width else ''}.",
                position=i,
            )
        integers(row)
    return items


def _detect_nested(rows: list[list[int]], spec: CodecSpec) -> str:
    period, counts = spec.codes_per_frame, spec.codes_per_level
    fits = []
    marks = any(value >= min(PAD, spec.codebook_size) for row in rows for value in row)
    if len(rows) in (period, period + 1) and spec.codebook_size <= PAD and marks:
        fits.append("mini_omni_rows")
    if not marks and all(len(row) == period for row in rows):
        fits.append("frames")
    if not marks and len(rows) == len(counts):
        frames = len(rows[0])
        if all(len(row) == frames * n for row, n in zip(rows, counts, strict=True)):
            fits.append("levels")
    if len(fits) == 1:
        return fits[0]
    raise LayoutError(
        f"{len(rows)} lists of {len(rows[0])} and more items may be "
        f"{' or '.join(fits) or 'none of the forms'} of {spec.name}; say which with form=... "
        f"({', '.join(FORMS)})."
    )


def _read_separated(items: Any, spec: CodecSpec, form: str, resync: bool) -> Reading:
    separator, period, size = SEPARATORS[form], spec.codes_per_frame, spec.codebook_size
    if not isinstance(items, list):
        raise LayoutError(f"form {form!r} wants a list, got {str(items)[:30]!r}.")
    frames: list[list[int]] = []
    dropped_frames = dropped_tokens = 0
    at = 0
    while at < len(items):
        stop = next((i for i in range(at + 1, len(items)) if items[i] == separator), len(items))
        if stop == len(items) and at == stop - 1 and frames and items[at] == separator:
            break  # a separator after the last frame
        frame = [_number(value) for value in items[at + 1 : stop]]
        bad = None if items[at] == separator else at
        for i, value in enumerate(frame[:period]):
            if bad is None and not (value is not None and 0 <= value < size):
                bad = at + 1 + i
        if bad is None and len(frame) != period:
            bad = min(stop, at + 1 + period)
        if bad is None:
            frames.append([value for value in frame if value is not None])
        elif resync:
            dropped_frames, dropped_tokens = dropped_frames + 1, dropped_tokens + stop - at
        else:
            seen = repr(items[bad]) if bad < len(items) else "the end"
            raise LayoutError(
                f"{seen} at position {bad} of form {form!r}: wanted {separator!r} and then {period} codes in "
                f"[0, {size}), again and again. Read a damaged list with resync=True.",
                position=bad,
            )
        at = stop
    layout = Interleaved(spec.codes_per_level, size)
    tensor = torch.tensor(frames, dtype=torch.long).reshape(-1, period)
    return Reading(layout.from_frames(tensor, spec.frame_samples), form, dropped_frames, dropped_tokens)


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None
    return int(value) if hasattr(value, "__index__") and not isinstance(value, bool) else None


def _from_levels(levels: list[list[int]], layout: Interleaved, spec: CodecSpec) -> Codes:
    frames = len(levels[0]) if levels else 0
    codes = Codes([integers(level)[None] for level in levels], [frames * spec.frame_samples])
    layout.frames(codes)
    return codes


@lru_cache(maxsize=8)
def _orpheus_plan(spec: CodecSpec, first_code_id: int) -> AudioVocabulary:
    plan = plan_vocabulary("orpheus", spec)
    return replace(
        plan,
        first_code_id=first_code_id,
        start_id=first_code_id - 9,
        end_id=first_code_id - 8,
        roles={role: token_id + first_code_id - 10 for role, token_id in plan.roles.items()},
    )


def _read_orpheus(items: Any, plan: AudioVocabulary, form: str, resync: bool) -> Reading:
    layout = plan.flattening
    assert isinstance(layout, Orpheus)
    if form == "custom_tokens":
        if not isinstance(items, str):
            raise LayoutError(f"form {form!r} wants text such as '<custom_token_1211>', got a list.")
        if not resync:
            return Reading(plan.from_text(items), form)
        items = [int(digits) + plan.first_code_id - 10 for digits in plan.style.pattern().findall(items)]
    ids = integers(items).tolist()
    begin = ids.index(plan.start_id) if plan.start_id in ids else 0
    if plan.start_id in ids[begin + 1 :]:
        again = ids.index(plan.start_id, begin + 1)
        raise LayoutError(
            f"a second start of audio at position {again}; pass one span at a time.", position=again
        )
    span = ids[begin:]
    if resync:
        stop = span.index(plan.end_id) if plan.end_id in span else len(span)
        inner = [token - plan.first_code_id for token in span[:stop] if token != plan.start_id]
        saved = layout.recover(inner, plan.frame_samples)
        return Reading(saved.codes, form, saved.dropped_frames, saved.dropped_tokens)
    try:
        return Reading(plan.from_ids(span), form)
    except LayoutError as error:
        if begin == 0:
            raise
        at = None if error.position is None else error.position + begin
        raise LayoutError(
            f"in the audio span that starts at position {begin}: {error}", position=at
        ) from error
