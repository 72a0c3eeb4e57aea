"""What every layout promises, over every layout of the table and the geometries of real codecs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tokens.code_strategies import codes_of, same

from vivavoce.base.errors import LayoutError
from vivavoce.codecs.contract import Codes
from vivavoce.tokens.layouts import LAYOUTS, Layout

# codes per coarse frame at each level, and codewords per level
GEOMETRIES = {
    "one level": ((1,), 512),
    "encodec 1.5 kbps": ((1, 1), 1024),
    "mimi": ((1,) * 8, 2048),
    "snac 24 kHz": ((1, 2, 4), 4096),
    "snac 32 kHz": ((1, 2, 4, 8), 4096),
    "fan of three": ((1, 3, 6), 5),
    "one codeword": ((1, 2), 1),
}
CASES = [
    pytest.param(LAYOUTS.get(name)(*geometry), id=f"{name}-{label}")
    for name in LAYOUTS
    for label, geometry in GEOMETRIES.items()
]
every_layout = pytest.mark.parametrize("layout", CASES)


def clips(layout: Layout, min_frames: int = 0) -> st.SearchStrategy[Codes]:
    return codes_of(layout.codes_per_level, layout.codebook_size, min_frames=min_frames, max_frames=4)


@every_layout
@given(data=st.data())
def test_unflatten_inverts_flatten(layout: Layout, data: st.DataObject) -> None:
    codes = data.draw(clips(layout))
    ids = layout.flatten(codes)
    back = layout.unflatten(ids, 7)
    frames = codes.levels[0].shape[1]
    assert same(back, codes)
    assert back.num_samples == [7 * frames]
    assert len(ids) == layout.period * frames
    assert all(isinstance(token, int) and 0 <= token < layout.num_ids for token in ids)


@every_layout
@given(data=st.data())
def test_every_code_reaches_the_sequence(layout: Layout, data: st.DataObject) -> None:
    """Changing one code changes exactly one token, first and last frame included."""
    if layout.codebook_size == 1:
        return
    codes = data.draw(clips(layout, min_frames=1))
    level = data.draw(st.integers(0, len(codes.levels) - 1))
    at = data.draw(st.sampled_from([0, codes.levels[level].shape[1] - 1]))
    changed = Codes([row.clone() for row in codes.levels], codes.num_samples)
    changed.levels[level][0, at] = (changed.levels[level][0, at] + 1) % layout.codebook_size
    different = [a != b for a, b in zip(layout.flatten(codes), layout.flatten(changed), strict=True)]
    assert sum(different) == 1
    frame = 0 if at == 0 else codes.levels[0].shape[1] - 1
    assert different.index(True) // layout.period == frame


@every_layout
@given(data=st.data())
def test_exactly_the_allowed_ids_are_decodable(layout: Layout, data: st.DataObject) -> None:
    ids = data.draw(clips(layout, min_frames=1).map(layout.flatten))
    assert all(token in layout.allowed(step) for step, token in enumerate(ids))
    rng = data.draw(st.randoms(use_true_random=False))
    drawn = [rng.choice(layout.allowed(step)) for step in range(len(ids))]
    assert layout.flatten(layout.unflatten(drawn, 1)) == drawn
    at = data.draw(st.integers(0, len(ids) - 1))
    legal = layout.allowed(at)
    broken = [*ids]
    broken[at] = data.draw(st.sampled_from([-1, legal.start - 1, legal.stop, layout.num_ids]))
    with pytest.raises(LayoutError) as caught:
        layout.unflatten(broken, 1)
    assert caught.value.position == at


@every_layout
@given(data=st.data())
def test_a_cut_inside_a_frame_is_named(layout: Layout, data: st.DataObject) -> None:
    if layout.period == 1:
        return
    ids = data.draw(clips(layout, min_frames=1).map(layout.flatten))
    keep = data.draw(st.integers(1, len(ids) - 1).filter(lambda n: n % layout.period))
    with pytest.raises(LayoutError, match="ends inside coarse frame") as caught:
        layout.unflatten(ids[:keep], 1)
    assert caught.value.position == keep


@every_layout
def test_bad_codes_are_refused(layout: Layout) -> None:
    good = [torch.zeros(1, n, dtype=torch.long) for n in layout.codes_per_level]
    too_large = [*good[:-1], torch.full_like(good[-1], layout.codebook_size)]
    negative = [torch.full_like(good[0], -1), *good[1:]]
    with pytest.raises(LayoutError, match="is not in"):
        layout.flatten(Codes(too_large, [1]))
    with pytest.raises(LayoutError, match="is not in"):
        layout.flatten(Codes(negative, [1]))
    with pytest.raises(LayoutError, match="one clip at a time"):
        layout.flatten(Codes([level.repeat(2, 1) for level in good], [1, 1]))
    with pytest.raises(LayoutError, match="levels of codes"):
        layout.flatten(Codes([*good, good[0]], [1]))
    if len(good) > 1:
        with pytest.raises(LayoutError, match="cut inside a frame"):
            layout.flatten(Codes([*good[:-1], good[-1][:, :-1]], [1]))


@every_layout
def test_a_negative_step_is_refused(layout: Layout) -> None:
    with pytest.raises(LayoutError, match="step is -1"):
        layout.allowed(-1)
