"""The server as browsers and strangers meet it."""

from __future__ import annotations

import http.client
import os
import signal
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.records import Record
from tests.app.conftest import ATTACKS, Served, decisions_in, serving, write_dataset


def ask(
    served: Served, path: str, form: dict[str, str] | None = None, token: bool = True, who: str = "kim", **headers: str
) -> tuple[int, dict[str, str], str]:
    address = urlsplit(served.root)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=120)
    sent = {"Cookie": (f"kollm_token={served.token}; " if token else "") + f"kollm_who={who}"}
    body = None
    if form is not None:
        body = urlencode(form)
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request("GET" if form is None else "POST", path, body, {**sent, **headers})
    answer = connection.getresponse()
    text = answer.read().decode("utf-8")
    connection.close()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, text


def test_strangers_get_nothing(served: Served) -> None:
    assert served.link.startswith("http://127.0.0.1:") and len(served.token) > 20
    assert ask(served, "/", token=False)[0] == 403
    assert ask(served, "/?token=wrong", token=False)[0] == 403
    assert ask(served, "/", Host="evil.example")[0] == 421
    decide = {"id": "dolly-5", "kind": "drop"}
    assert ask(served, "/review/ko-dolly/decide", decide, Origin="http://evil.example")[0] == 403
    assert ask(served, "/review/ko-dolly/decide", decide, token=False)[0] == 403
    assert ask(served, "/static/../server.py")[0] in (400, 403, 404)
    status, headers, _ = ask(served, f"/look/ko-dolly?page=2&token={served.token}", token=False)
    assert (status, headers["location"]) == (303, "/look/ko-dolly?page=2")
    assert "httponly" in headers["set-cookie"].lower() and "samesite=strict" in headers["set-cookie"].lower()


def test_every_page_is_closed_to_scripts_of_others(served: Served) -> None:
    for path in (
        "/",
        "/look/ko-dolly",
        "/look/ko-dolly/row?id=dolly-100",
        "/review/ko-dolly",
        "/compare/run",
        "/compare/run?by=axes",
        "/look/ko-dolly/counts",
        "/review/ko-dolly/conflicts",
    ):
        status, headers, text = ask(served, path)
        assert status == 200 and "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "<script>document" not in text and 'onerror="document' not in text
        assert headers["cache-control"] == "no-store"


def test_a_form_too_large_and_addresses_of_nothing(served: Served) -> None:
    large = {"id": "dolly-5", "kind": "correct", "text.output": "가" * 300_000}
    assert ask(served, "/review/ko-dolly/decide", large)[0] == 413
    for path in ("/nothing", "/look/nothing", "/look/ko-dolly/row?id=nothing", "/compare/nothing"):
        assert ask(served, path)[0] == 404
    assert ask(served, "/language", {"language": "ko", "here": "//evil.example"})[1]["location"] == "/"


def elements(page: str) -> set[tuple[str, ...]]:
    """The kinds of elements of a page, each with the names of its attributes and with what an address runs."""
    found: set[tuple[str, ...]] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add((tag, *(name + ":runs" * (value or "").startswith("javascript:") for name, value in attrs)))

    Reader().feed(page)
    return found


@pytest.mark.parametrize("page", ["/look/ko-dolly/row?id=dolly-{}", "/review/ko-dolly?id=dolly-{}"])
def test_attacks_are_text(served: Served, page: str) -> None:
    """They bring no element and no attribute into a page that one without an attack does not have."""
    status, _, harmless = ask(served, page.format(50))
    assert status == 200 and len(elements(harmless)) > 30
    for number, attack in enumerate(ATTACKS):
        status, _, text = ask(served, page.format(100 + number))
        assert status == 200
        assert elements(text) <= elements(harmless), attack


def test_a_rows_tools_are_shown_as_text(tmp_path: Path) -> None:
    record = Record("own-1", "own", "물음", "", "답", lang="ko", tools=f'[{{"name": "{ATTACKS[0]}"}}]')
    with serving(write_dataset(tmp_path / "tools", [record, replace(record, id="own-2", tools="")])) as served:
        shown, none = (ask(served, f"/look/tools/row?id=own-{number}")[2] for number in (1, 2))
    assert "<h2>부를 수 있는 도구</h2>" in shown or "<h2>Tools that may be called</h2>" in shown
    assert "&#34;name&#34;" in shown and "<script>document" not in shown
    assert "may be called" not in none and "부를 수 있는" not in none


def test_a_kill_loses_no_decision(dataset: Path) -> None:
    with serving(dataset) as served:
        for number in range(5):
            assert ask(served, "/review/ko-dolly/decide", {"id": f"dolly-{number}", "kind": "keep"})[0] == 303
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
    written = decisions_in(dataset.parent / "ko-dolly.review" / "decisions")
    assert [row["id"] for row in written] == [f"dolly-{number}" for number in range(5)]
    with serving(dataset) as served:
        assert "<strong>Decided: 5" in ask(served, "/review/ko-dolly")[2]


def test_what_a_person_sends_wrongly_is_a_sentence(served: Served) -> None:
    status, _, text = ask(served, "/review/ko-dolly/decide", {"id": "dolly-5", "kind": "correct"})
    assert status == 400 and "Nothing was corrected" in text
    assert ask(served, "/review/ko-dolly/decide", {"id": "dolly-5", "kind": "keep"}, who="")[0] == 400
    assert "decided already" in ask(served, "/compare/run/choose", {"key": "x", "choice": "first"})[2]


def test_a_folder_without_anything_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["app", str(tmp_path)])
    assert "holds no dataset" in str(result.exception)
