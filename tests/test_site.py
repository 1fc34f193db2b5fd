"""The site builds in strict mode, in both languages, and its search finds Korean words."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests.report.browser import browser
from tests.servers.loopback import Loopback

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    quiet = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with Loopback(functools.partial(Quiet, directory=str(site))) as server:
        yield server.origin


def test_every_page_stands_in_both_languages(site: Path) -> None:
    english = {path.relative_to(site) for path in site.rglob("index.html") if path.relative_to(site).parts[0] != "ko"}
    korean = {path.relative_to(site / "ko") for path in (site / "ko").rglob("index.html")}
    assert english == korean and Path("reference/recipe/index.html") in english


def test_the_reference_is_drawn_from_the_code(site: Path) -> None:
    recipe = (site / "reference" / "recipe" / "index.html").read_text(encoding="utf-8")
    assert "global_batch_size" in recipe and "kullm-polyglot-12.8b" in recipe and "drawn:" not in recipe
    assert "--max-characters" in (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert "build_dataset" in (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    assert "rows/s" in (site / "measurements" / "index.html").read_text(encoding="utf-8")


@pytest.mark.browser
def test_the_search_finds_korean_words(address: str) -> None:
    with browser() as tab:
        tab.call("Page.navigate", url=f"{address}/ko/")
        tab.wait("document.readyState == 'complete' && !!document.querySelector('.md-search__input')")
        tab.wait(  # typed again until somebody listens
            "(() => { const box = document.querySelector('.md-search__input'); box.focus(); box.value = '장부';"
            " box.dispatchEvent(new Event('keyup')); box.dispatchEvent(new Event('input', {bubbles: true}));"
            " return [...document.querySelectorAll('.md-search-result__link')]"
            ".some(a => a.href.includes('/ko/concepts/ledger/')); })()"
        )
