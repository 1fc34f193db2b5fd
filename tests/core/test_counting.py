"""Numbers with their nouns."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import kollm
from kollm.core.counting import counted

NOUNS = (
    "answers|characters|checkpoints|conversations|documents|files|judges|pairs|prompts|questions|records|replies|requests|rows|"
    "samples|systems|tasks|texts|times|verdicts"
)
PLURAL = re.compile(rf" (?:[a-z-]+ )?(?:{NOUNS})\b")
SEVERAL = {"judgings", "found", "judges", "models", "filled", "judged", "parameter", "samples"}
"""What these count is more than one wherever it is said."""


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows"), (1.0, "1.0 row"), (2.5, "2.5 rows")],
)
def test_a_single_one_has_no_s(number: float, said: str) -> None:
    assert counted(number, "row") == said


def test_a_noun_may_bring_its_verb() -> None:
    assert counted(1, "reply is", "replies are") == "1 reply is"
    assert counted(3, "reply is", "replies are") == "3 replies are"


def test_nothing_that_kollm_says_counts_without_it() -> None:
    plain = [
        f"{path.name}:{before.lineno}: {ast.unparse(before.value)}{str(after.value)[:40]}"
        for path in sorted(Path(kollm.__file__).parent.rglob("*.py"))
        for text in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(text, ast.JoinedStr)
        for before, after in zip(text.values, text.values[1:], strict=False)
        if isinstance(before, ast.FormattedValue)
        and isinstance(after, ast.Constant)
        and PLURAL.match(str(after.value))
        and _is_a_number(before)
    ]
    assert not plain, "\n".join(plain)


def _is_a_number(shown: ast.FormattedValue) -> bool:
    said = ast.unparse(shown.value)
    format = ast.unparse(shown.format_spec) if shown.format_spec else ""
    names = {node.id for node in ast.walk(shown.value) if isinstance(node, ast.Name)}
    if any(name.isupper() for name in names) or names & SEVERAL:
        return False
    return ("," in format and "." not in format) or said.startswith(("len(", "sum("))
