"""Equal keys are found exactly as by hand, whether they stay in memory or go to disk."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.data.check import keys as module
from vivavoce.data.check.keys import AUDIO, KEY, KeyStore

entries = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(1, 200).map(lambda k: k * 31), st.integers(0, 2), st.integers(0, 30)
    ),
    max_size=60,
)


def by_hand(own: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> dict[str, dict[int, int]]:
    """Name -> row -> first row with the same."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for what, name in enumerate(("id", "row", "audio", "text")):
        mine = [(k, m, r) for w, k, m, r in own if w == what]
        theirs = [(k, r) for w, k, m, r in other if w == what]
        for key, more, row in mine:
            first = min(r for k, _, r in mine if k == key)
            if row != first:
                found[name][row] = min(first, found[name].get(row, first))
            if what and (there := [r for k, r in theirs if k == key]):
                name_of = f"overlap {name}"
                found[name_of][row] = min(
                    *there, *([found[name_of][row]] if row in found[name_of] else there)
                )
            same = sorted((r, m) for k, m, r in mine if k == key and m)
            if what == AUDIO and more and more != same[0][1]:
                found["conflict"][row] = min(same[0][0], found["conflict"].get(row, same[0][0]))
    return found


@pytest.mark.parametrize("held", [1, 10_000])
@given(own=entries, other=entries)
@settings(max_examples=150)
def test_as_by_hand(held: int, own: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> None:
    before, module.HELD = module.HELD, held
    try:
        # a row has one word for a recording
        own = list({(w, k, r): (w, k, m, r) for w, k, m, r in own}.values())
        with KeyStore(1000) as store:
            for start in range(0, len(own), 7):
                store.add(np.array(own[start : start + 7], KEY))
            for start in range(0, len(other), 5):
                store.add(np.array(other[start : start + 5], KEY), other=True)
            found = store.equal()
    finally:
        module.HELD = before
    wanted = by_hand(own, other)
    assert {name: dict(equal.examples) for name, equal in found.items()} == wanted
    assert {name: equal.count for name, equal in found.items()} == {
        name: len(rows) for name, rows in wanted.items()
    }


def test_examples_are_the_first_rows_in_any_order_of_adding() -> None:
    keys = [(1, 9, 0, row) for row in range(20)]
    for order in (keys, keys[::-1]):
        with KeyStore(2) as store:
            for key in order:
                store.add(np.array([key], KEY))
            assert store.equal()["row"].examples == [(1, 0), (2, 0)]


def test_disk_is_left_clean(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(module, "HELD", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with KeyStore(1) as store:
        store.add(np.array([(1, 9, 0, 0), (1, 9, 0, 1)], KEY))
        assert any(tmp_path.iterdir())
    assert not any(tmp_path.iterdir())
