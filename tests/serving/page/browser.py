"""Headless Chromium driven over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One tab.

    Attributes:
        problems: Errors of the console, exceptions, and what the browser would not load.
        requests: Addresses that were asked for.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._count = socket, 0
        self.problems: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._count:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(arg.get("value", arg)) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])

    def js(self, expression: str) -> Any:
        """Evaluate, waiting for a promise."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=False,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def until(self, expression: str, seconds: float = 20.0) -> Any:
        """Wait until an expression is true, and give its value."""
        end = time.monotonic() + seconds
        while True:
            value = self.js(expression)
            if value:
                return value
            assert time.monotonic() < end, f"waited in vain for {expression}; the page says: {self.text()}"
            time.sleep(0.03)

    def text(self) -> str:
        return str(self.js("document.body.innerText"))

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element."""
        return tuple(  # type: ignore[return-value]
            self.js(
                f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
            )
        )

    def mouse(self, kind: str, selector: str) -> None:
        """``mousePressed`` or ``mouseReleased`` on an element."""
        x, y = self.place(selector)
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click(self, selector: str) -> None:
        self.mouse("mousePressed", selector)
        self.mouse("mouseReleased", selector)

    def key(self, kind: str, code: str, key: str) -> None:
        """``keyDown`` or ``keyUp``."""
        number = {"Space": 32, "Escape": 27, "Enter": 13, "Tab": 9}[code]
        self.call("Input.dispatchKeyEvent", type=kind, code=code, key=key, windowsVirtualKeyCode=number)

    def type(self, selector: str, text: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)
        self.call(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key="Enter",
            code="Enter",
            text="\r",
            windowsVirtualKeyCode=13,
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)

    def choose_file(self, selector: str, file: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def size(self, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browser(heard: Path | None = None, once: bool = True) -> Iterator[Callable[[], Page]]:
    """Run Chromium as long as the block; the value opens a tab.

    Args:
        heard: What its microphone hears; without, the beeps of Chromium's own fake device.
        once: And then silence; else again and again.
    """
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        if heard is not None:
            microphone.append(f"--use-file-for-fake-audio-capture={heard}{'%noloop' if once else ''}")
        process = subprocess.Popen(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0",
                f"--user-data-dir={profile}", *microphone, "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        sockets: list[ClientConnection] = []
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            end = time.monotonic() + 30
            while not (port_file.exists() and "\n" in port_file.read_text()):
                assert process.poll() is None and time.monotonic() < end, "chromium does not start"
                time.sleep(0.05)
            port, path = port_file.read_text().split("\n")[:2]
            main = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
            sockets.append(main)

            def tab() -> Page:
                main.send(
                    json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}})
                )
                while (message := json.loads(main.recv(timeout=20))).get("id") != 1:
                    pass
                target = message["result"]["targetId"]
                while sockets[1:]:  # a tab in the background would be slowed down
                    old = sockets.pop()
                    old.send(json.dumps({"id": 0, "method": "Page.close"}))
                    old.close()
                socket = connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None)
                sockets.append(socket)
                return Page(socket)

            yield tab
        finally:
            for socket in sockets:
                socket.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
