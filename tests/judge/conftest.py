"""Answers to judge and a ledger of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kollm.core.generations import Generation
from kollm.services.ledger import Ledger

REPLY = (
    "- 이해 가능성 (0 - 1): 1\n- 자연스러움 (1 - 3): 2\n- 맥락 유지 (1 - 3): 3\n"
    "- 흥미롭기 (1 - 3): 1\n- 지시어 사용 (0 - 1): 0\n- 전반적인 품질 (1 - 5): 4"
)
"""What a judge that follows the form replies."""
SCORES = {
    "understandability": 1.0,
    "naturalness": 2.0,
    "coherence": 3.0,
    "interestingness": 1.0,
    "instruction_following": 0.0,
    "overall_quality": 4.0,
}
"""The scores of REPLY."""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))
    with Ledger.open() as ledger:
        yield ledger


def answers(count: int, system: str = "adapter", text: str = "답") -> list[Generation]:
    return [
        Generation(f"task-{n}", f"지시 {n}", "" if n % 3 == 0 else "입력", f"{text} {n}", "m", "", {}, "stop", system)
        for n in range(count)
    ]
