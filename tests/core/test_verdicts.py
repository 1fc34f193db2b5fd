from __future__ import annotations

import dataclasses

import pytest

from kollm.core.errors import InputError
from kollm.core.hashing import text_sha256
from kollm.core.verdicts import Verdict


def verdict_row() -> dict[str, object]:
    return {
        "id": "t-1",
        "system": "adapter",
        "response_sha256": text_sha256("답"),
        "rubric": "kullm2023",
        "rubric_sha256": "sha256:0",
        "mode": "text",
        "sample": 0,
        "model_requested": "m",
        "model_returned": "m-1",
        "scores": {"naturalness": None},
        "status": "parse_error",
        "raw": "?",
        "usage": {},
    }


def test_a_verdict_with_an_unknown_status_is_refused() -> None:
    assert Verdict.from_row(verdict_row()).status == "parse_error"
    with pytest.raises(InputError, match="unknown status 'fine'"):
        Verdict.from_row({**verdict_row(), "status": "fine"})


def test_a_regenerated_answer_has_another_key() -> None:
    first = Verdict.from_row(verdict_row())
    second = dataclasses.replace(first, response_sha256=text_sha256("다른 답"))
    assert first.key() != second.key()
