"""The pages in headless Chromium: flows by keys, attacks that stay text, layout at 390 px."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.conftest import ATTACKS, Served, decisions_in, serving, translated, write_dataset
from tests.report.browser import PICTURES, Tab, browser
from tests.servers.stream import LoopbackStream

pytestmark = pytest.mark.browser


@pytest.fixture
def tab() -> Iterator[Tab]:
    with browser() as tab:
        yield tab


def go(tab: Tab, address: str) -> None:
    tab.run("window.left = true")
    tab.call("Page.navigate", url=address)
    tab.wait("!window.left && document.readyState === 'complete'")


def size(tab: Tab, width: int, dark: bool = False) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    tab.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    )


def press(tab: Tab, key: str, **more: object) -> None:
    """Press a key and wait for the page that it leads to."""
    tab.run("window.left = true")
    code = f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key
    text = {"text": key} if len(key) == 1 else {}
    tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, **text, **more)
    tab.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)


def moved(tab: Tab) -> None:
    tab.wait("!window.left && document.readyState === 'complete'")


def introduce(tab: Tab, served: Served, place: str, who: str) -> None:
    go(tab, f"{served.root}/{place}?token={served.token}")
    tab.run(
        f"document.querySelector('[name=who]').value = '{who}'; window.left = true; document.querySelector('main form button').click()"
    )
    moved(tab)


def until_scored(tab: Tab, address: str) -> None:
    deadline = time.monotonic() + 120
    while not tab.run("!!document.querySelector('form.review')"):
        assert time.monotonic() < deadline, tab.run("document.body.innerText")
        time.sleep(0.3)
        go(tab, address)


def test_a_review_by_keys(tab: Tab, served: Served) -> None:
    introduce(tab, served, "review/ko-dolly", "김선생")
    until_scored(tab, f"{served.root}/review/ko-dolly")
    first = tab.run("document.querySelector('[name=id]').value")
    press(tab, "k")
    moved(tab)
    second = tab.run("document.querySelector('[name=id]').value")
    assert second != first
    press(tab, "u")
    moved(tab)
    assert tab.run("document.querySelector('[name=id]').value") == first
    assert tab.run("document.querySelector('[data-needs=changed]').disabled") is True
    press(tab, "e")
    assert tab.run("document.activeElement.tagName") == "TEXTAREA"
    tab.call("Input.insertText", text="고침 kd ")  # letters are letters while one types
    tab.run("document.activeElement.blur()")
    assert tab.run("document.querySelector('[data-needs=changed]').disabled") is False
    press(tab, "c")
    moved(tab)
    written = decisions_in(served.folder / "ko-dolly.review" / "decisions")
    assert [(row["id"], row["decision"], bool(row["corrected"])) for row in written] == [
        (first, "keep", False), (first, "", False), (first, "", True),
    ]  # fmt: skip
    assert written[0]["who"] == "김선생" and not tab.messages, tab.messages


def test_a_key_that_composes_hangul_decides_nothing(tab: Tab, served: Served) -> None:
    introduce(tab, served, "review/ko-dolly", "kim")
    until_scored(tab, f"{served.root}/review/ko-dolly")
    before = tab.run("document.querySelector('[name=id]').value")
    for init in ("isComposing: true", "keyCode: 229", "ctrlKey: true"):
        tab.run(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: 'k', bubbles: true, {init}}}))")
    time.sleep(0.3)
    assert tab.run("document.querySelector('[name=id]').value") == before


def test_look_by_search_filter_and_link(tab: Tab, served: Served) -> None:
    go(tab, f"{served.root}/look/ko-dolly?token={served.token}")
    press(tab, "ArrowRight")
    moved(tab)
    assert "page=1" in tab.run("location.href") and "token" not in tab.run("location.href")
    press(tab, "/")
    assert tab.run("document.activeElement.name") == "text"
    tab.call("Input.insertText", text="무리수")
    tab.run("window.left = true; document.activeElement.form.requestSubmit()")
    moved(tab)
    assert tab.run("[...document.querySelectorAll('.rows .id')].map(e => e.textContent)") == ["dolly-5"]
    tab.run("window.left = true; document.querySelector('.rows a').click()")
    moved(tab)
    assert tab.run("document.querySelectorAll('mark.number').length") >= 2
    assert tab.run("document.querySelector('[data-copy]').dataset.copy").endswith(served.token)
    press(tab, "?")
    tab.wait("document.getElementById('help').open")
    assert "L" in tab.run("document.getElementById('help-list').innerText").upper()


def test_a_blind_comparison_by_keys(tab: Tab, served: Served) -> None:
    introduce(tab, served, "compare/run", "lee")
    assert "adapter" not in tab.run("document.querySelector('main').innerText")
    for key in ("1", "2", "3"):
        press(tab, key)
        moved(tab)
    assert tab.run("document.querySelector('.state').innerText") == "Pairs decided: 3 of 40"
    assert len((served.folder / "run.review" / "labels.csv").read_text(encoding="utf-8").splitlines()) == 7


@pytest.mark.parametrize(
    "page",
    [
        "look/ko-dolly/row?id=dolly-{}",
        pytest.param(
            "review/ko-dolly?id=dolly-{}", marks=pytest.mark.nightly("tests/app/test_app.py::test_attacks_are_text")
        ),
    ],
)
def test_attacks_run_nothing_and_break_no_layout(tab: Tab, served: Served, page: str) -> None:
    """All of them on one page, and alone those that a browser reads in its own way or that are long; test_app.py has each alone."""
    introduce(tab, served, "review/ko-dolly", "kim")
    size(tab, 390)
    alone = [n for n, text in enumerate(ATTACKS) if len(text) > 100 or text.startswith(("</t", "\u202e", "<math"))]
    assert len(alone) == 7
    for number in (50, *alone):
        go(tab, f"{served.root}/{page.format(100 + number)}")
        title, width = tab.run("[document.title, document.documentElement.scrollWidth]")
        assert "hacked" not in title and width <= 390, (number, width)
        assert tab.run(
            "!!document.querySelector('header.top nav') && getComputedStyle(document.querySelector('main')).display !== 'none'"
        )
    assert not tab.dialogs and all(
        address.startswith((served.root, "data:")) for address in tab.requests if "://" in address
    )


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_page_holds_at_390_px_light_and_dark(tab: Tab, served: Served, language: str) -> None:
    introduce(tab, served, "review/ko-dolly", "kim")
    until_scored(tab, f"{served.root}/review/ko-dolly")
    tab.run(f"document.cookie = 'kollm_language={language}; path=/'")
    pages = ("", "look/ko-dolly", "look/ko-dolly/row?id=dolly-5", "look/ko-dolly/counts", "review/ko-dolly")
    for page in (*pages, "compare/run", "compare/run?by=axes"):
        go(tab, f"{served.root}/{page}")
        assert tab.run("document.documentElement.lang") == language
        for width, dark in ((390, False), (390, True), (1280, False), (1280, True)):
            size(tab, width, dark)
            assert tab.run("document.documentElement.scrollWidth") <= width, page
            unnamed = tab.run(
                "[...document.querySelectorAll('button, a, input:not([type=hidden]), select, textarea')]"
                ".filter(e => !(e.innerText || e.ariaLabel || (e.labels && e.labels.length))).map(e => e.outerHTML)"
            )
            assert unnamed == []
            if PICTURES:
                name = page.replace("/", "-").replace("?", "-") or "home"
                tab.shot(Path(PICTURES) / f"{name}-{width}-{'dark' if dark else 'light'}-{language}.png")
    assert not tab.messages, tab.messages


def test_a_conversation_that_becomes_data(tab: Tab, tmp_path: Path) -> None:
    pieces = ["<b>도쿄</b>", "입니다.", ATTACKS[0]]
    with (
        LoopbackStream(pieces) as model,
        serving("--chat", "m", "--chat", "n", "--api", "--base-url", model.url, cwd=tmp_path) as served,
    ):
        introduce(tab, served, "chat", "kim")
        said = "[...document.querySelectorAll('.turn.said')].map(e => e.textContent)"
        tab.run("document.querySelector('#say textarea').focus()")
        tab.call("Input.insertText", text="수도는?")
        tab.run(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
        )
        assert tab.run(said) == []
        press(tab, "Enter")
        tab.wait(f"{said}.length === 2 && {said}.every(t => t === {json.dumps(''.join(pieces))})")
        tab.wait("document.querySelector('[data-stop]').hidden")
        tab.run("document.querySelector('[data-again]').click()")
        tab.wait("document.querySelector('[data-stop]').hidden && document.querySelectorAll('.turn.said').length === 2")
        assert (
            tab.run("document.title").startswith("Chat") and tab.run("document.querySelectorAll('.turn b').length") == 0
        )
        if PICTURES:
            tab.shot(Path(PICTURES) / "chat.png")
        tab.run(
            "document.querySelector('.after').open = true; document.querySelector('[name=better]').value = '도쿄.';"
            "window.left = true; document.querySelector('[name=better]').form.requestSubmit()"
        )
        moved(tab)
        (pair,) = [
            json.loads(line)
            for line in (tmp_path / "chat.review" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        assert pair["chosen"][0]["content"] == "도쿄." and pair["prompt"][0]["content"] == "수도는?"
        assert pair["rejected"][0]["content"] == "".join(pieces)
        tab.run("window.left = true; document.querySelector('form[action=\"/chat/row\"]').requestSubmit()")
        moved(tab)
        assert (tmp_path / "chat.review" / "rows.jsonl").is_file()
        assert len(model.bodies) == 3


@pytest.mark.nightly("tests/app/test_app_browser.py::test_a_review_by_keys")
@pytest.mark.slow
def test_150_000_rows(tab: Tab, tmp_path: Path) -> None:
    """First page, next row and memory on a large dataset, by the server's processor time."""
    import psutil

    faults = ("Pi is 3.14159.", "파이는 무리수입니다.")
    rows = [translated(n, *(faults if n % 50 == 0 else ())) for n in range(150_000)]
    write_dataset(tmp_path / "big", rows)
    del rows
    with serving(tmp_path / "big") as served:
        process = psutil.Process(served.process.pid)
        introduce(tab, served, "review/big", "kim")
        go(tab, f"{served.root}/look/big")
        assert tab.run("document.querySelectorAll('.rows li').length") == 20
        until_scored(tab, f"{served.root}/review/big")
        before, memory = process.cpu_times().user, process.memory_info().rss
        for _ in range(8):
            press(tab, "k")
            moved(tab)
        spent = (process.cpu_times().user - before) / 8
        print(f"next row: {spent * 1000:.0f} ms of processor time; memory {process.memory_info().rss / 1e6:.0f} MB")
        assert process.memory_info().rss < memory + 150e6


def test_the_font_that_comes_with_kollm_draws_korean(tab: Tab, served: Served) -> None:
    """The content policy lets it in, and it stands in the style of the page, for a machine without a Korean font."""
    go(tab, served.link)
    tab.run("document.fonts.load('16px \"Kollm Gothic\"', '이해 가능성').then(() => true)")
    assert tab.run("[...document.fonts].map(f => f.status)") == ["loaded"]
    assert '"Kollm Gothic"' in tab.run("getComputedStyle(document.body).fontFamily")
