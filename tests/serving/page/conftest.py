"""One Chromium for all tests of the page; its microphone hears the bundled question."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("websockets")

from tests.serving.conftest import QUESTION
from tests.serving.page.browser import CHROMIUM, Page, browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable[[], Page]]:
    """Open tabs with it."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with browser(QUESTION) as tab:
        yield tab


@pytest.fixture
def page(chromium: Callable[[], Page]) -> Iterator[Page]:
    """A new tab, without anything to complain about at its end."""
    tab = chromium()
    tab.size(1280, 800)
    yield tab
    tab.call("Runtime.evaluate", expression="0")  # what happened until now has been read
    problems = [p for p in tab.problems if "ERR_CONNECTION_REFUSED" not in p]  # the server has gone already
    assert problems == []
    hosts = {address.split("/")[2] for address in tab.requests if not address.startswith(("data:", "blob:"))}
    assert len(hosts) <= 1, f"other hosts were asked: {hosts}"
