"""The Space as its visitor meets it: `python app.py` in its own process, and a real browser."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import kollm
from tests.judge.conftest import REPLY
from tests.report.browser import browser, require_chromium
from tests.servers.logprobs import LogprobServer
from tests.servers.loopback import free_port

pytestmark = [
    *(pytest.mark.browser, pytest.mark.slow),
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the extra 'app' is not installed"),
]


@pytest.fixture
def space() -> Iterator[tuple[str, LogprobServer]]:
    require_chromium()
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    with LogprobServer(REPLY, {}) as server:
        process = subprocess.Popen(
            [sys.executable, str(Path(kollm.metric_path()) / "app.py")],
            env={
                **environment,
                "OPENAI_BASE_URL": server.base_url,
                "GRADIO_SERVER_PORT": str(port),
                "GRADIO_ANALYTICS_ENABLED": "False",
                "PYTHONPATH": str(Path(kollm.__file__).parent.parent),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}/", server
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_for(address: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"{address} did not answer within {seconds} s")


JUDGE = "[...document.querySelectorAll('button')].find(b => b.textContent.trim() === 'Judge')"


@pytest.mark.nightly("tests/metrics/test_space_app.py::test_a_typed_key_pays_and_is_kept_nowhere")
@pytest.mark.timeout(240)
def test_a_visitor_types_a_key_and_sees_six_scores(space: tuple[str, LogprobServer]) -> None:
    address, server = space
    _wait_for(address)
    with browser() as tab:
        tab.call("Page.navigate", url=address)
        tab.wait(f"!!({JUDGE})", 60)
        tab.run(f"{JUDGE}.click()")
        tab.wait("document.body.innerText.includes('No key - type an OpenAI key')", 60)
        assert server.bodies == []
        tab.run(
            "(() => { const box = document.querySelector('input[type=password]'); box.value = 'visitor-key';"
            " box.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        tab.run(f"{JUDGE}.click()")
        tab.wait("document.body.innerText.includes('1 of 1 scored')", 60)
        seen = tab.run("document.body.innerText")
        for label in ("이해 가능성", "자연스러움", "맥락 유지", "흥미롭기", "지시어 사용", "전반적인 품질"):
            assert label in seen
        assert "visitor-key" not in seen
    assert server.authorizations == ["Bearer visitor-key"]
    assert "대한민국의 수도는 서울입니다." in server.bodies[0]["messages"][0]["content"]
