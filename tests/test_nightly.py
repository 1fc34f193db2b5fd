"""What is left to `make nightly` is held by a test of CI too: each of them names it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"mark\.nightly\(\s*\"([^\"]+)\"")


def test_each_nightly_test_names_one_of_ci() -> None:
    named = {
        name for path in (ROOT / "tests").rglob("*.py") for name in NAMED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    for name in sorted(named):
        file, _, test = name.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        found = re.search(rf"((?:^(?:@| |\)|\]).*\n)*)^def {test}\(", text, re.MULTILINE)
        assert found, f"there is no test {name}"
        assert not re.search(r"^@pytest\.mark\.nightly", found[1], re.MULTILINE), f"{name} is left to the night itself"
