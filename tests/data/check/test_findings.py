"""Findings are counted alike in whatever order blocks are finished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vivavoce.data.check.findings import Finding, Tally

rows = st.lists(st.lists(st.sampled_from(["silent", "clipped", "no_licence"]), max_size=4), max_size=12)


@given(rows=rows, order=st.randoms(use_true_random=False), size=st.integers(1, 4), most=st.integers(0, 3))
def test_tallies_add_up_in_any_order(rows: list[list[str]], order, size: int, most: int) -> None:
    whole, parts = Tally(most), []
    for number, kinds in enumerate(rows):
        found = [Finding(kind, str(i), "", number=number) for i, kind in enumerate(kinds)]
        whole.add_row(found)
        if number % size == 0:
            parts.append(Tally(most))
        parts[-1].add_row(found)
    order.shuffle(parts)
    together = Tally(most)
    for part in parts:
        together.add(part)
    assert together.as_list() == whole.as_list()
    for kind in ("silent", "clipped", "no_licence"):
        assert whole.counts[kind] == sum(kinds.count(kind) for kinds in rows)
        assert whole.rows[kind] == sum(kind in kinds for kinds in rows)
        numbers = [f.number for f in whole.examples.get(kind, ())]
        assert numbers == [n for n, kinds in enumerate(rows) for k in kinds if k == kind][:most]


def test_errors_come_first_then_what_is_frequent() -> None:
    tally = Tally()
    for kind in ("no_speaker", "clipped", "clipped", "quiet", "silent"):
        tally.add_row([Finding(kind, "", "")])
    assert tally.kinds() == ["silent", "clipped", "quiet", "no_speaker"]
    assert [tally.number(s) for s in ("error", "warning", "info")] == [1, 3, 1]
