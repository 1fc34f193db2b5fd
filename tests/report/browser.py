"""A headless Chromium, driven over its DevTools protocol: what a reader's browser makes of a report."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def require_chromium() -> str:
    """The browser; without one the test is skipped, or fails where KOLLM_REQUIRE_BROWSER=1, as in CI."""
    program = find_chromium()
    if program is None:
        if os.environ.get("KOLLM_REQUIRE_BROWSER") == "1":
            pytest.fail("KOLLM_REQUIRE_BROWSER=1, and there is no chromium: apt-get install chromium")
        pytest.skip("the page was not looked at: there is no chromium (Debian: apt-get install chromium)")
    return program


class NavigatedError(AssertionError):
    """The page that was asked gave way to another before it answered."""


class Tab:
    """One tab. `messages` are console errors, exceptions and refusals; `requests` every address asked for."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=30))
            if message.get("id") == self._number:
                if "navigated" in str(message.get("error", {}).get("message", "")):
                    raise NavigatedError(f"{method}: {message['error']}")
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event["method"], event["params"]
        if method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(parameters["exceptionDetails"], ensure_ascii=False))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.messages.append(json.dumps(parameters["args"], ensure_ascii=False))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.messages.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(parameters["message"])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self._holds(expression):
            assert time.monotonic() < deadline, f"after {seconds} s still not true: {expression}"
            time.sleep(0.02)

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self.run(expression))
        except NavigatedError:  # it is asked again, of the next page
            return False

    def open(self, page: Path, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Show a report at a window size and wait for its samples."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.ready === 'yes'")

    def shot(self, path: Path) -> None:
        """A picture of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def browser() -> Iterator[Tab]:
    """A fresh browser with one tab, ended with the block; without Chromium see `require_chromium`."""
    program = require_chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_tab_address(Path(profile), process), max_size=None) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tab_address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab, once the browser has written the port that it listens on."""
    file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + 30
    while not (file.exists() and len(file.read_text().split()) == 2):
        assert process.poll() is None and time.monotonic() < deadline, "chromium did not start"
        time.sleep(0.05)
    port, path = file.read_text().split()
    with connect(f"ws://127.0.0.1:{port}{path}") as control:
        control.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(control.recv(timeout=30))["result"]["targetInfos"]
    target = next(item["targetId"] for item in targets if item["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{target}"
