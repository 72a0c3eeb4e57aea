"""The page with the embedded model behind the real server: it is asked aloud, in writing and by a file, and answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.serving.conftest import QUESTION
from tests.serving.live import Live, serving, until
from tests.serving.page.browser import Page
from tests.serving.page.test_talk import OPEN
from websockets.sync.client import connect

from vivavoce.inference.assistant import Assistant
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-page"
TURNS = "[...document.querySelectorAll('.turn')].map((turn) => [turn.innerText, { ...turn.dataset }])"


@pytest.fixture(scope="module")
def server(nano: Assistant) -> Iterator[Live]:
    """Serve it with a key that a browser can send."""
    with serving(Engine(nano, "nano"), [KEY]) as running:
        yield running


@pytest.fixture
def talk(page: Page, server: Live) -> Page:
    """Open the page, with the key."""
    page.open(f"{server.root}/")
    page.until("document.querySelector('#key-dialog').open")
    page.type("#key", KEY)
    page.until(OPEN)
    page.problems[:] = [p for p in page.problems if "401" not in p]
    return page


def answer(page: Page, number: int = 1) -> tuple[str, str, dict[str, str]]:
    """What was heard, what was answered, and the facts of the playback, once it has ended."""
    page.until(f"document.querySelectorAll('.turn.model')[{number - 1}]?.dataset.playback", 60)
    page.until("!document.querySelector('.bubble.waiting')")
    rows = page.js(TURNS)
    (asked, _), (said, facts) = rows[2 * number - 2 : 2 * number]
    assert asked.startswith("You:") and said.startswith("Model:")
    return asked.split("\n")[1], said.split("\n")[1], facts


def spoken_well(facts: dict[str, str]) -> None:
    assert facts["playback"] == "ended" and int(facts["given"]) > 10_000
    assert facts["played"] == facts["given"] and facts["gaps"] == "0"
    assert 0 <= int(facts["textMs"]) <= int(facts["audioMs"]) < 20_000


def test_hands_free(talk: Page) -> None:
    talk.click("input[value=free]")
    talk.click("#talk")
    asked, said, facts = answer(talk)
    assert (asked, said) == ("what is seven plus five", "twelve")
    spoken_well(facts)
    assert int(facts["textMs"]) >= 500  # the silence that ends a turn counts
    assert talk.js("document.querySelector('#activity').innerText") == "Listening"
    talk.click("#talk")
    assert talk.until("document.querySelector('#talk').getAttribute('aria-pressed') === 'false'")


def test_push_to_talk_twice(talk: Page) -> None:
    for number in (1, 2):
        if number == 2:  # the file of the fake microphone begins anew where it is opened again
            talk.js(
                "for (const kind of ['free', 'hold']) document.querySelector(`input[value=${kind}]`).click()"
            )
            time.sleep(0.3)
        talk.key("keyDown", "Space", " ")
        time.sleep(2.1)
        talk.key("keyUp", "Space", " ")
        asked, said, facts = answer(talk, number)
        assert (asked, said) == ("what is seven plus five", "twelve")
        spoken_well(facts)


def test_typing_and_a_file(talk: Page) -> None:
    talk.type("#text", "what is nine plus four")
    asked, said, facts = answer(talk)
    assert (asked, said) == ("what is nine plus four", "thirteen")
    spoken_well(facts)
    talk.choose_file("#upload", QUESTION)
    _, said, facts = answer(talk, 2)
    assert said == "twelve"
    spoken_well(facts)
    talk.until("document.body.innerText.includes('what is seven plus five')")
    assert "question.wav, 1.8 s" in talk.text()


def test_breaking_in_by_voice(talk: Page) -> None:
    talk.click("input[value=free]")
    talk.type("#text", "what can you do")  # three seconds of speech
    talk.until("document.querySelector('#activity').innerText === 'Speaking'")
    talk.click("#talk")  # the question is heard while the model speaks
    _, _, cut = answer(talk, 1)
    assert cut["playback"] == "stopped" and int(cut["played"]) < 72_000
    assert abs(int(cut["cutMs"]) - int(cut["played"]) / 24) < 700  # the device is late
    asked, said, facts = answer(talk, 2)
    assert (asked, said) == ("what is seven plus five", "twelve")
    spoken_well(facts)
    assert not talk.js("document.querySelector('#alert').checkVisibility()")


def test_a_full_server_is_named(page: Page, nano: Assistant) -> None:
    with serving(Engine(nano, "nano"), limits=Limits(max_realtime=1)) as server:
        with connect(server.root.replace("http", "ws") + "/v1/realtime?model=nano"):
            page.open(f"{server.root}/")
            page.until("document.querySelector('#alert').innerText.includes('1 connections are open')")
            assert page.js("document.querySelector('#talk').disabled")
        until(lambda: not server.server.realtime.connections)
        page.click("#reconnect")
        page.until(OPEN)
    page.problems[:] = [
        p for p in page.problems if not any(known in p for known in ("503", "426", "WebSocket"))
    ]
