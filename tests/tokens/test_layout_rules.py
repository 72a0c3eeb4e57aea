"""Order, offsets and damage of the layouts, beyond what every layout promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tokens.code_strategies import codes_of, same
from tests.tokens.conftest import ENCODEC, SNAC24, SNAC32

from vivavoce.base.errors import ConfigError, LayoutError
from vivavoce.codecs.contract import Codes
from vivavoce.tokens.layouts import Interleaved, Orpheus, build_layout, depth_first

SMALL = Orpheus((1, 2, 4), 3)


@pytest.mark.parametrize(
    ("counts", "order"),
    [
        ((1, 1), "A0 B0"),
        ((1, 1, 1, 1), "A0 B0 C0 D0"),
        ((1, 2, 4), "A0 B0 C0 C1 B1 C2 C3"),
        ((1, 2, 4, 8), "A0 B0 C0 D0 D1 C1 D2 D3 B1 C2 D4 D5 C3 D6 D7"),
        ((1, 3), "A0 B0 B1 B2"),
    ],
)
def test_depth_first_order(counts: tuple[int, ...], order: str) -> None:
    assert " ".join(f"{'ABCD'[level]}{index}" for level, index in depth_first(counts)) == order


@pytest.mark.parametrize("counts", [(), (2, 4), (1, 2, 3), (1, 0), (4, 2, 1)])
def test_levels_that_do_not_nest_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="no depth-first order"):
        Interleaved(counts, 8)


def test_ids_of_published_models() -> None:
    """Jan-Llama3: c1 c2 c1 c2 with shared ids. Orpheus: 4096 ids per slot, 7 and 15 slots."""
    c1, c2 = torch.tensor([[0, 5, 1023]]), torch.tensor([[7, 5, 0]])
    jan = build_layout("interleaved", ENCODEC)
    assert jan.flatten(Codes([c1, c2], [960])) == [0, 7, 5, 5, 1023, 0]
    assert (jan.num_ids, jan.period) == (1024, 2)
    orpheus = build_layout("orpheus", SNAC24)
    one = Codes([torch.tensor([[1]]), torch.tensor([[2, 3]]), torch.tensor([[4, 5, 6, 7]])], [2048])
    assert orpheus.flatten(one) == [4096 * slot + code for slot, code in enumerate([1, 2, 4, 5, 3, 6, 7])]
    assert (orpheus.num_ids, build_layout("orpheus", SNAC32).num_ids) == (7 * 4096, 61_440)
    with pytest.raises(ConfigError, match="Did you mean 'orpheus'"):
        build_layout("orfeus", SNAC24)


@given(codes=codes_of((1, 2, 4), 3, min_frames=1), data=st.data())
def test_a_lost_token_is_named_where_it_is_missing(codes: Codes, data: st.DataObject) -> None:
    ids = SMALL.flatten(codes)
    at = data.draw(st.integers(0, len(ids) - 1))
    with pytest.raises(LayoutError) as caught:
        SMALL.unflatten(ids[:at] + ids[at + 1 :], 1)
    assert caught.value.position == at


@given(codes=codes_of((1, 2, 4), 3, min_frames=1), data=st.data())
def test_recovery_loses_only_the_damaged_frame(codes: Codes, data: st.DataObject) -> None:
    ids = SMALL.flatten(codes)
    at = data.draw(st.integers(0, len(ids) - 1))
    kind = data.draw(st.sampled_from(["lost", "foreign", "twice"]))
    patch = {"lost": [], "foreign": [999], "twice": [ids[at], ids[at]]}[kind]
    saved = SMALL.recover(ids[:at] + patch + ids[at + 1 :], 10)
    frame = at // 7
    frames = SMALL.frames(codes)
    expected = torch.cat([frames[:frame], frames[frame + 1 :]])
    if kind == "twice" and at % 7 in (0, 6):  # the frame itself is whole, the stray token lies beside it
        expected = frames
    assert torch.equal(SMALL.frames(saved.codes), expected)
    assert saved.dropped_frames == 1 and len(saved.positions) == 1
    assert saved.codes.num_samples == [10 * expected.shape[0]]
    assert saved.dropped_tokens == len(ids) - 1 + len(patch) - 7 * expected.shape[0]


@given(codes=codes_of((1, 2, 4), 3))
def test_recovery_of_a_sound_sequence_changes_nothing(codes: Codes) -> None:
    saved = SMALL.recover(SMALL.flatten(codes), 1)
    assert same(saved.codes, codes)
    assert (saved.dropped_frames, saved.dropped_tokens, saved.positions) == (0, 0, ())


@given(st.lists(st.integers(-2, 30), max_size=40))
def test_recovery_takes_anything(ids: list[int]) -> None:
    saved = SMALL.recover(ids, 1)
    assert SMALL.period * saved.codes.levels[0].shape[1] + saved.dropped_tokens == len(ids)


@pytest.mark.parametrize(
    ("ids", "position"), [([0, "x"], 1), ([0.5], 0), ([True], 0), ([2**70], 0), ([[1], [2]], 0)]
)
def test_what_is_no_integer_is_named(ids: list[object], position: int) -> None:
    with pytest.raises(LayoutError, match="not an integer") as caught:
        Interleaved((1, 1), 8).unflatten(ids, 1)  # type: ignore[arg-type]
    assert caught.value.position == position


def test_tensors_are_read_as_lists_are() -> None:
    layout = Interleaved((1, 1), 8)
    assert same(layout.unflatten(torch.tensor([1, 2]), 1), layout.unflatten([1, 2], 1))  # type: ignore[arg-type]
    with pytest.raises(LayoutError, match="flat sequence"):
        layout.unflatten(torch.tensor([0.5, 1.0]), 1)  # type: ignore[arg-type]
