"""Killed with -9 and run again: the kill script, a few times."""

from __future__ import annotations

import pytest

from benchmarks import kill_ledger


@pytest.mark.slow
@pytest.mark.nightly("tests/dataset/test_shards.py::test_a_killed_rebuild_from_purchases_bills_each_text_once")
def test_kills(capsys: pytest.CaptureFixture[str]) -> None:
    kill_ledger.main(["--kills", "3", "--rows", "1000"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("3 kills in ") and "every guarantee held" in printed
