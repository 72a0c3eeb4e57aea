"""What the page does with a microphone, a keyboard and a file, against a server that answers by script."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from tests.serving.conftest import QUESTION
from tests.serving.page.browser import Page
from tests.serving.page.scripted import Script, scripted

OPEN = "document.querySelector('#connection').dataset.state === 'open'"
LAST = "[...document.querySelectorAll('.turn.model')].at(-1)"

RAW = """{
    const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    navigator.mediaDevices.getUserMedia = () => get({ audio });
}"""  # the browser's cleaning changes the waves


def begin(page: Page, script: Script) -> None:
    page.open(script.url)
    page.until(OPEN)
    page.until("!document.querySelector('#talk').disabled")


def facts(page: Page) -> dict[str, str]:
    """Data of the last answer, once it was played."""
    found: dict[str, str] = page.until(f"{LAST}?.dataset.playback && ({{...{LAST}.dataset}})")
    return found


def likeness(heard: np.ndarray) -> float:
    """Highest normalised correlation with the question, whenever it began."""
    wave, rate = soundfile.read(QUESTION, dtype="float32")
    wanted = soxr.resample(wave, rate, 24000)
    padded = np.concatenate([np.zeros(len(wanted)), heard, np.zeros(len(wanted))])
    size = 1 << (len(padded) + len(wanted)).bit_length()
    products = np.fft.irfft(np.fft.rfft(padded, size) * np.conj(np.fft.rfft(wanted, size)), size)
    return float(products.max() / np.linalg.norm(wanted) / np.linalg.norm(heard))


def test_hold_to_talk(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
        page.js(RAW)
        page.mouse("mousePressed", "#talk")
        page.until("document.querySelector('.turn.user .waiting')?.innerText.startsWith('Listening')")
        time.sleep(2.1)
        page.mouse("mouseReleased", "#talk")
        played = facts(page)
        assert played["played"] == played["given"] == "24000" and played["gaps"] == "0"
        assert 0 <= int(played["textMs"]) <= int(played["audioMs"]) < 2000
        assert "what is this" in page.text() and "this is a tone" in page.text()
        assert f"voice {played['audioMs']} ms" in page.text()
        assert [e["type"] for e in script.events if e["type"] != "input_audio_buffer.append"] == [
            "session.update", "input_audio_buffer.commit", "response.create",
        ]  # fmt: skip
        session = script.sent("session.update")[-1]["session"]
        assert session["audio"]["input"]["turn_detection"] is None
        assert session["output_modalities"] == ["audio"]
        heard = np.frombuffer(bytes(script.heard), "<i2") / 32768
        assert 1.7 < len(heard) / 24000 < 2.5
        assert likeness(heard) > 0.99  # a busy browser may lose a few samples of its fake microphone


@pytest.mark.slow
def test_space_bar_and_short_presses(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
        page.key("keyDown", "Space", " ")
        page.key("keyUp", "Space", " ")
        page.until("document.querySelector('#activity').innerText.startsWith('Hold')")
        assert script.sent("input_audio_buffer.clear") and not script.sent("input_audio_buffer.commit")
        assert page.js("document.querySelectorAll('.turn').length") == 0
        page.key("keyDown", "Space", " ")
        time.sleep(1.0)
        page.key("keyUp", "Space", " ")
        assert facts(page)["playback"] == "ended"
        page.js("document.querySelector('#text').focus()")
        page.key("keyDown", "Space", " ")  # here it is a letter
        time.sleep(0.3)
        assert page.js("document.querySelector('#talk').getAttribute('aria-pressed')") == "false"
        page.key("keyUp", "Space", " ")


@pytest.mark.slow
def test_typing_aloud_and_in_text(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
        page.type("#text", "  say <b>it</b> ")
        assert facts(page)["played"] == "24000"
        (item,) = [event["item"] for event in script.sent("conversation.item.create")]
        assert item["content"] == [{"type": "input_text", "text": "say <b>it</b>"}]
        assert page.js("document.querySelector('.user .bubble').innerText") == "say <b>it</b>"
        choose = (
            "const v = document.querySelector('#voice'); v.value = '%s'; v.dispatchEvent(new Event('change'))"
        )
        page.js(f"{{ {choose % 'second'} }}")
        page.js(f"{{ {choose % ''} }}")
        page.type("#text", "again")
        page.until("document.querySelectorAll('.turn.model').length === 2")
        page.until(f"{LAST}.innerText.includes('first words')")
        updates = [event["session"] for event in script.sent("session.update")]
        assert updates[-2]["audio"]["output"]["voice"] == "second"
        assert updates[-1]["output_modalities"] == ["text"]
        assert "audioMs" not in page.js(f"({{...{LAST}.dataset}})")


@pytest.mark.slow
def test_a_recording_is_sent_whole(page: Page, tmp_path: Path) -> None:
    with scripted() as script:
        begin(page, script)
        page.click("#welcome")  # browsers let sound begin after a press
        page.choose_file("#upload", QUESTION)
        assert facts(page)["played"] == "24000"
        (item,) = [event["item"] for event in script.sent("conversation.item.create")]
        heard = np.frombuffer(base64.b64decode(item["content"][0]["audio"]), "<i2") / 32768
        wave, rate = soundfile.read(QUESTION)
        assert abs(len(heard) - len(wave) * 24000 / rate) <= 2
        assert likeness(heard) > 0.99
        assert "question.wav, 1.8 s" in page.text()
        broken = tmp_path / "broken.wav"
        broken.write_bytes(b"RIFF nothing")
        page.choose_file("#upload", broken)
        page.until("document.querySelector('#alert').innerText.includes('broken.wav is not a recording')")
        assert len(script.sent("conversation.item.create")) == 1


@pytest.mark.slow
def test_sound_that_the_browser_holds_back_waits_for_a_press(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
        page.choose_file("#upload", QUESTION)  # no press
        page.until("document.querySelector('#alert').innerText.includes('to hear the answer')")
        page.until("document.querySelector('.turn.model')?.innerText.includes('this is a tone')")
        page.click("#scroll")
        assert facts(page)["played"] == "24000"
        page.problems[:] = [p for p in page.problems if "AudioContext was not allowed" not in p]


@pytest.mark.slow
def test_breaking_in_stops_at_once_and_says_what_was_heard(page: Page) -> None:
    with scripted(pieces=(1.0,) * 8, pauses=(0.0,) * 4 + (3.0,) * 4) as script:
        begin(page, script)
        page.type("#text", "go on")
        page.until("document.querySelector('#activity').innerText === 'Speaking'")
        began = time.monotonic()
        time.sleep(1.2)
        page.js("document.activeElement.blur()")
        page.key("keyDown", "Space", " ")
        elapsed = time.monotonic() - began
        state = page.until(f"{LAST}.dataset.playback && ({{...{LAST}.dataset}})")
        assert state["playback"] == "stopped"
        (cut,) = script.sent("conversation.item.truncate")
        assert cut["item_id"] == "item_1" and cut["content_index"] == 0
        assert abs(cut["audio_end_ms"] / 1000 - elapsed) < 0.4
        assert int(state["played"]) / 24000 - cut["audio_end_ms"] / 1000 < 0.25
        assert [e["type"] for e in script.events].index("response.cancel") < script.events.index(cut)
        page.until("document.querySelector('.unheard')?.innerText === ' a tone'")
        assert "interrupted after" in page.text()
        page.key("keyUp", "Space", " ")
        time.sleep(0.5)
        assert page.js(f"{LAST}.dataset.played") == state["played"]


@pytest.mark.slow
def test_gaps_are_counted_and_lost_nowhere(page: Page) -> None:
    with scripted(pieces=(0.3, 0.3, 0.3), pauses=(0.0, 1.0, 0.0)) as script:
        begin(page, script)
        page.type("#text", "slowly")
        state = facts(page)
        assert state["gaps"] == "1" and state["played"] == state["given"] == str(round(0.9 * 24000))
        assert "1 gap" in page.text()


@pytest.mark.slow
def test_resampling_does_not_depend_on_the_pieces(page: Page) -> None:
    with scripted() as script:
        begin(page, script)
        worst = page.js("""(async () => {
            const { Resampler } = await import("/page/resampler.js");
            const wave = Float32Array.from({ length: 9000 }, (_, i) => Math.sin(i / 5) * Math.sin(i / 700));
            const rows = [];
            for (const [from, to] of [[48000, 24000], [44100, 24000], [24000, 48000], [16000, 24000], [24000, 24000]]) {
                const join = (cuts) => {
                    const one = new Resampler(from, to);
                    const out = [];
                    let at = 0;
                    for (const cut of cuts) { out.push(...one.push(wave.slice(at, at + cut))); at += cut; }
                    out.push(...one.push(wave.slice(at)), ...one.flush());
                    return out;
                };
                const whole = join([]);
                let error = 0;
                for (let n = 0; n < 20; n++) {
                    const cuts = Array.from({ length: 40 }, () => Math.floor(Math.random() * 220));
                    const parts = join(cuts);
                    if (parts.length !== whole.length) return `${from} to ${to}: ${parts.length} of ${whole.length}`;
                    whole.forEach((value, i) => { error = Math.max(error, Math.abs(value - parts[i])); });
                }
                let off = 0;  // of the sine itself
                for (let i = 200; i < whole.length - 200; i++) {
                    const x = (i * from) / to;
                    off = Math.max(off, Math.abs(whole[i] - Math.sin(x / 5) * Math.sin(x / 700)));
                }
                rows.push([from, to, whole.length, error, off]);
            }
            return rows;
        })()""")
        for rate_in, rate_out, length, error, off in worst:
            assert abs(length - 9000 * rate_out / rate_in) <= 2
            assert error < 1e-6 and off < 2e-3
