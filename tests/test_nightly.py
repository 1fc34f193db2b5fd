"""What is left to `make nightly` is held by a test of CI too: each of them names it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"mark\.nightly\(\s*\"([^\"]+)\"")


def test_each_nightly_test_names_one_of_ci() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    named = {name for text in texts for name in NAMED.findall(text)}
    marks = sum(text.count("mark.nightly") for text in texts)
    assert marks == sum(len(NAMED.findall(text)) for text in texts), "a mark names no test"
    assert len(named) > 5
    for name in sorted(named):
        file, _, test = name.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        found = re.search(rf"((?:^(?:@| |\)|\]).*\n)*)^def {test}\(", text, re.MULTILINE)
        assert found, f"there is no test {name}"
        assert not re.search(r"^@(pytest\.mark\.nightly|AT_NIGHT)", found[1], re.MULTILINE), (
            f"{name} is left to the night itself"
        )
