"""docs/data-check.md says what the table of kinds says."""

from __future__ import annotations

from pathlib import Path

from vivavoce.data.check.kinds import KINDS, refreshed

PAGE = Path(__file__).parents[3] / "docs" / "data-check.md"


def test_the_page_is_not_stale() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == refreshed(page), "run: python -m vivavoce.data.check.kinds docs/data-check.md"
    assert all(f"| {kind} |" in page for kind in KINDS)
