"""SECURITY.md names a test for each promise, and each test of a promise is named there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_has_its_test() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\*\*(.+?)\*\*(.+?)(?=^\*\*|^## )", page, re.DOTALL | re.MULTILINE)
    named = {name for _, text in promises for name in re.findall(r"`(tests/[\w/]+\.py)`", text)}
    assert all(re.search(r"`tests/[\w/]+\.py`", text) for _, text in promises) and len(promises) >= 6
    assert all((ROOT / name).is_file() for name in named), named
    there = {path.relative_to(ROOT).as_posix() for path in Path(__file__).parent.glob("test_*.py")}
    assert there - {"tests/security/test_page.py"} <= named
