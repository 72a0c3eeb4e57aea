"""docs/cli.md says what the commands say."""

from __future__ import annotations

import re
from pathlib import Path

from vivavoce.cli.main import VERBS
from vivavoce.cli.reference import MARKER, reference, refreshed

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_not_stale():
    page = PAGE.read_text(encoding="utf-8")
    assert page == refreshed(page), "run: python -m vivavoce.cli.reference docs/cli.md"


def test_the_reference_is_complete_and_keeps_what_is_written_by_hand():
    text = reference()
    assert re.findall(r"^## ([\w ]+)$", text, re.M) == list(
        dict.fromkeys(re.findall(r"^## ([\w ]+)$", text, re.M))
    )
    assert set(re.findall(r"^## ([\w ]+)$", text, re.M)) == set(VERBS)
    assert "None" not in text
    assert refreshed("by hand\n" + MARKER + "\nold").startswith("by hand\n" + MARKER)
