"""A headless Chromium, driven over its DevTools protocol: what a reader's browser makes of a report.

One browser serves all tests of a process, since its start takes longer than most of them; each test has a tab in a
context of its own, with neither cookies nor storage of another.
"""

from __future__ import annotations

import atexit
import base64
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS: tuple[str, ...] = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--disable-extensions",
    "--remote-debugging-pipe",
)  # fmt: skip
PICTURES = os.environ.get("KOLLM_PICTURES", "")
"""A folder for pictures of the pages, to be looked at; none by default."""
if not PICTURES:  # pages are laid out and never drawn: a third of what they take
    FLAGS += ("--disable-threaded-compositing", "--run-all-compositor-stages-before-draw")

_PLACE = """
import fcntl, os, sys
hears, answers = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(hears, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads what it is asked from its descriptor 3 and answers on 4."""


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

    def __init__(self, send: Callable[[str, Mapping[str, Any]], int], receive: Callable[[], dict[str, Any]]) -> None:
        self._send, self._receive = send, receive
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, parameters)
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "navigated" in str(message.get("error", {}).get("message", "")):
                    raise NavigatedError(f"{method}: {message['error']}")
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            if "method" in message:
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

    def wait(self, expression: str, seconds: float = 120.0) -> None:
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
    """A tab that knows nothing of earlier ones, closed with the block; without Chromium see `require_chromium`."""
    program = require_chromium()
    chromium = _started(program)
    context = chromium.call("Target.createBrowserContext")["browserContextId"]
    try:
        target = chromium.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        yield Tab(functools.partial(chromium.send, session=session), functools.partial(chromium.receive, session))
    finally:
        chromium.call("Target.disposeBrowserContext", browserContextId=context)


class Chromium:
    """A browser that is asked over a pipe: it ends when the pipe is closed, however this process ends."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._asked, self._rest = 0, b""
        hears, self._to = os.pipe()
        self._from, answers = os.pipe()
        command = [program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _PLACE, str(hears), str(answers), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(hears, answers),
        )
        os.close(hears)
        os.close(answers)

    def send(self, method: str, parameters: Mapping[str, Any], session: str = "") -> int:
        """Ask the tab of a session, or without one the browser; gives the question's number."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        return self._asked

    def receive(self, session: str = "", seconds: float = 120.0) -> dict[str, Any]:
        """The next answer or event of a session; what comes from others meanwhile is dropped."""
        while True:
            while b"\0" not in self._rest:
                assert select.select([self._from], [], [], seconds)[0], f"chromium said nothing for {seconds} s"
                piece = os.read(self._from, 1 << 16)
                assert piece, "chromium ended"
                self._rest += piece
            line, _, self._rest = self._rest.partition(b"\0")
            message: dict[str, Any] = json.loads(line)
            if message.get("sessionId", "") == session:
                return message

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser itself answers."""
        number = self.send(method, parameters)
        while (message := self.receive()).get("id") != number:
            pass
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    def close(self) -> None:
        """End it."""
        os.close(self._to)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        self._profile.cleanup()


@functools.cache
def _started(program: str) -> Chromium:
    chromium = Chromium(program)
    atexit.register(chromium.close)
    return chromium
