"""Keys, refusals, models that cannot hear or speak, and how the page looks at any width."""

from __future__ import annotations

import pytest
from tests.serving.page.browser import Page
from tests.serving.page.scripted import scripted
from tests.serving.page.test_talk import OPEN, begin

pytestmark = pytest.mark.slow


def shown(page: Page, selector: str) -> bool:
    return bool(page.js(f"document.querySelector('{selector}').checkVisibility()"))


def test_a_key_is_asked_for_and_kept_in_the_tab_only(page: Page) -> None:
    with scripted(key="right-key") as script:
        page.open(script.url)
        page.until("document.querySelector('#key-dialog').open")
        page.key("keyDown", "Escape", "Escape")
        page.until("document.querySelector('#alert').innerText.includes('Without an API key')")
        page.click("#reconnect")
        page.until("document.querySelector('#key-dialog').open")
        page.type("#key", "wrong-key")
        page.until("document.querySelector('#key-text').innerText.includes('not right')")
        page.until("document.querySelector('#key-dialog').open")
        page.type("#key", "right-key")
        page.until(OPEN)
        assert page.js("Object.values(sessionStorage)") == ["right-key"]
        assert page.js("[Object.keys(localStorage).length, document.cookie]") == [0, ""]
        page.open(script.url)
        page.until(OPEN)
        page.problems[:] = [p for p in page.problems if "401" not in p]  # the browser notes them itself


def test_a_full_server_says_so_and_can_be_tried_again(page: Page) -> None:
    with scripted(refusal=(1013, "all 8 places are taken; try again.")) as script:
        page.open(script.url)
        page.until("document.querySelector('#alert').innerText.includes('all 8 places are taken')")
        assert not shown(page, "#anew") and page.js("document.querySelector('#talk').disabled")
        script.refusal = None
        page.click("#reconnect")
        page.until(OPEN)
        assert not shown(page, "#alert")


def test_a_server_that_goes_away(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
    page.until("document.querySelector('#connection').dataset.state === 'closed'")
    page.until("document.querySelector('#reconnect').checkVisibility()")
    page.click("#reconnect")
    page.until("document.querySelector('#alert').innerText.includes('does not answer')")
    page.problems.clear()  # of the request that nobody took


@pytest.mark.parametrize(
    ("card", "talk", "voice"),
    [
        ({}, True, True),
        ({"hears": False}, False, True),
        ({"speaks": False, "voices": []}, True, False),
        ({"hears": False, "speaks": False, "voices": []}, False, False),
    ],
)
def test_only_what_the_model_can_do(page: Page, card: dict[str, object], talk: bool, voice: bool) -> None:
    with scripted(card=card) as script:
        begin(page, script)
        for selector, there in (
            ("#talk", talk),
            (".modes", talk),
            ("#upload-part", talk),
            ("#voices", voice),
        ):
            assert shown(page, selector) == there, selector
        assert ("cannot hear" in page.text()) != talk
        page.type("#text", "hello")
        page.until("document.querySelector('.turn.model .note')?.innerText.includes('first words')")
        session = script.sent("session.update")[-1]["session"]
        assert session["output_modalities"] == (["audio"] if voice else ["text"])
        assert ("input" in session["audio"]) == talk


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NotAllowedError", "blocked"),
        ("NotFoundError", "No microphone"),
        ("NotReadableError", "another program"),
    ],
)
def test_no_microphone(page: Page, name: str, says: str) -> None:
    with scripted() as script:
        begin(page, script)
        page.js(
            f"{{ navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('no', '{name}') }} }}"
        )
        page.mouse("mousePressed", "#talk")
        page.until(f"document.querySelector('#alert').innerText.includes('{says}')")
        page.mouse("mouseReleased", "#talk")
        assert page.js("document.querySelector('#talk').getAttribute('aria-pressed')") == "false"
        assert page.js("document.querySelectorAll('.turn').length") == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (360, 640), (320, 568), (844, 390)])
def test_nothing_overflows_or_overlaps(page: Page, width: int, height: int) -> None:
    page.size(width, height, phone=width < 900)
    with scripted(
        card={"id": "a-model-with-a-rather-long-name-8b", "voices": ["default", "x" * 60]}
    ) as script:
        begin(page, script)
        page.type("#text", "word " * 30 + "w" * 200)
        page.until("document.querySelector('.turn.model .note')?.innerText.includes('first words')")
        page.js(
            "import('/page/view.js').then(({ View }) => new View().error('a message ' + 'e'.repeat(90), true))"
        )
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
        assert page.js(
            "document.querySelector('main').scrollWidth <= document.querySelector('main').clientWidth"
        )
        assert page.js("document.querySelector('main').clientHeight") > (30 if height < 600 else 100)
        outside = page.js("""[...document.querySelectorAll("button, select, input[type=text], .modes, canvas")]
            .filter((one) => one.checkVisibility()).map((one) => [one.id, one.getBoundingClientRect()])
            .filter(([, box]) => box.left < 0 || box.right > innerWidth || box.bottom > innerHeight + 1 || box.top < 0)
            .map(([id]) => id)""")
        assert outside == []
        overlaps = page.js("""(() => {
            const parts = [...document.querySelectorAll("#talk, .modes, #voices, #upload-part, #text, #send, #anew")]
                .map((one) => [one, one.getBoundingClientRect()]);
            return parts.flatMap(([a, x]) => parts.filter(([b, y]) => a !== b && x.left < y.right && y.left < x.right
                && x.top < y.bottom && y.top < x.bottom).map(([b]) => `${a.id || a.className} ${b.id || b.className}`));
        })()""")
        assert overlaps == []


def test_everything_has_a_name(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        found = {
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
            and node["role"]["value"]
            in ("button", "textbox", "combobox", "radio", "meter", "main", "list", "img")
        }
        roles = {role for role, _ in found}
        assert {"button", "textbox", "combobox", "radio", "main"} <= roles
        assert [role for role, name in found if not name and role not in ("list",)] == []
