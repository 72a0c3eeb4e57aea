"""Parallel rows, as mini-omni lays SNAC codes out: one row per slot of the coarse frame, each one step later.

Row k (slot k in depth-first order) begins with k + 1 pads, holds the codes of its slot, one end mark, and
pads up to the common length T + rows + 1. *Shifted* rows add 152000 + 4160 * k, so that each row has its own
embeddings; *local* rows do not. An eighth row, when there is one, is text and is not read here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vivavoce.base.errors import LayoutError
from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.tokens.layouts import Interleaved

END = 4096
PAD = 4097
ROW_STRIDE = 4160
FIRST_SHIFT = 152_000


def to_rows(codes: Codes, spec: CodecSpec, *, shifted: bool = False) -> list[list[int]]:
    """Write one clip as delayed rows, ``period`` lists of T + period + 1 integers.

    Source: mini-omni's data form; where the end mark sits in a row is our choice, upstream publishes no
    training code.

    Raises:
        LayoutError: the codes do not fit ``spec``, or the codebook is larger than the form's 4096.
    """
    _check(spec)
    frames = Interleaved(spec.codes_per_level, spec.codebook_size).frames(codes)
    num_rows = frames.shape[1]
    rows = []
    for k in range(num_rows):
        row = [PAD] * (k + 1) + frames[:, k].tolist() + [END] + [PAD] * (num_rows - 1 - k)
        rows.append([value + (FIRST_SHIFT + ROW_STRIDE * k if shifted else 0) for value in row])
    return rows


def from_rows(
    rows: Sequence[Sequence[int]], spec: CodecSpec, *, cut: bool = False
) -> tuple[Codes, list[int]]:
    """Read delayed rows, local or shifted.

    Args:
        rows: ``period`` lists, or one more whose last is text and is ignored.
        spec: The codec.
        cut: Where rows differ in length, as in an unfinished generation, keep the frames that all rows have.

    Returns:
        The codes, and how many codes were cut off from each row.

    Raises:
        LayoutError: wrong number of rows, wrong delays, marks inside the codes, or rows that differ in
            length.
    """
    _check(spec)
    layout = Interleaved(spec.codes_per_level, spec.codebook_size)
    if len(rows) not in (layout.period, layout.period + 1):
        raise LayoutError(
            f"{len(rows)} rows, {spec.name} has {layout.period} codes per coarse frame; wanted "
            f"{layout.period} rows, or {layout.period + 1} with a last one of text."
        )
    local = [[int(value) for value in row] for row in rows[: layout.period]]
    if any(value >= FIRST_SHIFT for row in local for value in row):
        local = [[value - FIRST_SHIFT - ROW_STRIDE * k for value in row] for k, row in enumerate(local)]
    leads = [next((i for i, value in enumerate(row) if value != PAD), len(row)) for row in local]
    delays = [lead - leads[0] for lead in leads]
    if delays not in ([0] * len(leads), list(range(len(leads)))):
        k = next(k for k, delay in enumerate(delays) if delay != (k if delays[1] else 0))
        raise LayoutError(
            f"row {k} begins with {leads[k]} pads, row 0 with {leads[0]}; wanted each row one step after "
            f"the one before, or all at once.",
            position=k,
        )
    columns = [_row_codes(k, row, lead, spec) for k, (row, lead) in enumerate(zip(local, leads, strict=True))]
    shortest = min(len(column) for column in columns)
    extra = [len(column) - shortest for column in columns]
    if any(extra) and not cut:
        k = next(k for k, column in enumerate(columns) if len(column) != len(columns[0]))
        raise LayoutError(
            f"row {k} has {len(columns[k])} codes, row 0 has {len(columns[0])}; the rows of a clip are "
            f"equally long. Read an unfinished generation with resync=True.",
            position=k,
        )
    frames = torch.tensor([column[:shortest] for column in columns], dtype=torch.long).reshape(-1, shortest).T
    return layout.from_frames(frames, spec.frame_samples), extra


def _row_codes(k: int, row: list[int], lead: int, spec: CodecSpec) -> list[int]:
    """Codes of row k between its leading pads and its end mark or pad."""
    stop = next((i for i in range(lead, len(row)) if row[i] in (END, PAD)), len(row))
    for i, value in enumerate(row[lead:stop], start=lead):
        if not 0 <= value < spec.codebook_size:
            raise LayoutError(
                f"{value} in row {k}, column {i} is no code in [0, {spec.codebook_size}).", position=i
            )
    for i, value in enumerate(row[stop:], start=stop):
        if value not in (END, PAD):
            raise LayoutError(f"{value} in row {k}, column {i} follows the end of audio.", position=i)
    return row[lead:stop]


def _check(spec: CodecSpec) -> None:
    if spec.codebook_size > END:
        raise LayoutError(
            f"{spec.name} has {spec.codebook_size} codewords per level, rows hold at most {END}: larger "
            f"codes would be marks. Use the layout 'orpheus'."
        )
