"""Every page of docs/how-to does what it says: its commands run as printed, offline, and both languages show the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kollm.cli import main

PAGES = sorted(
    path for path in (Path(__file__).parent.parent / "docs" / "how-to").glob("*.md") if ".ko" not in path.name
)
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)

WHOLE_RUN = [
    pytest.mark.slow,
    pytest.mark.nightly("tests/run/test_run.py::test_a_run_makes_every_file_of_the_contract"),
]


def blocks(path: Path) -> list[tuple[str, str, str]]:
    return BLOCK.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=WHOLE_RUN if p.stem == "compare" else (), id=p.stem) for p in PAGES if blocks(p)],
)
def test_a_page_runs_as_printed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.db"))
    for name in ("DEEPL_AUTH_KEY", "OPENAI_API_KEY", "HF_TOKEN", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for language, title, text in blocks(path):
        if title:
            Path(title).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, str(path), "exec"), {})
        else:
            assert language == "sh"
            for line in text.strip().splitlines():
                words = shlex.split(line)
                assert words[0] == "kollm"
                main(words[1:])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_both_languages_show_the_same_commands(path: Path) -> None:
    assert blocks(path) == blocks(path.with_suffix(".ko.md"))
