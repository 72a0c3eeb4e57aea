"""The order of a source: every row once a pass, no memory, blocks kept together, weights exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.base.errors import DataError
from vivavoce.data.reader.chance import numbers, permutation, uniform
from vivavoce.data.reader.order import Order

BLOCKS = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(lambda sizes: sum(sizes) > 0)


def passes(order: Order, turn: int) -> list[int]:
    return [order.number(turn, place) for place in range(len(order))]


def test_numbers_are_those_of_splitmix() -> None:
    """The first outputs of the published generator for seed 1234567; positions depend on them for ever."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert numbers(1234567, 0, 4).tolist() == known
    assert numbers(1234567, 2, 4).tolist() == known[2:]
    values = uniform(3, 0, 100_000)
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 0.01
    assert sorted(permutation(1000, 5)) == list(range(1000))


@given(BLOCKS, st.integers(0, 2**63), st.integers(0, 80))
def test_every_row_once_a_pass(blocks: list[int], seed: int, window_rows: int) -> None:
    order = Order(np.array(blocks), seed, window_rows)
    for turn in (0, 1, 7):
        assert sorted(passes(order, turn)) == list(range(sum(blocks)))


@given(BLOCKS, st.integers(1, 80), st.data())
def test_order_remembers_nothing(blocks: list[int], window_rows: int, data: st.DataObject) -> None:
    weights = None
    if data.draw(st.booleans()):
        weights = np.array(
            data.draw(st.lists(st.sampled_from([1, 0.5, 3]), min_size=sum(blocks), max_size=sum(blocks)))
        )
    order = Order(np.array(blocks), 5, window_rows, weights)
    whole = {turn: passes(order, turn) for turn in (0, 1, 2)}
    asked = st.tuples(st.integers(0, 2), st.integers(0, len(order) - 1))
    for turn, place in data.draw(st.lists(asked, max_size=20)):
        assert order.number(turn, place) == whole[turn][place]
    assert Order(np.array(blocks), 5, window_rows, weights).number(2, 0) == whole[2][0]


def test_passes_and_seeds_differ_and_no_window_keeps_the_order() -> None:
    blocks = np.full(8, 16)
    order = Order(blocks, 1, 64)
    assert passes(order, 0) != passes(order, 1) != passes(Order(blocks, 2, 64), 0) != passes(order, 0)
    assert passes(Order(blocks, 1, 0), 3) == list(range(128))


@pytest.mark.parametrize("blocks", [[8], [5, 6], [3, 3, 3]])
def test_sets_smaller_than_the_window_are_mixed(blocks: list[int]) -> None:
    """Every row stands first in some pass; rows of one block do not keep the order of storage."""
    order = Order(np.array(blocks), 1, 1024)
    assert {order.number(turn, 0) for turn in range(200)} == set(range(sum(blocks)))


def test_rows_of_a_block_are_mixed_too() -> None:
    order = Order(np.full(16, 64), 1, 256)
    for block in range(16):
        found = [[n for n in passes(order, turn) if n // 64 == block] for turn in (0, 1)]
        assert found[0] != sorted(found[0]) and found[0] != found[1]


def test_neighbours_come_from_different_blocks_and_a_rank_reads_its_lanes_only() -> None:
    blocks = np.full(64, 64)
    order = Order(blocks, 3, 1024)
    assert order.lanes == 16
    found = np.array(passes(order, 0)) // 64
    assert all(len(set(found[i : i + 16])) == 16 for i in range(0, len(found), 16))
    for world_size in (2, 8, 16):
        read = [len(set(found[rank::world_size])) for rank in range(world_size)]
        assert read == [64 // world_size] * world_size  # no block is read by two ranks
    assert len(set(found[:1024])) == 16  # and a window of 1024 rows holds 16 blocks


@given(st.lists(st.sampled_from([0, 0.3, 0.5, 1, 1.5, 2, 7]), min_size=1, max_size=60), st.integers(0, 40))
def test_weights_are_how_often_a_row_comes(weights: list[float], window_rows: int) -> None:
    if sum(weights) == 0:
        with pytest.raises(DataError, match="weight above 0"):
            Order(np.array([len(weights)]), 0, window_rows, np.array(weights))
        return
    order = Order(
        np.array([len(weights) // 2, len(weights) - len(weights) // 2]), 0, window_rows, np.array(weights)
    )
    assert len(order) == max(1, round(sum(weights)))
    due = np.array(weights) * len(order) / sum(weights)
    total = np.zeros(len(weights))
    for turn in range(30):
        count = np.bincount(passes(order, turn), minlength=len(weights))
        assert (count >= np.floor(due - 1e-6)).all() and (count <= np.ceil(due + 1e-6)).all()
        total += count
    assert np.abs(total / 30 - due).max() < 0.3
